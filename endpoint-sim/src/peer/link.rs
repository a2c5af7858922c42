//! One buddy: how it is reached now, and whether it is there.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use proto::node::{Dice, Output};
use proto::peer::nat::Verdict;
use proto::peer::reach::{Path, Reach};
use proto::peer::words::{Buddy, Route};
use proto::stun::TransactionId;

use super::config::BuddyReport;
use super::opening::{Opening, PairKey, Part, Plan, Way};

/// How one message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Direct(Way),
    Reflector([u8; 44]),
    Server,
}

/// One buddy.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) aor: String,
    pub(crate) pair: PairKey,
    pub(crate) reach: Reach,
    /// Its NAT, once it is told.
    verdict: Option<Verdict>,
    pub(crate) external: Option<SocketAddr>,
    hosts: Vec<SocketAddr>,
    token: Option<[u8; 44]>,
    /// Our channel to it through the server.
    channel: Option<u16>,
    pub(crate) opening: Option<Opening>,
    begun: Option<Instant>,
    /// When the last sprays began.
    sprays: [Option<Instant>; SPRAYS],
    /// A path that was proven, or that its sealed words came by.
    pub(crate) way: Option<Way>,
    /// Where sealed words of its came from lately: between neighbours its way to us need not be ours to it.
    heard: VecDeque<Way>,
    /// By its own word.
    pub(crate) online: bool,
    /// What it is still to be told: that we are here, or leave.
    pub(crate) announce: Option<bool>,
    pub(crate) consent: Consent,
    /// Where its media came from last, other than by its path: what was asked there, and when.
    pub(crate) moved: Option<(TransactionId, Way, Instant)>,
}

/// Whether a direct path still carries (RFC 7675).
#[derive(Debug, Default)]
pub(crate) struct Consent {
    pub(crate) next: Option<Instant>,
    pub(crate) asked: Option<TransactionId>,
    pub(crate) unanswered: u8,
}

/// So long a direct path may take to be proven before messages take another.
pub(crate) const GRACE: Duration = Duration::from_millis(450);

/// Sprays of one pair in a minute: each is 770 sockets on one side, 770 guesses on the other.
pub(crate) const SPRAYS: usize = 2;
/// Paths it is heard by, at most.
const HEARD: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);

impl Link {
    pub(crate) fn new(buddy: &Buddy, route: &Route) -> Link {
        let mut link = Link {
            aor: buddy.aor.clone(),
            pair: PairKey { label: String::new(), key: [0; 32] },
            reach: route.way.into(),
            verdict: None,
            external: None,
            hosts: Vec::new(),
            token: None,
            channel: None,
            opening: None,
            begun: None,
            sprays: [None; SPRAYS],
            way: None,
            heard: VecDeque::new(),
            online: false,
            announce: None,
            consent: Consent::default(),
            moved: None,
        };
        link.update(buddy, route);
        link
    }

    /// What the access server says of it now.
    pub(crate) fn update(&mut self, buddy: &Buddy, route: &Route) {
        self.pair = PairKey { label: route.pair.label.clone(), key: *route.pair.key };
        self.reach = route.way.into();
        self.verdict = buddy.verdict;
        self.external = buddy.external;
        self.hosts.clone_from(&route.hosts);
        self.token = route.token.map(Into::into);
        self.channel = route.channel;
    }

    /// Begins to open a path, forgetting the one there was.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        part: Part,
        local: SocketAddr,
        ours: Verdict,
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) {
        if matches!(self.reach.path, Path::Spray | Path::SprayBoth) && !self.may_spray(now) {
            return;
        }
        self.close(out);
        if let Some(channel) = self.channel {
            // It needs no proof: both have one to the server.
            self.way = Some(Way { socket: None, remote: channel_address(channel) });
            return;
        }
        let Some(external) = self.external.filter(|_| self.may_open()) else {
            return;
        };
        let plan = Plan {
            part,
            reach: self.reach,
            local,
            ours,
            theirs: self.verdict.unwrap_or(Verdict::UNKNOWN),
            external,
            hosts: self.hosts.clone(),
            pair: self.pair.clone(),
        };
        let mut opening = Opening::new(now, plan);
        opening.wake(now, dice, out);
        (self.opening, self.begun) = (Some(opening), Some(now));
    }

    /// Takes one of the sprays a pair has in a minute, if one is left. Until there is, words take the path they have.
    fn may_spray(&mut self, now: Instant) -> bool {
        let spent = |begun: &Option<Instant>| begun.is_some_and(|begun| now < begun + MINUTE);
        let Some(free) = self.sprays.iter_mut().find(|begun| !spent(begun)) else { return false };
        *free = Some(now);
        true
    }

    /// Forgets every path.
    pub(crate) fn close(&mut self, out: &mut VecDeque<Output>) {
        if let Some(mut opening) = self.opening.take() {
            opening.abandon(out);
        }
        if let Some(socket) = self.way.take().and_then(|way| way.socket) {
            out.push_back(Output::Release { socket });
        }
        self.heard.clear();
        self.consent = Consent::default();
    }

    /// It has moved, and has proven to be where it was asked.
    pub(crate) fn follow(&mut self, out: &mut VecDeque<Output>) {
        let Some((_, way, _)) = self.moved.take() else { return };
        let before = self.way.replace(way).and_then(|before| before.socket);
        if let Some(socket) = before.filter(|socket| way.socket != Some(*socket)) {
            out.push_back(Output::Release { socket });
        }
        (self.consent.asked, self.consent.unanswered) = (None, 0);
    }

    /// Whether a proxy and its relay can't help: UDP does not pass to them, or not from them.
    pub(crate) fn is_tunnelled(&self) -> bool {
        self.reach.path == Path::Tunnel
    }

    /// Its sealed words came by this path.
    pub(crate) fn hear(&mut self, way: Way) {
        if !self.heard.contains(&way) {
            self.heard.truncate(HEARD - 1);
            self.heard.push_front(way);
        }
    }

    /// Whether what comes by this path is its, as far as is known.
    pub(crate) fn is_heard_by(&self, way: Way) -> bool {
        self.way == Some(way) || self.heard.contains(&way)
    }

    /// Whether a direct path may be had.
    pub(crate) fn may_open(&self) -> bool {
        self.reach.is_direct() || self.reach.neighbours
    }

    /// How a message goes now; `None`: it is too early to say.
    pub(crate) fn via(&self, now: Instant) -> Option<Via> {
        if let Some(way) = self.way {
            return Some(Via::Direct(way));
        }
        let early = self.begun.is_some_and(|begun| now < begun + GRACE) && self.reach.path <= Path::Punch;
        match &self.opening {
            Some(opening) if early => opening.way().map(Via::Direct),
            _ => Some(self.fallback()),
        }
    }

    /// Whether what came by the reflector could not be answered by it.
    pub(crate) fn has_no_way_back(&self) -> bool {
        self.way.is_none() && self.token.is_none()
    }

    fn fallback(&self) -> Via {
        match (self.reach.path, self.token) {
            (Path::Server | Path::Tunnel, _) | (_, None) => Via::Server,
            (_, Some(token)) => Via::Reflector(token),
        }
    }

    /// The opening goes on; what it found is kept.
    pub(crate) fn wake(&mut self, now: Instant, dice: &mut Dice, out: &mut VecDeque<Output>) {
        let Some(opening) = &mut self.opening else { return };
        opening.wake(now, dice, out);
        if opening.is_over() {
            self.way = opening.opened().or(self.way);
            self.opening = None;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let opening = self.opening.as_ref().and_then(Opening::deadline);
        let grace = self.announce.and(self.begun).map(|begun| begun + GRACE);
        let grace = grace.filter(|_| self.way.is_none() && self.opening.is_some());
        [opening, grace, self.consent.next].into_iter().flatten().min()
    }

    /// How its messages go, and to where if they go directly.
    pub(crate) fn path(&self, now: Instant) -> (&'static str, Option<SocketAddr>) {
        match self.via(now) {
            Some(Via::Direct(way)) if channel_at(way.remote).is_some() => ("tunnel", None),
            Some(Via::Direct(way)) => ("direct", Some(way.remote)),
            Some(Via::Reflector(_)) => ("reflector", None),
            Some(Via::Server) | None => ("server", None),
        }
    }

    /// Why they go by this path.
    pub(crate) fn why(&self, path: &str) -> String {
        let nat = self.verdict.map(|verdict| verdict.to_string()).unwrap_or_default();
        match (self.reach.path, path) {
            (Path::Tunnel, _) | (_, "tunnel") => match self.verdict {
                Some(verdict) if verdict.udp => format!("{nat}, but no UDP passes from here"),
                Some(_) => "no UDP passes to it".to_owned(),
                None => "no UDP passes between the two".to_owned(),
            },
            (_, "direct") if self.verdict.is_none() => {
                "it spoke first, and what we say goes back there".to_owned()
            }
            (_, "direct") if self.reach.neighbours => "both are behind the same address".to_owned(),
            (Path::Direct, "direct") => format!("{nat}: anybody may send to it"),
            (_, "direct") => format!("{nat}: opened by a punch"),
            (Path::Server, _) => "its address is not told".to_owned(),
            (Path::Reflect | Path::Spray | Path::SprayBoth, _) => {
                format!("{nat}: no port is known to both sides")
            }
            _ => format!("{nat}: the direct path did not open"),
        }
    }

    pub(crate) fn report(&self, now: Instant) -> BuddyReport {
        let (path, address) = self.path(now);
        BuddyReport { online: self.online, path, address, why: self.why(path) }
    }
}

/// The address that stands for a buddy inside this machine, whatever path its messages take.
pub(crate) fn stand_in(index: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(STAND_IN | index as u128)), 5060)
}

/// The buddy an address stands for.
pub(crate) fn stands_for(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V6(ip) if u128::from(ip) >> 64 == STAND_IN >> 64 => Some(u128::from(ip) as u64 as usize),
        _ => None,
    }
}

/// The address that stands for a channel inside this machine: what is sent there goes by it.
pub(crate) fn channel_address(channel: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(CHANNEL | u128::from(channel))), 5060)
}

/// The channel an address stands for.
pub(crate) fn channel_at(address: SocketAddr) -> Option<u16> {
    match address.ip() {
        IpAddr::V6(ip) if u128::from(ip) >> 64 == CHANNEL >> 64 => Some(u128::from(ip) as u16),
        _ => None,
    }
}

/// A prefix nobody is at (RFC 4193, drawn once).
const STAND_IN: u128 = 0xfdb1_5a07_93c4_0001_u128 << 64;
/// The one beside it.
const CHANNEL: u128 = 0xfdb1_5a07_93c4_0002_u128 << 64;
