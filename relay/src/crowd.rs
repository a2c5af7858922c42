//! One port for many calls: whose a packet is, when the legs of a lane share their sockets (`mode: one-port`).
//!
//! Where every leg has a port of its own, the port says whose a packet is. Here what it brings with it must, and it must
//! name one leg alone. The first of these that names any decides:
//!
//! 1. **Source**: the very address and port that a leg is heard from.
//! 2. **ICE**: the name in a STUN check that the relay made for one leg (RFC 8445 §7.2.2).
//! 3. **Signalled**: the very address and port that a party's SDP names, as long as it is not heard.
//! 4. **Stream**: an SSRC that a leg was heard with, or that its SDP announces (RFC 5576): a party whose NAT re-binds.
//! 5. **Expected**: from where a leg that is not heard yet, or may come from elsewhere now, admits packets.
//!
//! Where several legs fit, nobody gets it: it is dropped as [`Why::Ambiguous`], for a guess might let one call hear another.
//! So two phones behind one NAT that are called at the same moment need two ports, and legs that wait for their party
//! are spread over the ports there are. What this says is no more than whose rules to ask: the leg's own latching
//! ([`crate::latch`]) decides as ever whether it hears.
//!
//! What ended rests: stragglers of a call that is over, known by their address and SSRC, go nowhere.
//!
//! Every fact here is derived from the legs ([`Relay::enrol`]); an unknown source costs a few look-ups in ordered maps,
//! however many calls there are, and a leg as few to come and go, however many others are known by the same sign.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use proto::node::SocketId;
use proto::rtp::{Packet, classify};
use proto::stun;
use proto::tables::Latch;

use crate::leg::{Channel, Leg, Part};
use crate::ports::Port;
use crate::relay::Relay;
use crate::why::Why;

/// What a packet may bring with it that names a leg.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    // First: `is_in_use` begins its search here.
    Source(SocketAddr),
    Signalled(SocketAddr),
    Ssrc(u32),
    Ufrag(String),
    /// Any address within the same /24 or /48: the leg's own rule looks closer.
    Near(IpAddr),
    Anywhere,
    /// Nothing: the channel waits to hear its party.
    Awaited,
}

/// A channel of a leg.
type Seat = (u32, Part);

/// The same in four bytes: thousands stand in one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packed(u32);

impl From<Seat> for Packed {
    fn from((leg, part): Seat) -> Packed {
        Packed(leg << 1 | u32::from(part == Part::Rtcp))
    }
}

impl From<Packed> for Seat {
    fn from(Packed(seat): Packed) -> Seat {
        (seat >> 1, if seat & 1 == 1 { Part::Rtcp } else { Part::Media })
    }
}

/// A sign, and where it counts.
type Spot = (SocketId, Sign);

/// Who may be met at which socket.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    seats: BTreeMap<Arc<Spot>, BTreeSet<Packed>>,
    /// By leg: where it has seats. Many legs may have one spot, which is written down once.
    spots: BTreeMap<u32, Box<[Arc<Spot>]>>,
    /// A leg that is heard with a new SSRC.
    grown: Option<u32>,
    /// What ended of a source, and how long that rests.
    rested: BTreeMap<(SocketId, SocketAddr), (Instant, Vec<u32>)>,
    /// When to look whether one has rested long enough, the first to be so first.
    rests: VecDeque<(Instant, (SocketId, SocketAddr))>,
}

impl Crowd {
    /// How many channels wait at a socket to hear their party.
    pub(crate) fn awaiting(&self, socket: SocketId) -> usize {
        self.seats.get(&(socket, Sign::Awaited)).map_or(0, BTreeSet::len)
    }

    /// Whether any leg has this socket: each of its channels is known by something.
    pub(crate) fn is_in_use(&self, socket: SocketId) -> bool {
        let first = Sign::Source(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        self.seats.range((socket, first)..).next().is_some_and(|(spot, _)| spot.0 == socket)
    }

    /// Every channel at a socket; one that is known by several signs comes several times.
    pub(crate) fn seats_at(&self, socket: SocketId) -> impl Iterator<Item = Seat> + '_ {
        let first = Sign::Source(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let here = self.seats.range((socket, first)..).take_while(move |(spot, _)| spot.0 == socket);
        here.flat_map(|(_, seats)| seats).map(|seat| Seat::from(*seat))
    }

    fn at(&self, socket: SocketId, sign: Sign) -> impl Iterator<Item = Seat> + Clone + '_ {
        self.seats.get(&(socket, sign)).into_iter().flatten().map(|seat| Seat::from(*seat))
    }

    /// The legs at a socket whose party is heard from there, or whose SDP names it.
    pub(crate) fn met_at(&self, socket: SocketId, at: SocketAddr) -> impl Iterator<Item = u32> + '_ {
        let signs = [Sign::Source(at), Sign::Signalled(at)];
        signs.into_iter().flat_map(move |sign| self.at(socket, sign)).map(|(leg, _)| leg)
    }

    /// The seats of a leg, which has none yet.
    fn put(&mut self, leg: u32, seats: impl Iterator<Item = (Part, Spot)>) {
        let mut spots = Vec::new();
        for (part, spot) in seats {
            let spot = match self.seats.get_key_value(&spot) {
                Some((known, _)) => known.clone(),
                None => Arc::new(spot),
            };
            if self.seats.entry(spot.clone()).or_default().insert((leg, part).into()) {
                spots.push(spot);
            }
        }
        if !spots.is_empty() {
            self.spots.insert(leg, spots.into());
        }
    }

    fn forget(&mut self, leg: u32) {
        for spot in self.spots.remove(&leg).unwrap_or_default() {
            let Some(seats) = self.seats.get_mut(&spot) else { continue };
            for part in [Part::Media, Part::Rtcp] {
                seats.remove(&(leg, part).into());
            }
            if seats.is_empty() {
                self.seats.remove(&spot);
            }
        }
    }

    fn rest(&mut self, until: Instant, socket: SocketId, from: SocketAddr, streams: Vec<u32>) {
        self.rests.push_back((until, (socket, from)));
        let (rests, ended) = self.rested.entry((socket, from)).or_insert((until, Vec::new()));
        *rests = until;
        ended.extend(streams);
    }

    /// Whether a packet is a straggler of a leg that has ended.
    fn is_straggler(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        packet: &Packet<'_>,
    ) -> bool {
        while let Some(&(at, key)) = self.rests.front()
            && at <= now
        {
            self.rests.pop_front();
            if self.rested.get(&key).is_some_and(|(until, _)| *until <= now) {
                self.rested.remove(&key);
            }
        }
        let rested = self.rested.get(&(socket, from));
        rested.is_some_and(|(_, streams)| stream_of(packet).is_some_and(|ssrc| streams.contains(&ssrc)))
    }
}

impl Relay {
    /// Brings what is known of a leg up to date. To be called whenever its ports, its description or its latch changed.
    pub(crate) fn enrol(&mut self, at: u32) {
        if !self.config.one_port {
            return;
        }
        self.crowd.forget(at);
        let Some(leg) = self.legs.get(at as usize).filter(|leg| !leg.is_member()) else { return };
        let channels = [(Part::Media, Some(&leg.media)), (Part::Rtcp, leg.rtcp.as_ref())];
        let channels = channels.into_iter().filter_map(|(part, channel)| Some((part, channel?)));
        self.crowd.put(
            at,
            channels.flat_map(|(part, channel)| {
                let signs = signs_of(leg, part, channel).into_iter();
                signs.map(move |sign| (part, (channel.port.socket, sign)))
            }),
        );
    }

    /// A leg ends: what still comes of it rests.
    pub(crate) fn strike_off(&mut self, now: Instant, at: u32) {
        if !self.config.one_port {
            return;
        }
        self.crowd.forget(at);
        let Some(leg) = self.legs.get(at as usize).filter(|leg| !leg.is_member()) else { return };
        let until = now + self.config.quarantine;
        for channel in [Some(&leg.media), leg.rtcp.as_ref()].into_iter().flatten() {
            if let Some(from) = channel.latched {
                self.crowd.rest(until, channel.port.socket, from, leg.tracks.streams().collect());
            }
        }
    }

    /// Whose a packet at a shared socket is.
    pub(crate) fn whose_in_crowd(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<Seat, Why> {
        if let Some(grown) = self.crowd.grown.take() {
            self.enrol(grown);
        }
        let packet = classify(bytes);
        let Some(seat) = self.crowd.at(socket, Sign::Source(from)).next() else {
            return self.whose_by_signs(now, socket, from, bytes, &packet);
        };
        if let (Packet::Rtp(rtp), Some(leg)) = (&packet, self.legs.get(seat.0 as usize))
            && !leg.sends(rtp)
        {
            self.crowd.grown = Some(seat.0);
        }
        Ok(seat)
    }

    #[cold]
    fn whose_by_signs(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        packet: &Packet<'_>,
    ) -> Result<Seat, Why> {
        if self.crowd.is_straggler(now, socket, from, packet) {
            return Err(Why::Idle);
        }
        let fits = |seat: &Seat| self.seat_fits(*seat, packet);
        let expects = |seat: &Seat| fits(seat) && self.seat_expects(now, *seat, from.ip());
        let at = |sign| self.crowd.at(socket, sign);
        let by_name = ufrag_of(packet, bytes).into_iter().flat_map(|ufrag| at(Sign::Ufrag(ufrag)));
        let by_stream = stream_of(packet).into_iter().flat_map(|ssrc| at(Sign::Ssrc(ssrc)));
        let near = at(Sign::Near(block(from.ip()))).chain(at(Sign::Anywhere)).filter(expects);
        let named = [
            only(by_name),
            only(at(Sign::Signalled(from)).filter(fits)),
            only(by_stream.map(|(leg, _)| (leg, self.part_for(leg, packet)))),
            only(near),
        ];
        match named.into_iter().find(|named| *named != Ok(None)) {
            Some(Ok(Some(seat))) => Ok(seat),
            Some(Err(among)) => {
                self.nobody_knows(&among);
                Err(Why::Ambiguous)
            }
            // Whoever alone waits here is told of strangers, as on a port of its own.
            _ => only(at(Sign::Awaited).filter(fits)).ok().flatten().ok_or(Why::Stranger),
        }
    }

    /// So that a call without audio can be explained.
    fn nobody_knows(&mut self, among: &[u32]) {
        for leg in among {
            if let Some(leg) = self.legs.get_mut(*leg as usize) {
                leg.ambiguous += 1;
            }
        }
    }

    /// RTCP is for the channel of its own, where a leg has one.
    fn part_for(&self, leg: u32, packet: &Packet<'_>) -> Part {
        let apart = self.legs.get(leg as usize).is_some_and(|leg| leg.rtcp.is_some());
        if apart && matches!(packet, Packet::Rtcp(_)) { Part::Rtcp } else { Part::Media }
    }

    fn seat_fits(&self, (leg, part): Seat, packet: &Packet<'_>) -> bool {
        *packet != Packet::Stun && self.part_for(leg, packet) == part
    }

    fn seat_expects(&self, now: Instant, (leg, part): Seat, from: IpAddr) -> bool {
        let Some(leg) = self.legs.get(leg as usize) else { return false };
        let unheard = leg.way_in(part).is_some_and(|channel| channel.latched.is_none());
        let open = unheard || leg.window.is_some_and(|until| now < until);
        let with_media = part == Part::Rtcp && leg.media.latched.is_some_and(|media| media.ip() == from);
        open && (leg.rule.admits(from) || with_media)
    }

    /// A port of a network for a leg: one at which as few others as possible wait to hear their party.
    pub(crate) fn common_port(&mut self, network: usize, taken: &[Port]) -> Option<Port> {
        let waiting = |port: &Port| {
            self.crowd.awaiting(port.socket) + taken.iter().filter(|other| other.id == port.id).count()
        };
        let open: Vec<Port> = self.pool.common(network).collect();
        let least = open.iter().map(waiting).min()?;
        let open: Vec<Port> = open.iter().filter(|port| waiting(port) == least).copied().collect();
        Some(open[self.dice.below(open.len() as u64) as usize])
    }
}

/// By what packets of a leg's channel are known.
fn signs_of(leg: &Leg, part: Part, channel: &Channel) -> Vec<Sign> {
    let mut signs: Vec<Sign> = channel.latched.map(Sign::Source).into_iter().collect();
    let media = part == Part::Media;
    if media {
        signs.extend(leg.tracks.streams().chain(leg.announced.iter().copied()).map(Sign::Ssrc));
        signs.extend(
            leg.keys
                .as_ref()
                .and_then(|keys| keys.terms.ice.as_ref())
                .map(|ice| Sign::Ufrag(ice.ufrag.clone())),
        );
    }
    signs.extend(channel.latched.is_none().then_some(Sign::Awaited));
    // Who does ICE is where its checks come from, and nowhere else.
    if leg.does_ice() || channel.latched.is_some() && leg.window.is_none() {
        return signs;
    }
    signs.extend(channel.signalled.filter(|_| channel.latched.is_none()).map(Sign::Signalled));
    let known = [leg.rule.signalled, leg.rule.signalling, leg.media.latched.map(|media| media.ip())];
    signs.extend(known.into_iter().flatten().map(|ip| Sign::Near(block(ip))));
    signs.extend((leg.rule.latch == Latch::Any).then_some(Sign::Anywhere));
    signs
}

/// The one leg that is named, if any is; or all of them.
fn only(seats: impl Iterator<Item = Seat>) -> Result<Option<Seat>, Vec<u32>> {
    let mut named: Vec<Seat> = seats.collect();
    named.sort_unstable();
    named.dedup();
    match named.as_slice() {
        [] => Ok(None),
        [seat] => Ok(Some(*seat)),
        several => Err(several.iter().map(|(leg, _)| *leg).collect()),
    }
}

/// The larger network that an address is in: never smaller than what [`crate::latch::Rule`] tells apart.
fn block(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into(),
    }
}

/// Whom a STUN check is meant for: our half of its USERNAME.
fn ufrag_of(packet: &Packet<'_>, bytes: &[u8]) -> Option<String> {
    let check = stun::Message::parse(bytes).filter(|_| *packet == Packet::Stun)?;
    check.username()?.split_once(':').map(|(ours, _)| ours.to_owned())
}

/// The stream a packet is of: an RTP packet's SSRC, or that of an RTCP packet's sender (RFC 3550 §5.1, §6.4).
pub(crate) fn stream_of(packet: &Packet<'_>) -> Option<u32> {
    match packet {
        Packet::Rtp(rtp) => Some(rtp.ssrc()),
        Packet::Rtcp(bytes) => bytes.get(4..8)?.try_into().ok().map(u32::from_be_bytes),
        _ => None,
    }
}
