//! What was sent, by whom, and what became of it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use proto::node::Transport;
use proto::sip::Message;

use super::NodeId;

/// One packet (or one message on a stream) and its fate.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was sent.
    pub at: Duration,
    /// Who sent it.
    pub from: NodeId,
    /// How; `None` for media.
    pub transport: Option<Transport>,
    /// Source and destination as sent.
    pub sent: (SocketAddr, SocketAddr),
    /// What it says.
    pub bytes: Bytes,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Still on its way.
    UnderWay,
    /// Arrived.
    Arrived {
        /// When.
        at: Duration,
        /// At whom.
        to: NodeId,
        /// Source and destination as they were then, NATs behind it.
        seen: (SocketAddr, SocketAddr),
    },
    /// Lost, filtered, without a route, or nobody was there.
    Dropped(String),
}

impl Entry {
    /// The SIP message, if it is one.
    pub fn sip(&self) -> Option<Message> {
        self.transport?;
        Message::parse(self.bytes.clone()).ok()
    }

    /// Who got it.
    pub fn receiver(&self) -> Option<NodeId> {
        match self.fate {
            Fate::Arrived { to, .. } => Some(to),
            _ => None,
        }
    }

    /// `INVITE sip:bob@example.com` or `200 INVITE`; `None`: not SIP.
    pub fn title(&self) -> Option<String> {
        let message = self.sip()?;
        Some(match message.status() {
            Some(status) => format!("{status} {}", message.method().as_str()),
            None => format!("{} {}", message.method().as_str(), message.request_uri()),
        })
    }
}
