//! System 2's other scenarios on real NATs: 2b, 2c, 2d, 2f and 2g of US 8,000,325, read from captures.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, Step, in_order, told};
use conformance::lab::wire::{Packet, Wire};
use proto::peer::words::{LOGIN, Login, NOTICE, PROFILE, read};

use crate::BUSY;
use crate::steps::{asks_stun, at, carrying, external, is_check, is_presence};

const SECOND: Duration = Duration::from_secs(1);

/// What the access server tells a peer: to open its NAT towards somebody.
fn instructs(packet: &Packet, peer: SocketAddr) -> bool {
    (packet.from, packet.to) == (at(FOUR.access), peer) && carrying(packet, NOTICE).is_some()
}

/// One says that it is online, on its way from this mapping to that.
fn notifies(packet: &Packet, from: SocketAddr, to: SocketAddr) -> bool {
    (packet.from, packet.to) == (from, to) && is_presence(&packet.payload, "active")
}

/// One says that it is online, whoever that is, and this router has it for somebody behind it.
fn comes_to(packet: &Packet, router: &str, ip: &str) -> bool {
    packet.host == router && packet.to.ip().to_string() == ip && is_presence(&packet.payload, "active")
}

/// Where a peer logged in from, before it has left: the last source of this address that was given a profile.
fn seen_at(wire: &Wire, ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap();
    let profiles = wire.packets.iter().filter(|p| p.host == "hub" && carrying(p, PROFILE).is_some());
    let mut seen = profiles.map(|p| p.to).filter(|to| to.ip() == ip);
    seen.next_back().unwrap_or_else(|| panic!("nobody at {ip} has logged in\n{}", told(wire)))
}

/// Ends them one after the other, so that the first still see the others; what each saw.
fn leave<const N: usize>(peers: [Online; N]) -> [serde_json::Value; N] {
    peers.map(|mut peer| {
        peer.leave();
        peer.report()
    })
}

/// On its way to somebody behind a NAT, within.
fn is_inside(packet: &Packet) -> bool {
    packet.to.ip().to_string().starts_with("192.168.")
}

/// All is as in 2a, but that e2's NAT keeps out what the access server says. No reflector helps.
#[test]
fn scenario_2b_without_the_instruction_the_notify_is_dropped_by_e2s_nat() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2:addr=203.0.113.102";
    let Some(hub) = Hub::without_reflector(sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["hub", "r-office", "e2"]);
    let e2 = hub.peer("e2", "e2", 60, &[]);
    hub.until_online(1);
    hub.lab.deafen("office", FOUR.access);
    let e1 = hub.peer("e1", "e1", 60, &[]);
    hub.until_online(2);
    // The second half a second after the first: by then e2 would have done what it is told to.
    recorder.sees_times(2, "the NOTIFY", |p| comes_to(p, "r-office", "203.0.113.102"));
    let wire = recorder.stop();
    let [e2, e1] = leave([e2, e1]);
    let (one, two) = (external(&e1), external(&e2));
    let steps: [Step<'_>; 3] = [
        ("the login", &|p| p.host == "hub" && p.from == one && carrying(p, LOGIN).is_some()),
        ("the instruction, which gets no further", &|p| p.host == "r-office" && instructs(p, two)),
        ("the NOTIFY from e1's own mapping", &|p| p.host == "r-office" && notifies(p, one, two)),
    ];
    let found = in_order(&wire, &steps);
    let told_so =
        wire.packets.iter().find(|p| p.host == "hub" && p.to == one && carrying(p, PROFILE).is_some());
    assert!(told_so.is_some_and(|p| p.at < found[2].at), "the login is complete\n{}", told(&wire));
    let heard = wire.since(found[0].at).filter(|p| p.host == "e2" && is_inside(p));
    let passed = heard.filter(|p| p.from == one || p.from == at(FOUR.access));
    assert!(passed.is_empty(), "it is inside\n{}", told(&passed));
    let opened = wire.packets.iter().any(|p| p.host == "r-office" && (p.from, p.to) == (two, one));
    assert!(!opened, "e2 has opened its NAT\n{}", told(&wire));
    for (report, other) in [(&e2, "e1"), (&e1, "e2")] {
        assert_eq!(report["buddies"][format!("{other}@peers.test")]["online"], false, "{report:#}");
    }
}

/// The NATs of e2 and e4 forget after 30 s, which is over by default; the three minutes of the acceptance, and the end of the silent
/// one's lease, with POSTERN_LONG=1. Those of e6 and e8 forget sooner than keep-alives usually come: they find that out, and the access
/// server has them send more often.
#[test]
fn scenario_2c_after_idle_minutes_e2_is_reached_only_if_it_has_kept_its_channel_open() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2:timeout=30 -s shop:port-restricted:e3 \
        -s mill:port-restricted:e4:timeout=30,addr=203.0.113.110 -s hill:port-restricted:e5 \
        -s dale:port-restricted:e6:timeout=14 -s glen:port-restricted:e8:timeout=6";
    let pairs = [("e1", "e2"), ("e3", "e4"), ("e5", "e6"), ("e5", "e8")];
    let Some(hub) = Hub::without_reflector(sites, &pairs) else { return };
    let recorder = hub.lab.capture(&["hub", "e2", "e4", "r-mill"]);
    let long = std::env::var_os("POSTERN_LONG").is_some();
    let idle = if long { 180 } else { 45 };
    eprintln!("idle for {idle} s; POSTERN_LONG=1 makes it the acceptance's 180");
    let mut e2 = hub.peer("e2", "e2", 300, &[]);
    let e4 = hub.peer("e4", "e4", 300, &["--no-keep-alive"]);
    let mut e6 = hub.peer("e6", "e6", 300, &[]);
    let mut e8 = hub.peer("e8", "e8", 300, &[]);
    hub.until_online(4);
    std::thread::sleep(idle * SECOND);
    let [e1, e3, e5] = ["e1", "e3", "e5"].map(|name| hub.peer(name, name, 60, &[]));
    hub.until_online(if long { 6 } else { 7 });
    e2.meets("e1");
    [&mut e6, &mut e8].into_iter().for_each(|buddy| buddy.meets("e5"));
    if !long {
        recorder.sees("the NOTIFY to e4", |p| comes_to(p, "r-mill", "203.0.113.110"));
    }
    let wire = recorder.stop();
    let [e2, e3, e6, e8, e1, e4, _] = leave([e2, e3, e6, e8, e1, e4, e5]);

    let (one, two, three) = (external(&e1), external(&e2), external(&e3));
    let four = seen_at(&wire, "203.0.113.110");
    let came = wire
        .packets
        .iter()
        .find(|p| p.host == "hub" && [one, three].contains(&p.from))
        .expect("they came")
        .at;
    let kept = |peer| {
        let asks = |p: &&Packet| p.host == "hub" && (p.from, p.to) == (peer, at(FOUR.access)) && asks_stun(p);
        wire.packets.iter().filter(asks).filter(|p| p.at < came).count() as u32
    };
    println!("{} keep-alives in {idle} s, and {}", kept(two), kept(four));
    assert!(kept(two) >= idle / 20 && kept(four) == 0, "{} and {}\n{}", kept(two), kept(four), told(&wire));
    let steps: [Step<'_>; 2] = [
        ("the instruction", &|p| p.host == "e2" && is_inside(p) && carrying(p, NOTICE).is_some()),
        ("the NOTIFY", &|p| p.host == "e2" && p.from == one && is_presence(&p.payload, "active")),
    ];
    in_order(&wire, &steps);
    if !long {
        let steps: [Step<'_>; 2] = [
            ("the instruction, to a mapping that is gone", &|p| p.host == "r-mill" && instructs(p, four)),
            ("the NOTIFY likewise", &|p| p.host == "r-mill" && notifies(p, three, four)),
        ];
        in_order(&wire, &steps);
    }
    let inside = wire.since(came).filter(|p| p.host == "e4" && is_inside(p));
    assert!(inside.is_empty(), "e4 hears\n{}", told(&inside));
    for (report, other, online) in
        [(&e2, "e1", true), (&e3, "e4", false), (&e4, "e3", false), (&e6, "e5", true), (&e8, "e5", true)]
    {
        assert_eq!(report["buddies"][format!("{other}@peers.test")]["online"], online, "{report:#}");
    }
    for (report, life, what) in [(&e6, 10_000, "shorter than 18 s"), (&e8, 5_000, "shorter than 7 s")] {
        let from = |p: &&Packet| p.host == "hub" && p.from.ip() == external(report).ip();
        let logins = wire.packets.iter().filter(from).filter_map(|p| carrying(p, LOGIN).and_then(read));
        let lives: Vec<Option<u32>> = logins.map(|login: Login| login.verdict.life_ms).collect();
        assert_eq!((lives[0], lives[lives.len() - 1]), (None, Some(life)), "at least that, and {what}");
    }
}

#[test]
fn scenario_2d_a_public_e2_is_told_nothing_and_notified_directly() {
    let Some(hub) = Hub::up("-s home:port-restricted:e1 -p e2=203.0.113.20", &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "e2"]);
    let mut e2 = hub.peer("e2", "e2", 60, &["--local", "203.0.113.20:5060"]);
    hub.until_online(1);
    let mut e1 = hub.peer("e1", "e1", 60, &[]);
    hub.until_online(2);
    e1.meets("e2");
    e2.meets_directly("e1");
    // Before anybody leaves: e2 is told of that.
    let wire = recorder.stop();
    let [e2, e1] = leave([e2, e1]);
    let (one, two) = (external(&e1), at("203.0.113.20:5060"));
    let steps: [Step<'_>; 2] = [
        ("the profile", &|p| p.host == "hub" && p.to == one && carrying(p, PROFILE).is_some()),
        ("NOTIFY from e1's own mapping", &|p| p.host == "e2" && notifies(p, one, two)),
    ];
    in_order(&wire, &steps);
    let instructed = wire.filter(|p| p.from == at(FOUR.access) && carrying(p, NOTICE).is_some());
    assert!(instructed.is_empty(), "nobody is told anything\n{}", told(&instructed));
    let first = wire.packets.iter().find(|p| p.host == "e2" && (p.from, p.to) == (two, one));
    let heard = wire.packets.iter().find(|p| p.host == "e2" && p.from == one);
    assert!(first.map(|p| p.at) > heard.map(|p| p.at), "e2 only answers\n{}", told(&wire));
    assert_eq!((&e2["punches"], &e2["buddies"]["e1@peers.test"]["path"]), (&0.into(), &"direct".into()));
}

/// e2 has died and has told nobody. Its account says online until its lease ends; e1 has it offline, by its own trial.
#[test]
fn scenario_2f_e2_is_dead_and_e1_logs_in_all_the_same_and_shows_it_offline() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2:addr=203.0.113.102";
    let Some(hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "r-office"]);
    let mut e2 = hub.peer("e2", "e2", 60, &[]);
    hub.until_online(1);
    e2.kill();
    let e1 = hub.peer("e1", "e1", 60, &[]);
    hub.until_online(2);
    recorder.sees("the NOTIFY", |p| comes_to(p, "r-office", "203.0.113.102"));
    let [e1] = leave([e1]);
    let wire = recorder.stop();
    let (one, two) = (external(&e1), seen_at(&wire, "203.0.113.102"));
    let steps: [Step<'_>; 3] = [
        ("STUN", &|p| p.host == "hub" && p.from == one && asks_stun(p)),
        ("the instruction, which nobody answers", &|p| p.host == "r-office" && instructs(p, two)),
        ("the NOTIFY, which nobody hears", &|p| p.host == "r-office" && notifies(p, one, two)),
    ];
    in_order(&wire, &steps);
    let instructed = wire.packets.iter().find(|p| p.host == "hub" && instructs(p, two)).expect("it was").at;
    let let_in = wire.packets.iter().find(|p| p.host == "e1" && carrying(p, PROFILE).is_some());
    let waited = let_in.expect("it has its profile").at.saturating_sub(instructed);
    assert!(waited < SECOND / 2 + BUSY, "the login does not wait for e2's answer, but took {waited:?}");
    assert_eq!(e1["login-status"], 200);
    assert_eq!(e1["buddies"]["e2@peers.test"]["online"], false, "{e1:#}");
}

/// Found by e1's next keep-alive; from then on it takes less than a second. One NAT gives new ports, the other moves as well.
#[test]
fn scenario_2g_a_nat_binds_anew_and_the_access_server_learns_and_peers_open_again_within_a_second() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2 -s shop:port-restricted:e3 -s mill:port-restricted:e4";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e3", "e4")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "e2", "e3", "e4"]);
    let [mut e2, mut e4] = ["e2", "e4"].map(|name| hub.peer(name, name, 120, &[]));
    hub.until_online(2);
    let [mut e1, mut e3] = ["e1", "e3"].map(|name| hub.peer(name, name, 120, &[]));
    hub.until_online(4);
    let mut pairs = [(&mut e1, &mut e2, "e1", "e2"), (&mut e3, &mut e4, "e3", "e4")];
    for (mover, stayer, mover_name, stayer_name) in &mut pairs {
        mover.meets_directly(stayer_name);
        stayer.meets_directly(mover_name);
    }
    let before = recorder.so_far();
    hub.lab.rebind("home", None);
    hub.lab.rebind("shop", Some(Ipv4Addr::new(203, 0, 113, 77)));
    for (_, stayer, mover_name, stayer_name) in pairs {
        let tells = |p: &Packet| p.host == stayer_name && is_presence(&p.payload, "active");
        let known = |from| before.packets.iter().any(|p| tells(p) && p.from == from);
        recorder.sees("the NOTIFY from a new mapping", |p| tells(p) && !known(p.from));
        stayer.meets_directly(mover_name);
    }
    let [e2, e4, e1, e3] = leave([e2, e4, e1, e3]);
    let wire = recorder.stop();
    assert_eq!(external(&e3).ip(), Ipv4Addr::new(203, 0, 113, 77), "{e3:#}");
    for (mover, stayer, host, name) in [(&e1, &e2, "e2", "e1"), (&e3, &e4, "e4", "e3")] {
        let now = external(mover);
        let steps: [Step<'_>; 4] = [
            ("the access server hears it from its new mapping", &|p| {
                p.host == "hub" && (p.from, p.to) == (now, at(FOUR.access))
            }),
            ("it has the other open its NAT", &|p| p.host == "hub" && instructs(p, external(stayer))),
            ("which it does", &|p| p.host == host && p.to == now && is_check(p)),
            ("and is told from the new mapping", &|p| {
                p.host == host && p.from == now && is_presence(&p.payload, "active")
            }),
        ];
        let found = in_order(&wire, &steps);
        let took = found[3].at - found[0].at;
        println!("{name}: {took:?} from the first word from the new mapping until its buddy is told");
        assert!(took < SECOND + BUSY, "{name}: {took:?}\n{}", told(&wire));
        let report = &stayer["buddies"][format!("{name}@peers.test")];
        assert_eq!((&report["online"], &report["path"]), (&true.into(), &"direct".into()), "{stayer:#}");
        assert_eq!(report["address"], now.to_string(), "{stayer:#}");
    }
}
