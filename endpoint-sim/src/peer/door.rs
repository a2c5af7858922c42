//! The door to the access server: UDP, or, where that does not pass, a connection by TLS, on which STUN, SIP and what goes
//! through the server to buddies ([`proto::peer::channel`]) follow one another.
//!
//! ```text
//!  survey ── STUN over UDP unanswered ──▶ STUN over TLS ── answered ──▶ logged in by TLS
//!    ▲                                        │ no answer (RFC 8489 §6.2.2), no connection      │ the connection ends
//!    └──────────── 5 s, and UDP is tried again ◀────────────────────────────────────────────────┘
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Flow, FlowId, Input, Output, Ticket, Transport};
use proto::peer::channel;
use proto::peer::nat::Verdict;
use proto::sip::Message;
use proto::stun::{self, TransactionId, Writer};

use super::classifier::{Classifier, Findings};
use super::link::{channel_address, channel_at};
use super::node::{Peer, Purpose};
use super::talk::Source;

/// Which door is taken.
#[derive(Debug, Default)]
pub(super) struct Door {
    by_tls: bool,
    asked: Option<TransactionId>,
    /// When the answer is given up; without a question, when everything begins anew.
    next: Option<Instant>,
}

/// How long an answer by a connection may take (RFC 8489 §6.2.2, Ti).
const PATIENCE: Duration = Duration::from_millis(39_500);
/// How long after a failure it begins anew.
const AGAIN: Duration = Duration::from_secs(5);

impl Door {
    pub(super) fn has_asked(&self, id: TransactionId) -> bool {
        self.asked == Some(id)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Peer {
    /// The path to the access server.
    pub(super) fn server_flow(&self) -> Flow {
        match self.config.tls.filter(|_| self.door.by_tls) {
            Some(remote) => {
                Flow { transport: Transport::Tls, local: self.config.local, remote, id: FlowId(0) }
            }
            None => Flow::udp(self.config.local, self.config.server),
        }
    }

    pub(super) fn is_of_server(&self, flow: &Flow) -> bool {
        flow.transport == Transport::Tls || flow.remote == self.config.server
    }

    /// Says something to the server that is no SIP.
    pub(super) fn tell_server(&mut self, bytes: Vec<u8>) {
        let flow = self.server_flow();
        self.out.push_back(Output::Send { flow, bytes: bytes.into(), ticket: Ticket(0) });
    }

    /// What NAT it is is known, or that UDP does not pass.
    pub(super) fn survey_over(&mut self) {
        let findings = self.classifier.findings();
        if !findings.verdict.udp && self.config.tls.is_some() && !self.leaving {
            if self.door.next.is_none() {
                self.knock();
            }
            return;
        }
        self.found(findings);
    }

    fn found(&mut self, findings: Findings) {
        self.report.nat = findings.verdict.to_string();
        self.findings = Some(findings);
        self.registration.at = Some(self.now);
    }

    /// STUN once more, by TLS: before anything else is said (step 1 of US 8,000,325).
    fn knock(&mut self) {
        let id: TransactionId = self.dice.bytes();
        self.door = Door { by_tls: true, asked: Some(id), next: Some(self.now + PATIENCE) };
        self.tell_server(Writer::request(id).finish());
    }

    /// The server has answered by TLS.
    pub(super) fn let_in(&mut self, message: &stun::Message<'_>) {
        (self.door.asked, self.door.next) = (None, None);
        self.found(Findings { verdict: Verdict::BLOCKED, external: message.mapped() });
    }

    pub(super) fn door_due(&mut self) {
        if self.door.next.is_none_or(|at| at > self.now) {
            return;
        }
        self.door.next = None;
        match self.door.asked {
            Some(_) => self.shut_out(),
            None => self.begin_anew(),
        }
    }

    /// There is no connection, or no longer one: nobody is heard until there is.
    pub(super) fn shut_out(&mut self) {
        if !self.door.by_tls || self.leaving {
            return;
        }
        let again = self.now + self.dice.jitter(AGAIN, 50);
        self.door = Door { by_tls: false, asked: None, next: Some(again) };
        (self.findings, self.session, self.report.logged_in) = (None, None, false);
        (self.registration.at, self.registration.under_way) = (None, false);
        self.pending.retain(|_, purpose| !matches!(purpose, Purpose::Login(_)));
        (0..self.links.len()).for_each(|link| self.set_online(link, false));
    }

    fn begin_anew(&mut self) {
        let (now, local, stun) = (self.now, self.config.local, self.config.stun);
        let remembered = self.config.remembered;
        self.classifier = Classifier::with(now, local, stun, remembered, &mut self.dice, &mut self.out);
        (self.bind.tries, self.bind.next) = (0, self.config.reflector.map(|_| now));
    }

    /// What a buddy said by a channel is taken as if it had come from an address that stands for that.
    pub(super) fn said_by_channel(&mut self, from: SocketAddr, channel: u16, said: &[u8]) {
        let by_server = from == self.config.server || Some(from) == self.config.tls && self.door.by_tls;
        if !by_server || said.first() == Some(&channel::MARK) {
            return;
        }
        if channel == channel::LINE {
            return self.said_by_line(said);
        }
        let from = channel_address(channel);
        match Message::parse(Bytes::copy_from_slice(said)) {
            Ok(message) => self.sip(Source::direct(None, from), message),
            Err(_) => self.other(None, from, said),
        }
    }

    /// What the proxy or its relay said through the server.
    fn said_by_line(&mut self, said: &[u8]) {
        let Some((from, said)) = channel::read_line(said) else { return };
        match (Message::parse(Bytes::copy_from_slice(said)), self.voice.socket()) {
            (Ok(message), _) if Some(from) == self.config.proxy => {
                self.phone_hears(Flow::udp(self.config.local, from), message);
            }
            (Err(_), Some(socket)) => {
                let bytes = Bytes::copy_from_slice(said);
                self.voice.phone.take_in(self.now, Input::Media { socket, from, bytes });
            }
            _ => {}
        }
    }

    /// What is sent to such an address goes by its channel; where UDP does not pass, what is for the proxy or its relay by
    /// the line.
    pub(super) fn by_channel(&self, output: Output) -> Output {
        let through =
            |bytes: Vec<u8>, ticket| Output::Send { flow: self.server_flow(), bytes: bytes.into(), ticket };
        match output {
            Output::Send { flow, bytes, ticket } => match channel_at(flow.remote) {
                Some(channel) => through(channel::wrap(channel, &bytes), ticket),
                None if self.door.by_tls && Some(flow.remote) == self.config.proxy => {
                    through(channel::wrap_line(flow.remote, &bytes), ticket)
                }
                None => Output::Send { flow, bytes, ticket },
            },
            Output::SendMedia { socket, to, bytes } if self.door.by_tls && self.voice.has(socket) => {
                through(channel::wrap_line(to, &bytes), Ticket(0))
            }
            other => other,
        }
    }
}
