//! Random streams of packets and control: no port leaks, and nothing is sent where it must not go.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use proto::control::{Mode, Session};
use proto::event::Side;
use rig::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Offer { call: u64, side: Side, media: Vec<&'static str>, from: usize, mode: Mode, reset: bool },
    Bye { call: u64 },
    Packet { port: usize, from: usize, kind: u8, n: u16 },
    Pass { ms: u64 },
}

/// Who there is: a phone behind a NAT, two public ones, and a stranger who never calls.
const PEOPLE: [&str; 4] = ["198.51.100.77:61000", "203.0.113.100:4000", "203.0.113.200:7000", "192.0.2.66:9"];
const SECTIONS: [&str; 5] = [
    "m=audio PORT RTP/AVP 0\r\n",
    "m=audio PORT RTP/AVP 0\r\na=rtcp-mux\r\n",
    "m=audio 0 RTP/AVP 0\r\n",
    "m=image PORT udptl t38\r\n",
    "m=video PORT RTP/AVP 96\r\na=sendonly\r\n",
];

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Caller), Just(Side::Callee)];
    let mode = prop_oneof![3 => Just(Mode::Split), 1 => Just(Mode::Shared)];
    let media = prop::collection::vec(prop::sample::select(&SECTIONS[..]), 0..4);
    let offer = (1..6u64, side, media, 0..3usize, mode, any::<bool>()).prop_map(
        |(call, side, media, from, mode, reset)| Step::Offer { call, side, media, from, mode, reset },
    );
    let packet = (any::<usize>(), 0..4usize, 0..5u8, 0..60u16)
        .prop_map(|(port, from, kind, n)| Step::Packet { port, from, kind, n });
    prop_oneof![
        3 => offer,
        1 => (1..6u64).prop_map(|call| Step::Bye { call }),
        8 => packet,
        1 => (1..8000u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

/// The relay, and what the steps allow it to do.
struct World {
    rig: Rig,
    /// Addresses that ever were a party's, by its SDP or its signalling.
    allowed: BTreeSet<std::net::IpAddr>,
    alive: BTreeMap<u64, usize>,
    /// How many sessions of a call have ended: a session's name is never used again.
    ended: BTreeMap<u64, u64>,
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Offer { call, side, media, from, mode, reset } => {
                let seen = address(PEOPLE[*from]);
                let own = if *from == 0 { "192.168.1.10:4000" } else { PEOPLE[*from] };
                let phone = Phone { peer: Some(SocketAddr::new(seen.ip(), 5060)), ..public(own) };
                let phone = Phone { mode: *mode, reset: *reset, ..phone };
                self.offer(*call, *side, &phone, media);
            }
            Step::Bye { call } => {
                let known = self.alive.remove(call).is_some();
                assert_eq!(self.rig.bye(self.session(*call)), if known { 200 } else { 481 });
                *self.ended.entry(*call).or_default() += u64::from(known);
            }
            Step::Packet { port, from, kind, n } => self.packet(*port, *from, *kind, *n),
            Step::Pass { ms } => self.rig.pass(MS * *ms as u32),
        }
    }

    fn session(&self, call: u64) -> Session {
        Session(call + 1000 * self.ended.get(&call).copied().unwrap_or_default())
    }

    fn offer(&mut self, call: u64, side: Side, phone: &Phone, media: &[&str]) {
        let known = self.alive.contains_key(&call);
        let sections = media.iter().enumerate();
        let sections = sections
            .map(|(at, section)| section.replace("PORT", &(phone.media.port() + 2 * at as u16).to_string()));
        let sdp = if media.is_empty() { String::new() } else { phone.head() + &sections.collect::<String>() };
        let response = self.rig.invite(&phone.ask(self.session(call), side), &sdp, known);
        if response.status() == Some(200) {
            self.allowed.extend([phone.media.ip(), phone.peer.unwrap().ip()]);
            self.alive.insert(call, media.len());
        }
        assert!(matches!(response.status(), Some(200 | 503)), "{:?}", response.status());
    }

    fn packet(&mut self, port: usize, from: usize, kind: u8, n: u16) {
        let open: Vec<SocketAddr> = self.rig.sockets.keys().copied().collect();
        let bytes = match kind {
            0 | 1 => rtp(from as u32, n),
            2 => rtcp_report(from as u32),
            3 => stun(),
            _ => vec![n as u8; usize::from(n)],
        };
        let sent = self.rig.packet(PEOPLE[from], open[port % open.len()], &bytes);
        assert!(sent.is_none() || from != 3, "a stranger was heard");
    }

    fn check(&mut self) {
        for sent in self.rig.sent.drain(..) {
            assert!(self.allowed.contains(&sent.to.ip()), "sent to {}", sent.to);
            assert!(!sent.to.ip().to_string().starts_with("192.168."), "sent to a private address");
        }
        let status = self.rig.relay.status();
        assert_eq!(status.sessions, self.alive.len());
        let all = status.ports;
        assert_eq!(all.leased + all.reserved + all.quarantined + all.free + all.opening, 3 * 40);
        // A section takes four ports at most; one more stream may be reserved for a late offer.
        let most: usize = self.alive.len() * 4 * 4;
        assert!(all.leased <= most, "{} ports for {} sessions", all.leased, self.alive.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn no_port_leaks_and_nobody_unexpected_is_heard_or_sent_to(steps in prop::collection::vec(step(), 1..120)) {
        let rig = Rig::new(relay::Config { ports: 30_000..=30_039, reserve: 2, ..config() });
        let mut world = World { rig, allowed: BTreeSet::new(), alive: BTreeMap::new(), ended: BTreeMap::new() };
        for step in &steps {
            world.take(step);
            world.check();
        }
        let alive: Vec<u64> = world.alive.keys().copied().collect();
        alive.into_iter().for_each(|call| world.take(&Step::Bye { call }));
        prop_assert_eq!(world.rig.ports().leased, 0);
        world.rig.pass(6 * SECOND);
        prop_assert_eq!(world.rig.ports().quarantined, 0);
    }
}
