//! A call of a phone: what it consists of, and how far it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::node::SocketId;
use proto::sip::Message;
use proto::sip::transaction::{ClientId, ServerId};

use crate::dialog::Dialog;
use crate::media::{Media, Sockets};
use crate::offer::{self, Remote};

/// A call, from its INVITE to its end.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) dialog: Dialog,
    pub(crate) media: Media,
    pub(crate) stage: Stage,
    pub(crate) begun: Instant,
    /// The flow its INVITE took.
    pub(crate) way: Option<usize>,
    /// The INVITE that made it, as it was sent or came.
    pub(crate) invite: Option<Message>,
    pub(crate) client: Option<ClientId>,
    pub(crate) server: Option<ServerId>,
    /// The INVITE has no SDP: the 200 offers, the ACK answers.
    pub(crate) late_offer: bool,
    pub(crate) answer_at: Option<Instant>,
    /// A 200 of ours until its ACK comes.
    pub(crate) unacknowledged: Option<Repeated>,
    /// ACKs of ours by To tag and number, to be sent again when the 200 comes again.
    pub(crate) acks: BTreeMap<(String, u32), Message>,
    /// We hold the other side.
    pub(crate) holding: bool,
    /// A change of ours is under way.
    pub(crate) changing: bool,
    /// The ports before a move, until the other side has taken it.
    pub(crate) moved_from: Option<Sockets>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// We call; ports are being opened.
    Opening,
    /// We call; the INVITE is out.
    Calling,
    /// We gave up calling; the CANCEL is out, or will be.
    Cancelling,
    /// We are called.
    Ringing,
    /// Answered.
    Up,
    /// Our BYE is out.
    Ending,
}

/// A 2xx repeated until it is acknowledged (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(crate) struct Repeated {
    pub(crate) server: ServerId,
    pub(crate) response: Message,
    pub(crate) next: Instant,
    pub(crate) interval: Duration,
    pub(crate) until: Instant,
}

impl Call {
    pub(crate) fn new(now: Instant, dialog: Dialog, media: Media, stage: Stage) -> Call {
        Call {
            dialog,
            media,
            stage,
            begun: now,
            way: None,
            invite: None,
            client: None,
            server: None,
            late_offer: false,
            answer_at: None,
            unacknowledged: None,
            acks: BTreeMap::new(),
            holding: false,
            changing: false,
            moved_from: None,
        }
    }

    /// The other side's description in a message, if there is one we understand.
    pub(crate) fn described(&self, message: &Message) -> Option<Remote> {
        offer::read(message.sdp()?.1, self.media.keys.is_some())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let repeat = self.unacknowledged.as_ref().map(|repeated| repeated.next);
        let answer = self.answer_at.filter(|_| self.media.sockets.is_some());
        [repeat, answer, self.media.deadline()].into_iter().flatten().min()
    }

    /// Whether this socket is one of its own.
    pub(crate) fn owns(&self, socket: SocketId) -> bool {
        let pairs = [self.media.sockets, self.moved_from];
        pairs.into_iter().flatten().any(|pair| pair.rtp == socket || pair.rtcp == socket)
    }
}
