//! DTLS-SRTP (RFC 5764): what the relay needs of a handshake, and what it does with one.
//!
//! The handshake draws keys and signs, so it is not made here: `host` hands a maker in ([`Handshakes`]). The relay feeds it
//! the datagrams of its party, from where that party is heard alone; sends what it wants sent; and takes the keys it
//! exports once the certificate is one that the party's description named. Until then no packet passes.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::event::Event;
use proto::node::Output;
use proto::srtp::sdes::Crypto;
use proto::srtp::{Master, Receiver, Sender, fingerprint};

use crate::leg::Part;
use crate::relay::Relay;
use crate::why::Why;

/// Makes handshakes under one certificate.
pub trait Handshakes: Send + Sync + Debug {
    /// What stands behind `a=fingerprint:` for it.
    fn fingerprint(&self) -> &str;
    /// A new association; `active`: we begin it.
    fn begin(&self, now: Instant, active: bool) -> Box<dyn Handshake>;
}

/// One handshake: a machine. After `handle` and `wake` it is polled until `None`.
pub trait Handshake: Send + Debug {
    /// A datagram of the other side.
    fn handle(&mut self, now: Instant, datagram: &[u8]);
    /// The time it asked for.
    fn wake(&mut self, now: Instant);
    /// What it wants.
    fn poll(&mut self) -> Option<Step>;
}

/// What a handshake wants.
#[derive(Debug)]
pub enum Step {
    /// Send a datagram.
    Send(Vec<u8>),
    /// Wake it then. The last word counts.
    WakeAt(Instant),
    /// The other side has shown this certificate (DER), and proven that it holds its key.
    Peer(Vec<u8>),
    /// Keys are agreed on: ours and theirs.
    Keys([Master; 2]),
    /// Nothing more comes of it.
    Over,
}

/// A leg's handshake.
#[derive(Debug)]
pub(crate) struct Association {
    handshake: Box<dyn Handshake>,
    wake: Option<Instant>,
    peer: Option<Vec<u8>>,
    keys: Option<[Master; 2]>,
    over: bool,
    /// When its keys were taken: it stays for a while, for the other side may miss our last flight.
    done: Option<Instant>,
}

/// How long a handshake that is done still answers repetitions.
const LINGERS: Duration = Duration::from_secs(60);

impl Relay {
    /// A DTLS datagram of a leg's party.
    pub(crate) fn handshake(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Why> {
        let keys = self.keys_of(at).filter(|_| part == Part::Media).ok_or(Why::Invalid)?;
        let active = keys.terms.active;
        if !self.associations.contains_key(&at) {
            // Without an association only a beginning means anything, and only the server waits for one.
            if !is_client_hello(bytes) || active == Some(true) {
                return Ok(());
            }
            self.begin_handshake(now, at, false);
        }
        if let Some(association) = self.associations.get_mut(&at) {
            association.handshake.handle(now, bytes);
        }
        self.drive(now, at, Some(from));
        Ok(())
    }

    /// Begins a handshake that is ours to begin, once it is known where.
    pub(crate) fn begin_if_active(&mut self, now: Instant, at: u32) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let Some(keys) = &leg.keys else { return };
        let checked = keys.terms.ice.as_ref().is_none_or(|ice| ice.checked.is_some());
        let due = !leg.is_member()
            && keys.terms.active == Some(true)
            && keys.agreed.is_none()
            && checked
            && leg.media.target.is_some();
        if due && !self.associations.contains_key(&at) {
            self.begin_handshake(now, at, true);
            self.drive(now, at, None);
        }
    }

    fn begin_handshake(&mut self, now: Instant, at: u32, active: bool) {
        let Some(maker) = &self.config.dtls else { return };
        let handshake = maker.begin(now, active);
        let association =
            Association { handshake, wake: None, peer: None, keys: None, over: false, done: None };
        self.associations.insert(at, association);
    }

    /// Does what a handshake wants.
    fn drive(&mut self, now: Instant, at: u32, from: Option<SocketAddr>) {
        let (Some(association), Some(leg)) = (self.associations.get_mut(&at), self.legs.get(at as usize))
        else {
            return;
        };
        let (socket, to) = (leg.media.port.socket, from.or(leg.media.latched).or(leg.media.target));
        while let Some(step) = association.handshake.poll() {
            match step {
                Step::Send(bytes) => {
                    let sent = to.map(|to| Output::SendMedia { socket, to, bytes: bytes.into() });
                    self.outputs.extend(sent);
                }
                Step::WakeAt(at) => association.wake = Some(at),
                Step::Peer(certificate) => association.peer = Some(certificate),
                Step::Keys(keys) => association.keys = Some(keys),
                Step::Over => association.over = true,
            }
        }
        if association.done.is_some() {
            association.wake = association.done.map(|done| done + LINGERS);
        }
        self.next_handshake = [self.next_handshake, association.wake].into_iter().flatten().min();
        self.take_keys(now, at);
    }

    /// Takes the keys a handshake has exported, if its certificate is one that was named. Before the party's description
    /// has come they wait for it.
    pub(crate) fn take_keys(&mut self, now: Instant, at: u32) {
        let Some(association) = self.associations.get_mut(&at) else { return };
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        let Some(keys) = leg.keys.as_deref_mut() else { return };
        let named = &keys.terms.fingerprints;
        let session = leg.whose.session.0;
        if association.keys.is_some() && !named.is_empty() {
            let genuine = association.peer.as_ref().is_some_and(|peer| fingerprint::is_named(peer, named));
            let Some([ours, theirs]) = association.keys.take() else { return };
            if !genuine {
                return self.give_up_handshake(
                    at,
                    session,
                    "DTLS: the certificate is not the one that SDP named",
                );
            }
            keys.sender = Some(Sender::new(&ours));
            keys.receiver = Some(Receiver::new(&theirs));
            keys.agreed = Some([ours, theirs].map(|master| Crypto { tag: 0, master }));
            association.done = Some(now);
            association.wake = Some(now + LINGERS);
            self.next_handshake = [self.next_handshake, association.wake].into_iter().flatten().min();
            self.changed.insert(session);
        } else if association.over && association.done.is_none() && association.keys.is_none() {
            self.give_up_handshake(at, session, "DTLS: the handshake failed");
        }
    }

    fn give_up_handshake(&mut self, at: u32, session: u64, why: &'static str) {
        self.associations.remove(&at);
        if let Some(session) = self.sessions.get(&session) {
            let about = session.name.clone();
            self.tell(Event::Warning { about, why });
        }
    }

    /// Handshakes whose time has come.
    pub(crate) fn wake_handshakes(&mut self, now: Instant) {
        if self.next_handshake.is_none_or(|next| now < next) {
            return;
        }
        let due = |association: &Association| association.wake.is_some_and(|wake| wake <= now);
        let due: Vec<u32> = self.associations.iter().filter(|(_, a)| due(a)).map(|(&at, _)| at).collect();
        for at in due {
            let Some(association) = self.associations.get_mut(&at) else { continue };
            association.wake = None;
            if association.done.is_some_and(|done| now >= done + LINGERS) {
                self.associations.remove(&at);
                continue;
            }
            association.handshake.wake(now);
            self.drive(now, at, None);
        }
        self.next_handshake = self.associations.values().filter_map(|association| association.wake).min();
    }
}

/// RFC 6347 §4.1, §4.2.2: a handshake record whose message is the first of all.
fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22) && bytes.get(13) == Some(&1)
}
