//! The machine, and the one function that its data path calls.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use proto::cidr::Cidr;
use proto::node::{Birth, Flow, Input, Node, Output, Ticket};
use proto::peer::ticket::{Class, Keys, REFLECTED, TOKEN, Why, reflected};
use proto::stun::{self, Server, attribute};
use proto::tables::Tables;

use crate::rate::Rates;

/// How a reflector is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys it shares with its access server.
    pub keys: Keys,
    /// Its own addresses, all instances': nothing is passed on to there.
    pub own: Vec<IpAddr>,
    /// Ranges it passes on to although they are private: in a network of one's own.
    pub allowed: Vec<Cidr>,
    /// Packets a second to one destination, at most.
    pub per_second: u32,
}

impl Config {
    /// With these keys.
    pub fn new(keys: Keys) -> Config {
        Config { keys, own: Vec::new(), allowed: Vec::new(), per_second: 100 }
    }
}

/// A reflector. See the crate.
#[derive(Debug)]
pub struct Reflector {
    config: Config,
    birth: Birth,
    rates: Rates,
    counts: Counts,
    out: VecDeque<Output>,
}

/// What it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed on.
    pub passed: u64,
    /// STUN requests answered.
    pub bound: u64,
    /// Dropped, by the check that failed, in the order of [`Why`].
    pub dropped: [u64; Why::ALL.len()],
}

impl Counts {
    /// Dropped by this check.
    pub fn dropped_by(&self, why: Why) -> u64 {
        self.dropped[why as usize]
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflected {
    /// What stands in the buffer from `start` on goes there.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The new header begins here; what is before it is void.
        start: usize,
    },
    /// Nothing is sent.
    Drop(Why),
}

/// Longer packets are not passed on.
const MAX: usize = 1500;
/// Stream of the node's dice.
const DICE: u64 = 0x3ef1;

impl Reflector {
    /// Ready.
    pub fn new(config: Config, birth: Birth) -> Reflector {
        let rates = Rates::new(birth.dice(DICE).u64(), config.per_second);
        Reflector { config, birth, rates, counts: Counts::default(), out: VecDeque::new() }
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The seconds since 1970 at this moment: read once for a batch.
    pub fn unix_at(&self, now: Instant) -> u32 {
        self.birth.unix_at(now) as u32
    }

    /// Before a batch: the keys of this moment.
    pub fn keep_time(&mut self, unix_now: u32) {
        self.config.keys.keep_time(unix_now);
    }

    /// One packet. The new header is written over the end of the old one, in place: nothing is allocated or copied.
    pub fn reflect(&mut self, unix_now: u32, from: SocketAddr, packet: &mut [u8]) -> Reflected {
        match self.decide(unix_now, from, packet) {
            Ok((to, class)) => {
                self.counts.passed += 1;
                let start = TOKEN - REFLECTED;
                let head = [packet[0], packet[1], packet[2], packet[3]];
                let header = reflected(head, from, class, packet[27] - 1);
                packet[start..TOKEN].copy_from_slice(&header);
                Reflected::Send { to, start }
            }
            Err(why) => {
                self.counts.dropped[why as usize] += 1;
                Reflected::Drop(why)
            }
        }
    }

    fn decide(&mut self, unix_now: u32, from: SocketAddr, packet: &[u8]) -> Result<(SocketAddr, Class), Why> {
        if packet.len() > MAX {
            return Err(Why::Length);
        }
        let (to, class) = self.config.keys.check(packet, from, unix_now)?;
        if !self.may_go_to(to) {
            return Err(Why::Destination);
        }
        if !self.rates.take(to.ip(), unix_now) {
            return Err(Why::Rate);
        }
        Ok((to, class))
    }

    /// Not to ourselves (a loop), nor to where only a router's or a neighbour's own packets belong.
    fn may_go_to(&self, to: SocketAddr) -> bool {
        let ip = to.ip();
        let allowed = self.config.allowed.iter().any(|range| range.contains(ip));
        to.port() != 0 && !self.config.own.contains(&ip) && (allowed || is_public(ip))
    }

    /// The answer to a STUN request, with a bind ticket. It is longer than the question, and the question's source may be made
    /// up: so it counts towards what that address is to get.
    pub fn bind(
        &mut self,
        unix_now: u32,
        from: SocketAddr,
        local: SocketAddr,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        if !self.rates.take(from.ip(), unix_now) {
            self.counts.dropped[Why::Rate as usize] += 1;
            return None;
        }
        let ticket = self.config.keys.bind(from, unix_now)?;
        let more = |writer: stun::Writer| writer.attribute(attribute::BIND_TICKET, &ticket);
        // An answer to another port than asked from would prove nothing about that port.
        let answer =
            Server::single().answer_with(bytes, from, local, more).filter(|answer| answer.to == from)?;
        self.counts.bound += 1;
        Some(answer.bytes)
    }
}

/// Whether packets for it belong on the internet. Documentation ranges count: laboratories live there.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || shared)
                && a != 0
                && a < 240
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
                && first & 0xfe00 != 0xfc00
                && first & 0xffc0 != 0xfe80
        }
    }
}

impl Node for Reflector {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        let Input::Other { flow, bytes } = input else { return };
        let unix_now = self.unix_at(now);
        self.keep_time(unix_now);
        if stun::is_stun(&bytes) {
            if let Some(answer) = self.bind(unix_now, flow.remote, flow.local, &bytes) {
                self.out.push_back(Output::Send { flow, bytes: answer.into(), ticket: Ticket(0) });
            }
            return;
        }
        let mut packet = bytes.to_vec();
        if let Reflected::Send { to, start } = self.reflect(unix_now, flow.remote, &mut packet) {
            let bytes = Bytes::from(packet).slice(start..);
            self.out.push_back(Output::Send { flow: Flow::udp(flow.local, to), bytes, ticket: Ticket(0) });
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use proto::node::Lane;
    use proto::stun::{Message, Writer};

    use super::*;

    const NOW: u32 = 1_767_225_600;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn reflector() -> Reflector {
        let (now, wall) = (Instant::now(), std::time::SystemTime::UNIX_EPOCH);
        let birth = Birth { now, wall, seed: [1; 32], lane: Lane::default() };
        let own = vec!["203.0.113.30".parse().unwrap()];
        Reflector::new(Config { own, ..Config::new(Keys::new(1, [7; 32])) }, birth)
    }

    fn packet(from: &str, to: &str) -> Vec<u8> {
        let token = Keys::new(1, [7; 32]).mint(addr(from), addr(to), Class::Message, NOW).unwrap();
        [&token[..], b"hello"].concat()
    }

    #[test]
    fn passes_on_in_place_and_shorter() {
        let mut packet = packet("198.51.100.1:1", "198.51.100.2:2");
        let sent = reflector().reflect(NOW, addr("198.51.100.1:1"), &mut packet);
        assert_eq!(sent, Reflected::Send { to: addr("198.51.100.2:2"), start: 20 });
        let (from, inside) = proto::peer::ticket::read_reflected(&packet[20..]).unwrap();
        assert_eq!((from, inside), (addr("198.51.100.1:1"), &b"hello"[..]));
    }

    #[test]
    fn what_was_reflected_is_not_reflected_again() {
        let mut reflector = reflector();
        let mut packet = packet("198.51.100.1:1", "198.51.100.2:2");
        let Reflected::Send { start, .. } = reflector.reflect(NOW, addr("198.51.100.1:1"), &mut packet)
        else {
            panic!("not passed on")
        };
        let mut again = packet[start..].to_vec();
        again.resize(100, 0);
        assert!(matches!(reflector.reflect(NOW, addr("203.0.113.30:3479"), &mut again), Reflected::Drop(_)));
    }

    #[test]
    fn nothing_goes_to_itself_or_where_it_does_not_belong() {
        for to in [
            "203.0.113.30:3479",
            "127.0.0.1:5",
            "10.0.0.1:5",
            "224.0.0.1:5",
            "100.64.0.1:5",
            "[fe80::1]:5",
            "198.51.100.2:0",
        ] {
            let mut packet = packet("198.51.100.1:1", to);
            let dropped = reflector().reflect(NOW, addr("198.51.100.1:1"), &mut packet);
            assert_eq!(dropped, Reflected::Drop(Why::Destination), "{to}");
        }
    }

    #[test]
    fn one_destination_gets_its_rate_and_no_more() {
        let mut reflector = reflector();
        let mut send = || {
            let mut packet = packet("198.51.100.1:1", "198.51.100.2:2");
            reflector.reflect(NOW, addr("198.51.100.1:1"), &mut packet)
        };
        let passed = (0..200).filter(|_| matches!(send(), Reflected::Send { .. })).count();
        assert_eq!(passed, 100);
        assert_eq!(reflector.counts().dropped_by(Why::Rate), 100);
    }

    #[test]
    fn a_stun_answer_carries_a_ticket_that_proves_the_address_it_went_to() {
        let from = addr("198.51.100.1:1");
        let request = Writer::request([5; 12]).finish();
        let answer = reflector().bind(NOW, from, addr("203.0.113.30:3479"), &request).unwrap();
        let message = Message::parse(&answer).unwrap();
        let ticket = message.attribute(attribute::BIND_TICKET).unwrap().try_into().unwrap();
        assert_eq!(message.mapped(), Some(from));
        assert!(Keys::new(1, [7; 32]).is_bound(&ticket, from, NOW));
    }

    #[test]
    fn questions_in_a_victims_name_bring_it_no_more_than_its_rate() {
        let mut reflector = reflector();
        let (victim, local) = (addr("198.51.100.1:1"), addr("203.0.113.30:3479"));
        let request = Writer::request([5; 12]).finish();
        let answered = (0..1000).filter(|_| reflector.bind(NOW, victim, local, &request).is_some()).count();
        assert_eq!((answered, reflector.counts().dropped_by(Why::Rate)), (100, 900));
    }

    #[test]
    fn a_ticket_is_not_sent_to_another_port() {
        let request = Writer::request([5; 12]).attribute(attribute::RESPONSE_PORT, &[1, 1, 0, 0]).finish();
        let answer = reflector().bind(NOW, addr("198.51.100.1:1"), addr("203.0.113.30:3479"), &request);
        assert_eq!(answer, None);
    }
}
