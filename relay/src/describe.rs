//! A party's SDP: which streams it asks for, the ports they get, and what the other party is told.
//!
//! A description is dealt with in three steps, so that a refusal changes nothing: [`Relay::plan`] reads it,
//! the pool lends all that is missing or nothing, [`Relay::carry_out`] changes the session.

use std::net::SocketAddr;
use std::time::Instant;

use proto::control::{Ask, Mode};
use proto::event::Side;
use proto::sdp::{Kind, Media, Protection, Rewrite, Sdp};

use crate::latch::Rule;
use crate::leg::{Described, Leg, is_held};
use crate::ports::{Lease, Port, Shortage, Want};
use crate::quality::Clocks;
use crate::relay::Relay;
use crate::session::{Party, Session, Stream, Whose, index};

/// More m= sections than this are refused.
const SECTIONS: usize = 16;

/// A request that can't be served, in SIP's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) why: &'static str,
}

/// Why a description isn't dealt with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Not {
    /// Never.
    Refused(Refusal),
    /// Ports are being opened: try again when one is. So many pairs are needed, at most.
    Yet(usize),
}

/// What becomes of one m= section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing a relay of datagrams has to do with.
    Leave,
    /// No ports (any more).
    Close,
    /// The stream that is there, with an RTCP port more for these sides if one is missing.
    Keep([bool; 2]),
    /// A new stream, with these ports for its two sides.
    Open([Want; 2]),
    /// Its packets go by another section's ports (BUNDLE, RFC 9143).
    With(usize),
}

impl Relay {
    /// Lends a new session its first stream's ports before anybody has described it: for an INVITE whose offer comes
    /// late, a shortage must show now.
    pub(crate) fn reserve(&mut self, session: &mut Session) -> Result<(), Not> {
        if session.streams.is_empty() {
            let plans = [Plan::Open([Want::Pair; 2])];
            let mut leases = self.lend(session, &plans)?.into_iter();
            let stream = self.open(session, Kind::Rtp, &mut leases);
            session.streams.push(stream);
        }
        Ok(())
    }

    /// Takes in what one party says of itself, and returns what the other shall be told.
    pub(crate) fn describe(
        &mut self,
        now: Instant,
        session: &mut Session,
        ask: &Ask,
        sdp: &Sdp<'_>,
    ) -> Result<Vec<u8>, Not> {
        let plans = self.take_in(now, session, ask, sdp)?;
        let rewrites = self.rewrites(session, ask.leg.other(), &plans);
        let body = if ask.srtp.is_some() { sdp.rewrite_apart(&rewrites) } else { sdp.rewrite(&rewrites) };
        Ok(self.dress(session, ask, sdp, &plans, body, None))
    }

    /// Takes in what one party says of itself. A refusal changes nothing.
    pub(crate) fn take_in(
        &mut self,
        now: Instant,
        session: &mut Session,
        ask: &Ask,
        sdp: &Sdp<'_>,
    ) -> Result<Vec<Plan>, Not> {
        let plans = self.plan(session, ask, sdp).map_err(Not::Refused)?;
        self.check_keys(session, ask, sdp).map_err(Not::Refused)?;
        let leases = self.lend(session, &plans)?;
        session.parties[index(ask.leg)].learn(ask);
        self.carry_out(now, session, ask, sdp, &plans, leases);
        Ok(plans)
    }

    /// Takes in what a request without SDP says of a party.
    pub(crate) fn learn(&mut self, session: &mut Session, ask: &Ask) {
        let party = &mut session.parties[index(ask.leg)];
        party.learn(ask);
        let rule = party.rule();
        for stream in session.streams() {
            if let Some(leg) = self.legs.get_mut(stream.legs[index(ask.leg)] as usize) {
                leg.rule = Rule { signalled: leg.rule.signalled, ..rule };
            }
            self.enrol(stream.legs[index(ask.leg)]);
        }
    }

    fn plan(&self, session: &Session, ask: &Ask, sdp: &Sdp<'_>) -> Result<Vec<Plan>, Refusal> {
        let refuse = |why| Err(Refusal { status: 488, why });
        if sdp.media.len() > SECTIONS {
            return refuse("more m= sections than a session may have");
        }
        let named = sdp.media.iter().flat_map(|media| [media.address(), media.rtcp_address()]);
        // One port for many calls would not know its own sessions from one another.
        let chained = ask.chained && !self.config.one_port;
        if !chained && named.flatten().any(|address| self.config.is_own(address)) {
            return refuse("SDP names one of this relay's own ports: media would go in a circle");
        }
        let active = || sdp.media.iter().filter(|media| media.port != 0);
        if active().count() > 0 && active().all(|media| media.kind == Kind::Other) {
            return refuse("no m= section is carried in datagrams");
        }
        Ok((0..sdp.media.len()).map(|at| self.plan_section(session, ask, sdp, at)).collect())
    }

    fn plan_section(&self, session: &Session, ask: &Ask, sdp: &Sdp<'_>, at: usize) -> Plan {
        let media = &sdp.media[at];
        let stream = session.streams.get(at).copied().flatten();
        // Where the relay stands between, sections are told apart, and their bundle is its own affair (see `keys`).
        let apart = ask.srtp.is_some() && Protection::of(media) == Protection::Dtls;
        match (media.kind, bundled_with(sdp, at).filter(|_| !apart), stream) {
            _ if media.port == 0 => Plan::Close,
            (Kind::Other, ..) => Plan::Leave,
            (_, Some(first), _) => Plan::With(first),
            (Kind::Rtp, _, None) => Plan::Open(self.wants(session, ask, media)),
            (_, _, None) => Plan::Open([Want::Single; 2]),
            (kind, _, Some(stream)) => Plan::Keep(self.lacks_rtcp(&stream, ask.leg, media, kind)),
        }
    }

    /// Who offers rtcp-mux is told of no port before it is answered. If it is declined, an RTCP port is lent then; most often
    /// it is not, and what the other party was offered besides its RTP port serves the next call of this kind.
    fn wants(&self, session: &Session, ask: &Ask, media: &Media<'_>) -> [Want; 2] {
        let mut wants = [Want::Pair; 2];
        if media.rtcp_mux && !self.is_shared(session) && !self.config.one_port {
            wants[index(ask.leg)] = Want::Single;
        }
        wants
    }

    /// Which legs of a stream need an RTCP port that they don't have.
    fn lacks_rtcp(&self, stream: &Stream, side: Side, media: &Media<'_>, kind: Kind) -> [bool; 2] {
        let needed = kind == Kind::Rtp && !(media.rtcp_mux && self.wants_mux(stream, side.other()));
        let alone = |leg: u32| needed && !self.is_by_dtls(leg);
        stream.legs.map(|leg| alone(leg) && self.legs.get(leg as usize).is_some_and(|leg| leg.rtcp.is_none()))
    }

    fn wants_mux(&self, stream: &Stream, side: Side) -> bool {
        self.legs.get(stream.legs[index(side)] as usize).is_some_and(|leg| leg.wants_mux == Some(true))
    }

    /// Ports for every plan, in the order [`Relay::carry_out`] takes them.
    fn lend(&mut self, session: &Session, plans: &[Plan]) -> Result<Vec<Lease>, Not> {
        let networks = session.parties.map(|party| party.network);
        let sides = if self.is_shared(session) { 1 } else { 2 };
        let mut wants = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            match plan {
                Plan::Open(each) => wants.extend(networks.into_iter().zip(*each).take(sides)),
                Plan::Keep(lacks) => {
                    let legs = session.streams.get(at).copied().flatten().map(|stream| stream.legs);
                    let beside = |side: usize| {
                        let leg = self.legs.get(legs?[side] as usize)?;
                        Some(Want::Beside(leg.media.port.id))
                    };
                    let lacking = (0..sides).filter(|side| lacks[*side]);
                    wants.extend(lacking.map(|side| (networks[side], beside(side).unwrap_or(Want::Single))));
                }
                _ => {}
            }
        }
        let leases = match self.config.one_port {
            true => self.lend_common(&wants),
            false => self.pool.lease(&wants, &mut self.outputs),
        };
        leases.map_err(|shortage| match shortage {
            Shortage::Opening => Not::Yet(wants.len()),
            Shortage::Exhausted => Not::Refused(Refusal { status: 503, why: "every media port is in use" }),
        })
    }

    fn carry_out(
        &mut self,
        now: Instant,
        session: &mut Session,
        ask: &Ask,
        sdp: &Sdp<'_>,
        plans: &[Plan],
        leases: Vec<Lease>,
    ) {
        let mut leases = leases.into_iter();
        for (at, (plan, media)) in plans.iter().zip(&sdp.media).enumerate() {
            if session.streams.len() <= at {
                session.streams.push(None);
            }
            match plan {
                Plan::Open(_) => session.streams[at] = self.open(session, media.kind, &mut leases),
                Plan::Keep(lacks) => self.add_rtcp(session, at, *lacks, &mut leases),
                Plan::Leave | Plan::Close | Plan::With(_) => self.close(now, session, at),
            }
            if let Some(stream) = session.streams[at] {
                self.describe_keys(now, session, ask, media, at);
                self.describe_leg(now, session, &stream, ask, media);
                self.settle_mux(now, &stream);
                stream.legs.into_iter().for_each(|leg| self.begin_if_active(now, leg));
            }
        }
        (plans.len()..session.streams.len()).for_each(|at| self.close(now, session, at));
        self.bundle(now, session, ask, sdp);
        session.legs().for_each(|leg| self.enrol(leg));
    }

    /// Ports that others have, too.
    fn lend_common(&mut self, wants: &[(usize, Want)]) -> Result<Vec<Lease>, Shortage> {
        let mut taken: Vec<Port> = Vec::new();
        let mut lend = |(network, want): &(usize, Want)| {
            let rtp = self.common_port(*network, &taken).ok_or_else(|| self.pool.shortage(*network))?;
            taken.push(rtp);
            Ok(Lease { rtp, rtcp: (*want == Want::Pair).then_some(rtp) })
        };
        let leases: Vec<Lease> = wants.iter().map(&mut lend).collect::<Result<_, _>>()?;
        leases.iter().for_each(|lease| self.pool.hold(lease.rtp.id));
        Ok(leases)
    }

    /// One port for both parties needs both in one network.
    fn is_shared(&self, session: &Session) -> bool {
        let one_network = session.parties[0].network == session.parties[1].network;
        session.mode == Mode::Shared && one_network && !self.config.one_port
    }

    /// Makes a stream's two legs.
    fn open(
        &mut self,
        session: &Session,
        kind: Kind,
        leases: &mut impl Iterator<Item = Lease>,
    ) -> Option<Stream> {
        let shared = self.is_shared(session);
        let first = leases.next()?;
        let second = if shared { first } else { leases.next()? };
        let leg = |side: Side, lease: &Lease| {
            let rule = session.parties[index(side)].rule();
            let mut leg = Leg::new(Whose { session: session.id, side }, kind, lease, rule);
            leg.switches.set_recorded(session.recorded);
            leg
        };
        let legs = [leg(Side::Caller, &first), leg(Side::Callee, &second)].map(|leg| self.seat(leg));
        self.legs[legs[0] as usize].other = legs[1];
        self.legs[legs[1] as usize].other = legs[0];
        let stream = Stream { legs, shared };
        self.connect(&stream);
        Some(stream)
    }

    fn add_rtcp(
        &mut self,
        session: &Session,
        at: usize,
        lacks: [bool; 2],
        leases: &mut impl Iterator<Item = Lease>,
    ) {
        let Some(stream) = session.streams.get(at).copied().flatten() else { return };
        let mut shared = None;
        for (leg, _) in stream.legs.into_iter().zip(lacks).filter(|(_, lacks)| *lacks) {
            let port = shared.or_else(|| leases.next().map(|lease| lease.rtp));
            shared = port.filter(|_| stream.shared);
            self.legs[leg as usize].rtcp = port.map(crate::leg::Channel::new);
        }
        self.connect(&stream);
    }

    fn describe_leg(
        &mut self,
        now: Instant,
        session: &Session,
        stream: &Stream,
        ask: &Ask,
        media: &Media<'_>,
    ) {
        let signalled = [media.address(), media.rtcp_address()];
        let party = &session.parties[index(ask.leg)];
        let ice = self.legs[stream.legs[index(ask.leg)] as usize].does_ice();
        let said = Described {
            kind: media.kind,
            signalled,
            early: signalled.map(|address| address.filter(|&to| !ice && self.may_send_early(party, to))),
            held: media.is_blackholed() || is_held(media.direction),
            reset: ask.reset,
        };
        let [own, other] = [ask.leg, ask.leg.other()].map(|side| stream.legs[index(side)] as usize);
        let leg = &mut self.legs[own];
        let party_rule = party.rule();
        leg.rule = Rule { signalled: leg.rule.signalled, ..party_rule };
        leg.wants_mux = Some(media.rtcp_mux);
        leg.announced = media.ssrcs.as_slice().into();
        leg.describe(now, &said);
        self.legs[other].clocks = self.clocks.share(Clocks::of(media));
    }

    /// Before a party is heard, media goes only to its own address: to the one its signalling comes from, or wherever a
    /// trusted party says, as long as that can be reached.
    fn may_send_early(&self, party: &Party, to: SocketAddr) -> bool {
        use proto::sdp::{Reach, reach};
        let ip = to.ip().to_canonical();
        let peer = party.peer.map(|peer| peer.to_canonical());
        let behind_nat = reach(ip) == Reach::Private && peer.is_some_and(|peer| reach(peer) == Reach::Public);
        let its_own = peer == Some(ip) || party.chained || party.trusted && !behind_nat;
        its_own && self.config.admits(party.network, to, party.chained).is_ok()
    }

    /// RTCP shares the media port once both parties have said so (RFC 5761 §5.1.1): its own ports go back.
    fn settle_mux(&mut self, now: Instant, stream: &Stream) {
        let both = [Side::Caller, Side::Callee].into_iter().all(|side| self.wants_mux(stream, side));
        let by_dtls = stream.legs.map(|leg| self.is_by_dtls(leg));
        for (at, leg) in stream.legs.into_iter().enumerate() {
            let leg = &mut self.legs[leg as usize];
            // A browser has one port for both, whatever its other party has.
            let mux = if by_dtls.contains(&true) { by_dtls[at] } else { both };
            leg.mux = mux;
            if mux
                && let Some(rtcp) = leg.rtcp.take()
                && !(stream.shared && at == 1)
            {
                self.return_port(now, rtcp.port);
            }
        }
    }

    /// What the other party is told: its own side's ports, section by section.
    pub(crate) fn rewrites(&self, session: &Session, towards: Side, plans: &[Plan]) -> Vec<Option<Rewrite>> {
        let host = self.config.networks[session.parties[index(towards)].network].advertise;
        let of = |at: usize| {
            let stream = session.streams.get(at).copied().flatten()?;
            let leg = self.legs.get(stream.legs[index(towards)] as usize)?;
            let rtcp = leg.rtcp.as_ref().filter(|_| leg_has_rtcp(self, &stream));
            let at = |number| SocketAddr::new(host, number);
            Some(Rewrite { rtp: at(leg.media.port.number), rtcp: rtcp.map(|rtcp| at(rtcp.port.number)) })
        };
        // A rejected section keeps its port 0; its address must go all the same.
        let rejected = || Rewrite { rtp: SocketAddr::new(host, 0), rtcp: None };
        let section = |(at, plan): (usize, &Plan)| match plan {
            Plan::With(first) => of(*first),
            Plan::Close => Some(rejected()),
            _ => of(at),
        };
        plans.iter().enumerate().map(section).collect()
    }
}

/// RTCP is spoken of when either end of the stream is RTP.
fn leg_has_rtcp(relay: &Relay, stream: &Stream) -> bool {
    stream.legs.iter().any(|leg| relay.legs.get(*leg as usize).is_some_and(|leg| leg.kind == Kind::Rtp))
}

/// The section whose address a bundled section repeats.
fn bundled_with(sdp: &Sdp<'_>, at: usize) -> Option<usize> {
    let media = &sdp.media[at];
    let address = media.address().filter(|_| media.bundled)?;
    sdp.media[..at].iter().position(|first| first.bundled && first.address() == Some(address))
}
