//! The kernel path in the laboratory: a call through two NATs goes on in the kernel, and comes back from there whenever
//! anything happens to it. Needs root: in a namespace of an ordinary user eBPF is not allowed, and `status` says so.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, ip, told};
use conformance::lab::phone::{Phone, Voice, audio_at, rtp};
use conformance::lab::sbc::Sbc;
use conformance::lab::{postern, skipped};

const PARTIES: &str = "-s home:port-restricted:alice -s office:symmetric:bob -p mallory=203.0.113.66";

struct Talk {
    alice: Phone,
    bob: Phone,
    a: Voice,
    b: Voice,
    call: Call,
    stage: Sbc,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(ip("192.168.1.10"), port)
}

/// Two who talk to one another.
fn talk(relay: &str) -> Option<Talk> {
    let stage = Sbc::with(PARTIES, "proxy: {}\n", relay)?;
    let (mut alice, mut bob) =
        (stage.phone("alice", "192.168.1.10:5060"), stage.phone("bob", "192.168.1.10:5060"));
    let (a, b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    let call = Call::place(&mut alice, &mut bob, at(4000), at(4000));
    a.speak_to(Some(told(&call.ok)));
    b.speak_to(Some(told(&call.invite)));
    Some(Talk { alice, bob, a, b, call, stage })
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
        asked.wait(Duration::from_secs(10));
        asked.report()
    }

    /// Streams and packets the kernel carries; `None`: it is off.
    fn carried(&self) -> Option<(u64, u64)> {
        let said = self.kernel();
        let counts = said.strip_prefix("on (")?.split_once("): ")?.1;
        let mut numbers = counts.split_whitespace().filter_map(|word| word.parse().ok());
        Some((numbers.next()?, numbers.next()?))
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
    let Some(mut talk) = talk("kernel-path: true") else { return };
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
    let mallory = talk.stage.lab.udp("mallory", "203.0.113.66:4000");
    for n in 0..100 {
        mallory.send_to(&rtp(0xa, 40_000 + n), told(&talk.call.ok)).expect("sent");
        mallory.send_to(&rtp(0xbad, n), told(&talk.call.invite)).expect("sent");
    }
    assert!(talk.both_hear());
    let odd = |heard: &conformance::lab::phone::Heard| heard.ssrc == 0xbad || heard.sequence >= 40_000;
    assert!(!talk.b.heard().iter().chain(&talk.a.heard()).any(odd), "a stranger was heard");
    talk.comes_to(2);
}

/// A re-INVITE from the same place: by then the relay has it again, and hands it down again later.
fn describe_anew(talk: &mut Talk) {
    let offer = audio_at(at(4002));
    let (_, answer) = talk.call.renegotiate(&mut talk.alice, &mut talk.bob, &offer, &audio_at(at(4000)));
    assert_eq!(told(&answer), told(&talk.call.ok), "the same port");
    talk.a.speak_to(None);
    let moved = talk.stage.voice("alice", "192.168.1.10:4002", 0xaa);
    moved.speak_to(Some(told(&answer)));
    let deadline = Instant::now() + Duration::from_secs(5);
    while talk.b.heard().iter().all(|heard| heard.ssrc != 0xaa) || moved.heard().is_empty() {
        assert!(Instant::now() < deadline, "the caller's new port is not carried");
        std::thread::sleep(Duration::from_millis(20));
    }
    talk.comes_to(2);
    talk.a = moved;
}

/// Of each voice the numbers that never came, from the first to the last that did.
fn gaps(ears: &Voice, ssrc: u32) -> Vec<u16> {
    let heard: std::collections::BTreeSet<u16> =
        ears.heard().iter().filter(|heard| heard.ssrc == ssrc).map(|heard| heard.sequence).collect();
    let (Some(&first), Some(&last)) = (heard.first(), heard.last()) else { return vec![0] };
    (first..=last).filter(|number| !heard.contains(number)).collect()
}

#[test]
fn a_successor_takes_a_call_over_that_the_kernel_carries_and_no_packet_is_lost() {
    let Some(mut talk) = talk("kernel-path: true") else { return };
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
    assert_eq!((gaps(&talk.a, 0xb), gaps(&talk.b, 0xa)), (Vec::new(), Vec::new()), "packets that were lost");
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
    let Some(mut talk) = talk("kernel-path: true") else { return };
    if !allowed(&talk) {
        return;
    }
    talk.comes_to(2);
    assert!(talk.both_hear());
    talk.stage.postern.kill();
    std::thread::sleep(Duration::from_millis(100));
    let dead = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((talk.a.count(0xb, dead), talk.b.count(0xa, dead)), (0, 0));
}

/// What the kernel knows of neighbours and routes is what packets follow.
#[test]
fn neighbours_and_routes_that_change_are_followed_at_once() {
    let Some(talk) = talk("kernel-path: true") else { return };
    if !allowed(&talk) {
        return;
    }
    talk.comes_to(2);
    assert!(talk.both_hear());
    let change = |node: &str, words: &str| {
        let argv: Vec<&str> = words.split(' ').collect();
        let mut done = talk.stage.lab.spawn(node, &argv);
        assert!(done.wait(Duration::from_secs(10)).success(), "{words}: {}", done.output());
        std::thread::sleep(Duration::from_millis(500));
    };
    change("r-office", "ip link set wan0 address 02:00:00:00:99:01");
    assert!(talk.both_hear(), "by another Ethernet address");
    change("sbc", "ip neigh replace 203.0.113.101 lladdr 02:00:00:00:99:02 nud permanent dev eth0");
    let began = Instant::now();
    assert!(!talk.both_hear());
    let (forth, back) = (talk.b.count(0xa, began), talk.a.count(0xb, began));
    assert!(
        forth == 0 && back >= 40,
        "to whom the kernel takes for a neighbour: {forth} came, {back} the other way"
    );
    change("sbc", "ip route replace 203.0.113.101 via 198.51.100.1 dev eth0 onlink src 198.51.100.20");
    assert!(talk.both_hear(), "by another neighbour");
    talk.comes_to(2);
}
