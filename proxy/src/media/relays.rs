//! The relay sessions a proxy speaks for: what is held of each, and what waits for its relay ([`crate::media::anchoring`] asks).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::control::{Ask, Keying, SIX, Session};
use proto::event::{Event, Name as EventName, Side};
use proto::node::{Dice, Flow};
use proto::sip::Message;
use proto::sip::transaction::{ClientId, ServerId};
use proto::tables::{Latch, Srtp};
use proto::timers::Timer;

use crate::config::Config;
use crate::hashing::{Keyed, Map};
use crate::media::relay_dialog::RelayDialog;
use crate::routing::preprocessing::Routed;

/// The sessions this proxy speaks for.
#[derive(Debug)]
pub(crate) struct Relays {
    pub(crate) sessions: Map<Session, Box<Held>>,
    pub(crate) ended: Ended,
    pub(crate) silent: Vec<(u8, Instant)>,
}

/// Sessions that ended lately. What crosses a dialog's end, or is repeated after it, finds its session here and does
/// not take it up again.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) known: Map<Session, ()>,
    pub(crate) until: VecDeque<(Instant, Session)>,
}

impl Ended {
    /// Remembers one for as long as a transaction may live.
    pub(crate) fn remember(&mut self, now: Instant, life: Duration, session: Session) {
        while let Some((_, old)) = self.until.pop_front_if(|(until, _)| *until <= now) {
            self.known.remove(&old);
        }
        if self.known.insert(session, ()).is_none() {
            self.until.push_back((now + life, session));
        }
    }

    pub(crate) fn contains(&self, session: Session) -> bool {
        self.known.contains_key(&session)
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Held {
    /// Index of its relay in the configuration.
    pub(crate) relay: u8,
    pub(crate) dialog: RelayDialog,
    /// Where caller and callee are met.
    pub(crate) networks: [Met; 2],
    /// Relays to ask when this one does not take the session.
    pub(crate) others: VecDeque<u8>,
    pub(crate) under_way: Option<(ClientId, Errand)>,
    pub(crate) patience: Option<Timer>,
    pub(crate) errands: VecDeque<Errand>,
    /// What each party last said, and what the other was told.
    pub(crate) told: [Option<(Bytes, Bytes)>; 2],
    /// How each party's leg treats it.
    pub(crate) policies: [Option<(Latch, bool)>; 2],
    pub(crate) refresh: Option<Timer>,
    /// To be told once the relay's addresses are known.
    pub(crate) decided: Option<Event>,
    /// The call it belongs to, when that is remembered.
    pub(crate) call: Option<EventName>,
    /// To be ended as soon as nothing is under way.
    pub(crate) ending: bool,
    /// A former life of ours made it: what is known of its parties is not all there was.
    pub(crate) taken_up: bool,
    /// A party of it stands behind a session of a sibling's.
    pub(crate) chained: bool,
}

/// Where a party is met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    /// Index of the network.
    pub(crate) network: usize,
    /// Whether it is met by IPv6 there.
    pub(crate) six: bool,
    /// How its media is protected.
    pub(crate) srtp: Srtp,
}

/// One thing to ask of a relay.
#[derive(Debug)]
pub(crate) struct Errand {
    /// Whose SDP and facts.
    pub(crate) leg: Side,
    /// Where that party was observed.
    pub(crate) peer: Option<IpAddr>,
    /// How its leg treats it: whom it accepts first, and whether it is trusted; `None`: as before.
    pub(crate) policy: Option<(Latch, bool)>,
    /// Whether the party may have moved.
    pub(crate) reset: bool,
    /// Whether the party stands behind a session of a sibling's.
    pub(crate) chained: bool,
    /// Whether what it says answers the other party's offer.
    pub(crate) answers: bool,
    /// What it says.
    pub(crate) sdp: Option<Bytes>,
    /// What waits for the answer.
    pub(crate) then: Then,
}

/// What waits for a relay's answer.
#[derive(Debug)]
pub(crate) enum Then {
    /// A branch that is to be forwarded.
    Forward(ServerId, usize),
    /// A response of a branch that is to go back.
    Back(ServerId, usize, Box<Message>),
    /// An ACK that is to go on.
    Ack(Box<HeldAck>),
}

/// An ACK whose SDP is at the relay.
#[derive(Debug)]
pub(crate) struct HeldAck {
    /// By how much its CSeq is raised.
    pub(crate) shift: u32,
    pub(crate) flow: Flow,
    pub(crate) request: Message,
    pub(crate) routed: Routed,
    pub(crate) uri: Option<String>,
    pub(crate) to: Flow,
}

impl Relays {
    pub(crate) fn new(keyed: Keyed) -> Relays {
        let ended = Ended { known: Map::with_hasher(keyed.clone()), until: VecDeque::new() };
        Relays { sessions: Map::with_hasher(keyed), ended, silent: Vec::new() }
    }

    /// How many sessions are held.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Relays in the order to ask them: the first by weight, those that were silent lately last.
    pub(crate) fn order(&mut self, now: Instant, config: &Config, dice: &mut Dice) -> VecDeque<u8> {
        self.silent.retain(|(_, until)| *until > now);
        let is_silent = |relay: &u8| self.silent.iter().any(|(silent, _)| silent == relay);
        let all = 0..config.relays.len().min(256) as u16;
        let mut order: Vec<u8> = all.map(|relay| relay as u8).collect();
        let weight = |relay: u8| u64::from(config.relays[usize::from(relay)].weight);
        order.sort_by_cached_key(|&relay| {
            // Weighted random order: the larger weight draws the smaller number more often.
            let drawn = dice.below(1 << 32) + 1;
            let weight = weight(relay);
            (is_silent(&relay), weight == 0, drawn.checked_div(weight).unwrap_or(drawn))
        });
        order.into()
    }
}

impl Held {
    pub(crate) fn new(relay: u8, session: Session, flow: Flow, networks: [Met; 2]) -> Held {
        Held {
            relay,
            dialog: RelayDialog { session, flow, cseq: 0, confirmed: false },
            networks,
            others: VecDeque::new(),
            under_way: None,
            patience: None,
            errands: VecDeque::new(),
            told: [None, None],
            policies: [None, None],
            refresh: None,
            decided: None,
            call: None,
            ending: false,
            taken_up: false,
            chained: false,
        }
    }

    pub(crate) fn ask(&mut self, errand: &Errand, config: &Config) -> Ask {
        let policy = errand.policy.or(self.policies[index(errand.leg)]).unwrap_or((config.latch, false));
        self.policies[index(errand.leg)] = Some(policy);
        self.chained |= errand.chained;
        let name = |met: Met| {
            let name = config.networks.get(met.network).map_or("", |network| &network.name);
            if met.six { format!("{name}{SIX}") } else { name.to_owned() }
        };
        let parties = self.networks.map(|met| met.srtp);
        Ask {
            session: self.dialog.session,
            mode: config.relay_mode,
            leg: errand.leg,
            peer: errand.peer,
            networks: self.networks.map(name),
            latch: policy.0,
            trusted: policy.1,
            reset: errand.reset,
            chained: errand.chained,
            srtp: (self.taken_up || parties != [Srtp::Pass; 2])
                .then_some(Keying { parties, answers: errand.answers }),
        }
    }
}

pub(crate) fn index(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Callee => 1,
    }
}
