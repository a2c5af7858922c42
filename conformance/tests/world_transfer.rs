//! Transfers between parties of two proxies (RFC 3515, RFC 3891, RFC 5589): alice talks to bob, and makes him talk to carol.

use std::time::Duration;

use conformance::cast::{Cast, P1, P2, Plot, SITES, Site, add_phone, script, without_chance};
use conformance::world::{INTERNET, NodeId, Rules, World};
use endpoint_sim::{Act, After, EndedBy, Phone, Report, Script, Step};
use proto::node::Input;
use proto::sip::Name;

const SECOND: Duration = Duration::from_secs(1);
const NAT: Site = Some(Rules::PORT_RESTRICTED);

/// Carol, behind a NAT of her own unless she lives in public, served by this proxy.
fn add_carol(cast: &mut Cast, site: Site, proxy: &str) -> NodeId {
    let home = match site {
        Some(rules) => {
            let nat = cast.world.nat("nat-c", INTERNET, "198.51.100.3", rules);
            (cast.world.inside(nat), "10.0.0.2")
        }
        None => (INTERNET, "192.0.2.40"),
    };
    let (_, carol) = add_phone(&mut cast.world, home, "carol", proxy, script(vec![]));
    cast.mobile = Some(carol);
    carol
}

/// Registers, and does these one after another from the moment its call is up.
fn calls_bob_and(steps: Vec<Step>) -> Script {
    let call = Step::call("sip:bob@example.com", After::Registered, 2000);
    script([vec![call], steps].concat())
}

/// Bob is told to call carol by her address of record.
fn blindly() -> Script {
    let to = Some("sip:carol@example.com".to_owned());
    calls_bob_and(vec![Step { to, ..Step::new(Act::Transfer, After::Answered, 2000) }])
}

/// Bob waits while alice talks to carol; then he is told to take her place in that call.
fn after_consultation() -> Script {
    let to = Some("sip:carol@example.com".to_owned());
    calls_bob_and(vec![
        Step::new(Act::Hold, After::Answered, 1000),
        Step { to, ..Step::new(Act::Consult, After::Previous, 1000) },
        Step::new(Act::TransferConsulted, After::Answered, 2000),
    ])
}

/// Plays until bob and carol have talked for three seconds and bob has hung up.
fn play(cast: &mut Cast, carol: NodeId) -> [Report; 3] {
    let bob = cast.bob;
    let hears = |w: &World, who: NodeId, whom: &str| {
        let report = w.node::<Phone>(who).report();
        report.heard.get(whom).is_some_and(|heard| *heard > 100)
    };
    let up = |w: &World| hears(w, bob, "carol@example.com") && hears(w, carol, "bob@example.com");
    assert!(cast.world.run_until(up, 60 * SECOND), "they never talk\n{}", ladder(cast));
    [cast.alice, cast.bob, carol].map(|phone| cast.report(phone).clone())
}

fn ladder(cast: &Cast) -> String {
    without_chance(&cast.world.ladder())
}

/// Bob hangs up, and nothing is left.
fn end(cast: &mut Cast) {
    let bob = cast.bob;
    cast.world.tell(bob, Input::Drain);
    cast.assert_clean();
    cast.assert_no_media_to_strangers();
}

fn assert_transferred([alice, bob, carol]: &[Report; 3], cast: &Cast) {
    assert_eq!(alice.transfer_status, Some(200), "{alice:#?}\n{}", ladder(cast));
    assert!(alice.ended_by.is_some(), "{alice:#?}\n{}", ladder(cast));
    assert!(bob.heard_only("carol@example.com") && carol.heard_only("bob@example.com"), "{bob:#?}{carol:#?}");
    assert!(bob.audio_both_ways && carol.audio_both_ways, "{bob:#?}{carol:#?}");
}

/// The Refer-To of the REFER that reached a phone.
fn referred_to(cast: &Cast, phone: NodeId) -> String {
    let refer = cast.world.packets().iter().filter(|entry| entry.receiver() == Some(phone));
    let refer = refer.filter_map(|entry| entry.sip()).find(|message| message.text(Name::ReferTo).is_some());
    refer.unwrap_or_else(|| panic!("no REFER\n{}", ladder(cast))).text(Name::ReferTo).unwrap().to_owned()
}

/// RFC 3515 §2.4, RFC 5589 §6.1.
#[test]
fn a_blind_transfer_from_behind_a_nat_to_a_third_party_at_either_proxy() {
    for proxy in [P1, P2] {
        let mut cast = Plot { alice: blindly(), ..Plot::default() }.begin();
        let carol = add_carol(&mut cast, NAT, proxy);
        let reports = play(&mut cast, carol);
        assert_transferred(&reports, &cast);
        assert_eq!(reports[0].ended_by, Some(EndedBy::Us));
        end(&mut cast);
    }
}

/// RFC 3891 §3, RFC 5589 §7.1: bob takes alice's place in her call with carol, whom he reaches by the name that carol's
/// serving proxy gave her Contact.
#[test]
fn an_attended_transfer_between_parties_of_two_proxies_behind_three_nats() {
    for (proxy, at) in [(P2, "203.0.113.2:5060"), (P1, "203.0.113.1:5060")] {
        let mut cast = Plot { alice: after_consultation(), ..Plot::default() }.begin();
        let carol = add_carol(&mut cast, NAT, proxy);
        let reports = play(&mut cast, carol);
        let refer_to = referred_to(&cast, cast.bob);
        assert!(refer_to.contains(&format!("@{at}")) && !refer_to.contains("10.0.0.2"), "{refer_to}");
        assert_transferred(&reports, &cast);
        assert_eq!(reports[2].replaced, 1);
        end(&mut cast);
        if proxy == P2 {
            insta::assert_snapshot!(ladder(&cast));
        }
    }
}

/// Wherever bob and carol live: every pair of sites, by both kinds of transfer.
#[test]
fn a_transfer_has_audio_between_any_two_sites() {
    for (_, bob) in SITES {
        for (_, site) in SITES {
            for plays in [blindly, after_consultation] {
                let mut cast = Plot { sites: [NAT, bob], alice: plays(), ..Plot::default() }.begin();
                let carol = add_carol(&mut cast, site, P1);
                let reports = play(&mut cast, carol);
                assert_transferred(&reports, &cast);
                end(&mut cast);
            }
        }
    }
}

/// Carol's proxy is restarted between the consultation and the transfer: the name is all it needs.
#[test]
fn a_proxy_killed_before_the_transfer_still_knows_whom_the_name_means() {
    let mut cast = Plot { alice: after_consultation(), ..Plot::default() }.begin();
    let carol = add_carol(&mut cast, NAT, P2);
    let consulted = |w: &World| w.node::<Phone>(carol).report().heard.contains_key("alice@example.com");
    assert!(cast.world.run_until(consulted, 30 * SECOND), "{}", ladder(&cast));
    cast.world.kill(cast.p2);
    cast.world.restart(cast.p2);
    let reports = play(&mut cast, carol);
    assert_transferred(&reports, &cast);
    end(&mut cast);
}

/// RFC 3515 §2.4.4: the transferor hears of a failure, and may go on.
#[test]
fn a_transfer_to_nobody_is_told_to_who_asked_for_it() {
    let to = Some("sip:nobody@example.com".to_owned());
    let alice = calls_bob_and(vec![Step { to, ..Step::new(Act::Transfer, After::Answered, 2000) }]);
    let mut cast = Plot { alice, ..Plot::default() }.begin();
    let phone = cast.alice;
    let told = |w: &World| w.node::<Phone>(phone).report().transfer_status == Some(404);
    assert!(cast.world.run_until(told, 60 * SECOND), "{}", ladder(&cast));
    cast.world.tell(phone, Input::Drain);
    cast.assert_clean();
}
