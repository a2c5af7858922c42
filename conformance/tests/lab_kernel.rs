//! The kernel path in the laboratory: a call through two NATs, or two IPv6 firewalls, goes on in the kernel, and comes back
//! from there whenever anything happens to it. Between the families it stays in user space. Needs root: in a namespace of an ordinary user eBPF is not allowed, and `status` says so.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, told};
use conformance::lab::phone::{Phone, Voice, audio_at, rtp};
use conformance::lab::sbc::Sbc;
use conformance::lab::{PATIENCE, postern, skipped};

const PARTIES: &str = "-s home:port-restricted:alice:ipv6=stateful -s office:symmetric:bob:ipv6=stateful \
                       -p mallory=203.0.113.66,2001:db8::66";

/// Everybody's addresses in one family.
#[derive(Clone, Copy)]
struct Family {
    alice: &'static str,
    bob: &'static str,
    mallory: &'static str,
    /// `ip` of this family, the office's router as the service knows it, and its usual way and another one to the office.
    ip: &'static str,
    router: &'static str,
    way: Option<&'static str>,
    detour: &'static str,
    /// What makes a router say that it has another Ethernet address (RFC 4861 §7.2.6); in IPv4 its questions say so.
    announces: Option<&'static str>,
}

const FOUR: Family = Family {
    alice: "192.168.1.10",
    bob: "192.168.1.10",
    mallory: "203.0.113.66",
    ip: "ip -4",
    router: "203.0.113.101",
    way: None,
    detour: "203.0.113.101 via 198.51.100.1 dev eth0 onlink src 198.51.100.20",
    announces: None,
};
const SIX: Family = Family {
    alice: "[2001:db8:a00::10]",
    bob: "[2001:db8:a01::10]",
    mallory: "[2001:db8::66]",
    ip: "ip -6",
    router: "2001:db8:0:1::101",
    way: Some("2001:db8:a01::/64 via 2001:db8:0:1::101 dev eth0"),
    detour: "2001:db8:a01::/64 via 2001:db8::1 dev eth0",
    announces: Some("sysctl -qw net.ipv6.conf.wan0.ndisc_notify=1"),
};

struct Talk {
    alice: Phone,
    bob: Phone,
    a: Voice,
    b: Voice,
    call: Call,
    stage: Sbc,
    family: Family,
}

fn at(ip: &str, port: u16) -> String {
    format!("{ip}:{port}")
}

fn media(ip: &str, port: u16) -> SocketAddr {
    at(ip, port).parse().expect("an address and a port")
}

fn do_in(stage: &Sbc, node: &str, words: &str) {
    let argv: Vec<&str> = words.split(' ').collect();
    let mut done = stage.lab.spawn(node, &argv);
    assert!(done.wait(PATIENCE).success(), "{words}: {}", done.output());
}

/// Two who talk to one another.
fn talk(family: Family) -> Option<Talk> {
    let stage = Sbc::of_both_families(PARTIES, "kernel-path: true")?;
    family.way.iter().for_each(|way| do_in(&stage, "sbc", &format!("{} route replace {way}", family.ip)));
    let Family { alice: alice_ip, bob: bob_ip, .. } = family;
    let (mut alice, mut bob) =
        (stage.phone("alice", &at(alice_ip, 5060)), stage.phone("bob", &at(bob_ip, 5060)));
    let (a, b) = (stage.voice("alice", &at(alice_ip, 4000), 0xa), stage.voice("bob", &at(bob_ip, 4000), 0xb));
    let call = Call::place(&mut alice, &mut bob, media(alice_ip, 4000), media(bob_ip, 4000));
    a.speak_to(Some(told(&call.ok)));
    b.speak_to(Some(told(&call.invite)));
    Some(Talk { alice, bob, a, b, call, stage, family })
}

impl Talk {
    /// What `status` says of the kernel path.
    fn kernel(&self) -> String {
        self.status()["kernel_path"].as_str().unwrap_or_default().to_owned()
    }

    fn status(&self) -> serde_json::Value {
        let config = self.stage.lab.scratch().join("sbc.yaml");
        let argv = [postern(), "status", "--json", "-c", &config.to_string_lossy()];
        let mut asked = self.stage.lab.spawn("sbc", &argv);
        asked.wait(PATIENCE);
        asked.report()
    }

    /// Streams and packets the kernel carries; `None`: it is off.
    fn carried(&self) -> Option<(u64, u64)> {
        let said = self.kernel();
        let counts = said.strip_prefix("on (")?.split_once("): ")?.1;
        let mut numbers = counts.split_whitespace().filter_map(|word| word.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    }

    /// What else came to their ports and was too much.
    fn others_dropped(&self) -> u64 {
        let said = self.kernel();
        let number = said.split_once(" others dropped").and_then(|(before, _)| before.rsplit(' ').next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn comes_to(&self, streams: u64) {
        let deadline = Instant::now() + Duration::from_secs(8);
        while self.carried().map(|(carried, _)| carried) != Some(streams) {
            assert!(Instant::now() < deadline, "not {streams} streams: {}", self.kernel());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Packets the relay itself has seen.
    fn seen(&self) -> u64 {
        let lanes = self.status()["lanes"].as_array().cloned().unwrap_or_default();
        let relay =
            lanes.iter().find(|lane| lane["lane"].as_str().is_some_and(|name| name.starts_with("relay")));
        relay.and_then(|lane| lane["received"].as_u64()).expect("a relay's lane")
    }

    /// Whether each hears the other without a gap for a second, and nobody else.
    fn both_hear(&self) -> bool {
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        self.a.count(0xb, began) >= 40 && self.b.count(0xa, began) >= 40
    }
}

/// Whether this machine lets us; says so if not.
fn allowed(talk: &Talk) -> bool {
    let said = talk.kernel();
    let off = said.starts_with("off");
    if off {
        let root = std::fs::metadata("/proc/self").is_ok_and(|owned| owned.uid() == 0);
        assert!(!root || said.contains("Linux 6.6"), "as root: {said}");
        skipped(&format!("the kernel path is {said}"));
    }
    !off
}

#[test]
fn a_call_goes_on_in_the_kernel_and_comes_back_whenever_something_happens_to_it() {
    goes_on_and_comes_back(FOUR);
}

#[test]
fn so_does_one_over_ipv6() {
    goes_on_and_comes_back(SIX);
}

fn goes_on_and_comes_back(family: Family) {
    let Some(mut talk) = talk(family) else { return };
    if !allowed(&talk) {
        assert!(talk.both_hear(), "media goes its ordinary way");
        return;
    }
    talk.comes_to(2);
    let (_, before) = talk.carried().expect("on");
    let seen = talk.seen();
    assert!(talk.both_hear(), "through the kernel");
    let (_, after) = talk.carried().expect("on");
    assert!(after >= before + 80, "the kernel carried {before}, then {after}");
    assert!(talk.seen() <= seen + 20, "the relay itself has seen next to nothing of it");
    assert!(
        talk.b.heard().iter().all(|heard| heard.from == told(&talk.call.invite)),
        "from the relay's port"
    );

    strangers_get_nowhere(&talk);
    a_flood_ends_in_the_kernel(&talk);
    describe_anew(&mut talk);

    talk.call.hang_up(&mut talk.alice, &mut talk.bob);
    talk.comes_to(0);
    std::thread::sleep(Duration::from_millis(100));
    let ended = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((talk.a.count(0xb, ended), talk.b.count(0xa, ended)), (0, 0), "after BYE nothing goes on");
    talk.stage.nothing_stays_lent();
}

/// Somebody who knows port, SSRC and roughly the sequence is not carried, and those who are don't notice.
fn strangers_get_nowhere(talk: &Talk) {
    let mallory = talk.stage.lab.udp("mallory", &at(talk.family.mallory, 4000));
    for n in 0..100 {
        mallory.send_to(&rtp(0xa, 40_000 + n), told(&talk.call.ok)).expect("sent");
        mallory.send_to(&rtp(0xbad, n), told(&talk.call.invite)).expect("sent");
    }
    assert!(talk.both_hear());
    let odd = |heard: &conformance::lab::phone::Heard| heard.ssrc == 0xbad || heard.sequence >= 40_000;
    assert!(!talk.b.heard().iter().chain(&talk.a.heard()).any(odd), "a stranger was heard");
    talk.comes_to(2);
}

/// Of a flood the relay gets a thousand packets a second, the rest ends in the kernel, counted; nobody notices.
fn a_flood_ends_in_the_kernel(talk: &Talk) {
    const FLOOD: u64 = 30_000;
    let mallory = talk.stage.lab.udp("mallory", &at(talk.family.mallory, 4001));
    let began = Instant::now();
    for n in 0..FLOOD {
        mallory.send_to(&rtp(0xbad, n as u16), told(&talk.call.ok)).expect("sent");
    }
    let passed = 1_000 * (began.elapsed().as_secs() + 2);
    assert!(talk.both_hear());
    let dropped = talk.others_dropped();
    assert!(dropped + passed >= FLOOD, "{dropped} of {FLOOD}: {}", talk.kernel());
    talk.comes_to(2);
}

/// A re-INVITE from the same place: by then the relay has it again, and hands it down again later.
fn describe_anew(talk: &mut Talk) {
    let Family { alice, bob, .. } = talk.family;
    let (offer, again) = (audio_at(media(alice, 4002)), audio_at(media(bob, 4000)));
    let (_, answer) = talk.call.renegotiate(&mut talk.alice, &mut talk.bob, &offer, &again);
    assert_eq!(told(&answer), told(&talk.call.ok), "the same port");
    talk.a.speak_to(None);
    let moved = talk.stage.voice("alice", &at(alice, 4002), 0xaa);
    moved.speak_to(Some(told(&answer)));
    let deadline = Instant::now() + Duration::from_secs(5);
    while talk.b.heard().iter().all(|heard| heard.ssrc != 0xaa) || moved.heard().is_empty() {
        assert!(Instant::now() < deadline, "the caller's new port is not carried");
        std::thread::sleep(Duration::from_millis(20));
    }
    talk.comes_to(2);
    talk.a = moved;
}

#[test]
fn a_successor_takes_a_call_over_that_the_kernel_carries_and_no_packet_is_lost() {
    is_taken_over(FOUR);
}

#[test]
fn so_it_does_over_ipv6() {
    is_taken_over(SIX);
}

fn is_taken_over(family: Family) {
    let Some(mut talk) = talk(family) else { return };
    if !allowed(&talk) {
        return;
    }
    talk.comes_to(2);
    let config = talk.stage.lab.scratch().join("sbc.yaml");
    let argv = [postern(), "upgrade", "--json", "-c", &config.to_string_lossy()];
    let mut asked = talk.stage.lab.spawn("sbc", &argv);
    asked.wait(Duration::from_secs(60));
    let heir = asked.report()["pid"].as_u64().unwrap_or_else(|| panic!("{}", asked.output()));
    let _heir = Heir(heir.to_string());
    talk.stage.postern.wait(Duration::from_secs(30));
    assert!(talk.both_hear());
    talk.comes_to(2);
    assert!(talk.both_hear(), "in the kernel again");
    assert_eq!((talk.a.gaps(0xb), talk.b.gaps(0xa)), (Vec::new(), Vec::new()), "packets that were lost");
    talk.call.hang_up(&mut talk.alice, &mut talk.bob);
    talk.stage.nothing_stays_lent();
}

/// A process that nobody else ends.
struct Heir(String);

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg(&self.0).status();
    }
}

#[test]
fn kill_9_leaves_nothing_behind_that_carries() {
    for family in [FOUR, SIX] {
        let Some(mut talk) = talk(family) else { return };
        if !allowed(&talk) {
            return;
        }
        talk.comes_to(2);
        assert!(talk.both_hear());
        talk.stage.postern.kill();
        std::thread::sleep(Duration::from_millis(100));
        let dead = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!((talk.a.count(0xb, dead), talk.b.count(0xa, dead)), (0, 0), "by {}", family.ip);
    }
}

/// What the kernel knows of neighbours and routes is what packets follow.
#[test]
fn neighbours_and_routes_that_change_are_followed_at_once() {
    changes_are_followed(FOUR);
}

#[test]
fn so_are_those_of_ipv6() {
    changes_are_followed(SIX);
}

fn changes_are_followed(family: Family) {
    let Some(talk) = talk(family) else { return };
    if !allowed(&talk) {
        return;
    }
    talk.comes_to(2);
    assert!(talk.both_hear());
    let change = |node: &str, words: &str| {
        do_in(&talk.stage, node, words);
        std::thread::sleep(Duration::from_millis(500));
    };
    let Family { ip, router, detour, .. } = family;
    family.announces.iter().for_each(|words| change("r-office", words));
    change("r-office", "ip link set wan0 address 02:00:00:00:99:01");
    assert!(talk.both_hear(), "by another Ethernet address");
    change("sbc", &format!("{ip} neigh replace {router} lladdr 02:00:00:00:99:02 nud permanent dev eth0"));
    let began = Instant::now();
    assert!(!talk.both_hear());
    let (forth, back) = (talk.b.count(0xa, began), talk.a.count(0xb, began));
    assert!(
        forth == 0 && back >= 40,
        "to whom the kernel takes for a neighbour: {forth} came, {back} the other way"
    );
    change("sbc", &format!("{ip} route replace {detour}"));
    assert!(talk.both_hear(), "by another neighbour");
    talk.comes_to(2);
}

/// Between IPv4 and IPv6 nothing is handed down: `status` says so, and everybody is heard.
#[test]
fn between_the_families_a_call_stays_in_user_space_and_status_says_why() {
    for (caller, callee) in [(FOUR, SIX), (SIX, FOUR)] {
        let Some(talk) = talk(Family { bob: callee.bob, ..caller }) else { return };
        if !allowed(&talk) {
            return;
        }
        for _ in 0..4 {
            assert!(talk.both_hear());
        }
        let said = talk.kernel();
        assert!(said.ends_with(": 0 streams, 0 packets; in user space: 2 between IPv4 and IPv6"), "{said}");
    }
}
