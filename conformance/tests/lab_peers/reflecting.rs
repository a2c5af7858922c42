//! System 3's other scenarios on real NATs: 3f and 3g of US 8,139,578, read from captures.

use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, Step, in_order, told};
use conformance::lab::wire::Packet;
use proto::peer::ticket::read_reflected;
use proto::peer::words::{NOTICE, Notice, PROFILE, read};

use crate::BUSY;
use crate::steps::{at, carrying, external, is_check, is_presence};

const SECOND: Duration = Duration::from_secs(1);

/// By consent where the path is direct (RFC 7675), by the access server's lease where it is not.
#[test]
fn scenario_3f_buddies_that_crash_are_shown_offline_by_consent_and_by_lease() {
    let sites = "-s home:symmetric:e1 -s office:symmetric:e2 -s shop:full-cone:e3";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e1", "e3")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "e3"]);
    let mut buddies = ["e2", "e3"].map(|name| hub.peer(name, name, 120, &[]));
    hub.until_online(2);
    let mut e1 = hub.peer("e1", "e1", 120, &[]);
    hub.until_online(3);
    buddies.iter_mut().for_each(|buddy| buddy.meets("e1"));
    ["e2", "e3"].into_iter().for_each(|buddy| e1.meets(buddy));
    buddies.iter_mut().for_each(Online::kill);
    ["e3", "e2"].into_iter().for_each(|buddy| e1.misses(buddy));
    e1.leave();
    let (e1, wire) = (e1.report(), recorder.stop());
    for name in ["e2", "e3"] {
        assert_eq!(e1["buddies"][format!("{name}@peers.test")]["online"], false, "{name}\n{e1:#}");
    }
    let gone = |p: &Packet, whom: &str| {
        let notice = carrying(p, NOTICE).and_then(read);
        p.host == "e1" && matches!(notice, Some(Notice::Gone(aor)) if aor.starts_with(whom))
    };
    let by_lease = wire
        .packets
        .iter()
        .find(|p| gone(p, "e2"))
        .unwrap_or_else(|| panic!("e2 never goes\n{}", told(&wire)));
    let last =
        wire.packets.iter().rev().find(|p| p.host == "e3" && p.from.ip().to_string().starts_with("192.168."));
    let crashed = last.expect("e3 has lived").at;
    let took = by_lease.at - crashed;
    println!("by lease after {took:?}");
    assert!(took < 75 * SECOND, "by lease after {took:?}");
    // A check that nobody answers, and another; then e1 asks no more.
    let asked: Vec<Duration> = wire
        .packets
        .iter()
        .filter(|p| p.host == "e3" && p.at > crashed && is_check(p))
        .map(|p| p.at)
        .collect();
    let until = *asked.last().expect("e1 asks whether e3 still wants to hear it");
    println!("by consent after {:?}, {} unanswered", until - crashed, asked.len());
    assert!(until - crashed < 25 * SECOND, "e1 gives up after {:?}", until - crashed);
}

/// e2 says full cone and is port-restricted.
#[test]
fn scenario_3g_a_wrong_nat_type_costs_less_than_a_second() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2";
    let Some(hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "r-office", "e2"]);
    let mut e2 = hub.peer("e2", "e2", 60, &["--nat", "full-cone"]);
    hub.until_online(1);
    let mut e1 = hub.peer("e1", "e1", 60, &["--nat", "port-restricted"]);
    hub.until_online(2);
    e2.meets_directly("e1");
    // The first still sees the other.
    e2.leave();
    let e2 = e2.report();
    e1.leave();
    let (e1, wire) = (e1.report(), recorder.stop());
    let (one, two) = (external(&e1), external(&e2));
    let reflector = at(FOUR.reflector);
    let passed =
        |p: &Packet| read_reflected(&p.payload).is_some_and(|(_, inside)| is_presence(inside, "active"));
    let steps: [Step<'_>; 4] = [
        ("the profile", &|p| p.host == "e1" && carrying(p, PROFILE).is_some()),
        ("NOTIFY, directly, as the type says; e2's NAT does not let it in", &|p| {
            p.host == "r-office" && (p.from, p.to) == (one, two) && is_presence(&p.payload, "active")
        }),
        ("then by the reflector", &|p| p.host == "e2" && p.from == reflector && passed(p)),
        ("e2 asks who that is, and opens the direct path", &|p| p.host == "e2" && p.to == one && is_check(p)),
    ];
    let found = in_order(&wire, &steps);
    let took = found[2].at - found[0].at;
    println!("{took:?} from the profile until e2 is told");
    assert!(took < SECOND + BUSY, "{took:?}\n{}", told(&wire));
    let early = wire.packets.iter().find(|p| p.host == "e2" && is_presence(&p.payload, "active"));
    assert!(early.is_none_or(|p| p.at > found[3].at), "directly before e2 has opened\n{}", told(&wire));
    let buddy = &e2["buddies"]["e1@peers.test"];
    assert_eq!((&buddy["online"], &buddy["path"]), (&true.into(), &"direct".into()), "{e2:#}");
}
