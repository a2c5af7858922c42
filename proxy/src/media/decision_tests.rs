//! Each row of the table in [`super`], and each of its negations: a scene in which the row decides, and the same
//! scene with one fact turned, in which it does not.

use super::*;

const PUBLIC_A: &str = "198.51.100.1";
const PUBLIC_B: &str = "203.0.113.2";
const NAT: &str = "192.0.2.77";
const LAN_A: &str = "192.168.1.10";
const LAN_B: &str = "192.168.1.11";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A party whose signalling comes from `source` and whose SDP names `sdp`.
fn party(source: &str, sdp: &[&str]) -> Party {
    let flow = Flow::udp("192.0.2.200:5060".parse().unwrap(), SocketAddr::new(ip(source), 5060));
    let network = usize::from(source.starts_with("192.168."));
    Party { flow, network, sdp: sdp.iter().map(|s| ip(s)).collect(), ice: false, signs_of_nat: false }
}

fn honest(source: &str) -> Party {
    party(source, &[source])
}

/// A phone at home: private inside, its router's address outside.
fn behind_nat(source: &str) -> Party {
    Party { signs_of_nat: true, ..party(source, &[LAN_A]) }
}

/// A callee that has registered and not spoken yet.
fn registered(source: &str) -> Party {
    party(source, &[])
}

fn scene(caller: Party, callee: Party) -> Seen {
    Seen {
        keys_differ: false,
        hides: false,
        anchor: Anchor::Auto,
        caller: Some(caller),
        callee: Callee::Known(callee),
        same_nat_direct: false,
        remembered: false,
    }
}

fn both_public() -> Seen {
    scene(honest(PUBLIC_A), honest(PUBLIC_B))
}

#[track_caller]
fn anchors(seen: &Seen, rule: Rule) {
    let decision = decide(seen).unwrap();
    assert_eq!((decision.anchored, decision.rule), (true, rule), "{seen:?}");
}

#[track_caller]
fn is_direct(seen: &Seen, rule: Rule) {
    let decision = decide(seen).unwrap();
    assert_eq!((decision.anchored, decision.rule), (false, rule), "{seen:?}");
}

// Row 1.

#[test]
fn configuration_decides_before_any_address() {
    let nat = scene(behind_nat(NAT), honest(PUBLIC_B));
    is_direct(&Seen { anchor: Anchor::Never, ..nat.clone() }, Rule::ConfiguredNever);
    anchors(&Seen { anchor: Anchor::Always, ..both_public() }, Rule::ConfiguredAlways);
    anchors(&nat, Rule::UnreachableAddress);
    is_direct(&both_public(), Rule::BothPublic);
}

#[test]
fn always_wins_over_never_wins_over_auto() {
    use Anchor::{Always, Auto, Never};
    assert_eq!(strictest([Auto, Never, Always]), Always);
    assert_eq!(strictest([Always, Auto]), Always);
    assert_eq!(strictest([Never, Auto]), Never);
    assert_eq!(strictest([]), Auto);
}

// A sibling's word.

#[test]
fn a_caller_its_sibling_vouches_for_stands_where_its_sdp_says() {
    let text = answer(PUBLIC_A);
    let sibling = Flow::udp("203.0.113.9:5060".parse().unwrap(), "203.0.113.8:5060".parse().unwrap());
    let caller = Party::vouched(&sibling, &Sdp::parse(&text).unwrap(), |_| 0).unwrap();
    assert_eq!(caller.flow.remote.ip(), ip(PUBLIC_A));
    is_direct(&scene(caller.clone(), registered(PUBLIC_B)), Rule::BothPublic);
    anchors(&scene(caller.clone(), registered(PUBLIC_A)), Rule::SameNat);
    anchors(&scene(caller, registered("2001:db8::2")), Rule::FamiliesDiffer);
}

#[test]
fn a_vouched_caller_of_whom_nothing_is_known_leaves_the_callee_to_decide() {
    is_direct(&Seen { caller: None, ..scene(honest(PUBLIC_A), registered(PUBLIC_B)) }, Rule::BothPublic);
    let callee = Party { signs_of_nat: true, ..registered(PUBLIC_B) };
    anchors(&Seen { caller: None, ..scene(honest(PUBLIC_A), callee) }, Rule::SignsOfNat);
}

// Row 2.

#[test]
fn a_late_offer_is_anchored_for_want_of_anything_to_compare() {
    anchors(&scene(party(PUBLIC_A, &[]), honest(PUBLIC_B)), Rule::NoSdp);
    is_direct(&both_public(), Rule::BothPublic);
}

#[test]
fn a_callee_that_has_not_spoken_is_judged_by_how_it_registered() {
    is_direct(&scene(honest(PUBLIC_A), registered(PUBLIC_B)), Rule::BothPublic);
    let hidden = Party { signs_of_nat: true, ..registered(PUBLIC_B) };
    anchors(&scene(honest(PUBLIC_A), hidden), Rule::SignsOfNat);
}

// Row 3.

#[test]
fn two_phones_behind_one_nat_are_anchored_unless_configured_direct() {
    let home = scene(behind_nat(NAT), Party { sdp: vec![ip(LAN_B)], ..behind_nat(NAT) });
    anchors(&home, Rule::SameNat);
    is_direct(&Seen { same_nat_direct: true, ..home }, Rule::SameNat);
    let two_homes = scene(behind_nat(NAT), behind_nat(PUBLIC_B));
    anchors(&Seen { same_nat_direct: true, ..two_homes }, Rule::UnreachableAddress);
}

#[test]
fn one_private_source_for_both_is_no_shared_nat() {
    is_direct(&scene(honest(LAN_A), honest(LAN_A)), Rule::SameNetwork);
}

// Row 4.

#[test]
fn an_address_nobody_reaches_is_anchored_from_a_public_source() {
    for unreachable in
        ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1"]
    {
        anchors(&scene(party(NAT, &[unreachable]), honest(PUBLIC_B)), Rule::UnreachableAddress);
    }
    for unreachable in ["fd00::1", "fe80::1", "::1", "ff02::1"] {
        anchors(
            &scene(party("2001:db8::77", &[unreachable]), honest("2001:db8::2")),
            Rule::UnreachableAddress,
        );
    }
}

#[test]
fn documentation_ranges_count_as_reachable() {
    for address in ["192.0.2.1", "198.51.100.1", "203.0.113.1"] {
        is_direct(&scene(honest(address), honest("8.8.8.8")), Rule::BothPublic);
    }
}

#[test]
fn one_private_address_among_several_is_enough() {
    anchors(&scene(party(PUBLIC_A, &[PUBLIC_A, LAN_A]), honest(PUBLIC_B)), Rule::UnreachableAddress);
}

#[test]
fn a_private_address_from_a_private_source_is_a_mere_difference() {
    anchors(&scene(party(LAN_A, &[LAN_B]), honest(LAN_B)), Rule::SourceDiffers);
}

// Row 5.

#[test]
fn a_source_that_differs_from_the_sdp_is_anchored_on_either_side() {
    let caller = scene(party(PUBLIC_A, &[NAT]), honest(PUBLIC_B));
    anchors(&caller, Rule::SourceDiffers);
    assert_eq!(decide(&caller).unwrap().side, Side::Caller);
    let callee = scene(honest(PUBLIC_A), party(PUBLIC_B, &[NAT]));
    anchors(&callee, Rule::SourceDiffers);
    assert_eq!(decide(&callee).unwrap().side, Side::Callee);
    is_direct(&both_public(), Rule::BothPublic);
}

#[test]
fn only_the_ip_is_compared_with_the_sdp_not_the_port() {
    let mut caller = honest(PUBLIC_A);
    caller.flow.remote.set_port(61234);
    is_direct(&scene(caller, honest(PUBLIC_B)), Rule::BothPublic);
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_the_same_address() {
    is_direct(&scene(party("::ffff:198.51.100.1", &[PUBLIC_A]), honest(PUBLIC_B)), Rule::BothPublic);
}

#[test]
fn the_caller_is_compared_before_anybody_knows_the_callee() {
    for callee in [Callee::NotYet, Callee::OfSibling] {
        let seen = |caller| Seen { callee: callee.clone(), ..scene(caller, honest(PUBLIC_B)) };
        anchors(&seen(behind_nat(NAT)), Rule::UnreachableAddress);
        anchors(&seen(party(PUBLIC_A, &[NAT])), Rule::SourceDiffers);
    }
}

#[test]
fn a_caller_that_matches_waits_for_the_callee() {
    let seen = Seen { callee: Callee::NotYet, ..both_public() };
    assert_eq!(decide(&seen), None);
    assert!(decide(&Seen { anchor: Anchor::Always, ..seen.clone() }).is_some());
    assert!(decide(&Seen { caller: Some(party(PUBLIC_A, &[])), ..seen }).is_some());
}

// Row 6.

#[test]
fn a_callee_once_found_out_is_anchored() {
    anchors(&Seen { remembered: true, ..both_public() }, Rule::DecidedTooLate);
    is_direct(&Seen { remembered: false, ..both_public() }, Rule::BothPublic);
}

// Row 7.

#[test]
fn ipv4_and_ipv6_need_the_relay_as_a_bridge() {
    anchors(&scene(honest(PUBLIC_A), honest("2001:db8::2")), Rule::FamiliesDiffer);
    anchors(&scene(honest("2001:db8::1"), honest(PUBLIC_B)), Rule::FamiliesDiffer);
    is_direct(&scene(honest("2001:db8::1"), honest("2001:db8::2")), Rule::BothPublic);
}

#[test]
fn who_is_not_to_see_the_other_side_gets_the_relays_address() {
    let seen = Seen { hides: true, ..both_public() };
    anchors(&seen, Rule::Hidden);
    anchors(&Seen { callee: Callee::OfSibling, ..seen.clone() }, Rule::Hidden);
    assert_eq!(decide(&Seen { callee: Callee::NotYet, ..seen.clone() }), None, "the callee matters");
    is_direct(&Seen { anchor: Anchor::Never, ..seen }, Rule::ConfiguredNever);
}

// Row 8.

#[test]
fn a_private_party_and_a_public_one_meet_at_the_relay() {
    let out = scene(honest(LAN_A), honest(PUBLIC_B));
    anchors(&out, Rule::PrivateToPublic);
    assert_eq!(decide(&out).unwrap().side, Side::Caller);
    let inwards = scene(honest(PUBLIC_A), honest(LAN_B));
    anchors(&inwards, Rule::PrivateToPublic);
    assert_eq!(decide(&inwards).unwrap().side, Side::Callee);
}

// Row 9.

#[test]
fn two_parties_of_one_configured_network_talk_directly() {
    let lan = scene(honest(LAN_A), honest(LAN_B));
    is_direct(&lan, Rule::SameNetwork);
    let elsewhere = Party { network: 2, ..honest(LAN_B) };
    anchors(&scene(honest(LAN_A), elsewhere), Rule::Unknown);
    is_direct(&scene(honest(LAN_A), registered(LAN_B)), Rule::SameNetwork);
    let inner_nat = Party { signs_of_nat: true, ..registered(LAN_B) };
    anchors(&scene(honest(LAN_A), inner_nat), Rule::SignsOfNat);
}

#[test]
fn a_sent_by_that_is_a_name_does_not_matter_inside_one_network() {
    is_direct(&scene(Party { signs_of_nat: true, ..honest(LAN_A) }, honest(LAN_B)), Rule::SameNetwork);
}

// Row 10.

#[test]
fn both_public_and_matching_is_direct() {
    is_direct(&both_public(), Rule::BothPublic);
}

#[test]
fn a_public_caller_towards_a_siblings_user_is_direct_on_its_side() {
    let seen = Seen { callee: Callee::OfSibling, ..both_public() };
    is_direct(&seen, Rule::BothPublic);
    assert_eq!(decide(&seen).unwrap().side, Side::Caller);
    let private = Seen { callee: Callee::OfSibling, ..scene(honest(LAN_A), honest(LAN_B)) };
    anchors(&private, Rule::Unknown);
}

// Row 11.

#[test]
fn ice_is_anchored_unless_the_parties_reach_one_another_anyway() {
    let browser = Party { signs_of_nat: true, ice: true, ..honest(PUBLIC_A) };
    anchors(&scene(browser.clone(), honest(PUBLIC_B)), Rule::Ice);
    anchors(&scene(Party { ice: false, ..browser }, honest(PUBLIC_B)), Rule::SignsOfNat);
    is_direct(&scene(Party { ice: true, ..honest(PUBLIC_A) }, honest(PUBLIC_B)), Rule::BothPublic);
    anchors(&scene(Party { ice: true, ..behind_nat(NAT) }, honest(PUBLIC_B)), Rule::UnreachableAddress);
}

// Row 12.

#[test]
fn a_sent_by_or_contact_that_differs_shows_a_nat_though_addresses_match() {
    let caller = scene(Party { signs_of_nat: true, ..honest(PUBLIC_A) }, honest(PUBLIC_B));
    anchors(&caller, Rule::SignsOfNat);
    assert_eq!(decide(&caller).unwrap().side, Side::Caller);
    let callee = scene(honest(PUBLIC_A), Party { signs_of_nat: true, ..honest(PUBLIC_B) });
    anchors(&callee, Rule::SignsOfNat);
    assert_eq!(decide(&callee).unwrap().side, Side::Callee);
    is_direct(&both_public(), Rule::BothPublic);
}

// Row 13.

#[test]
fn an_unknown_callee_is_anchored() {
    anchors(&Seen { callee: Callee::Unknown, ..both_public() }, Rule::Unknown);
}

#[test]
fn a_link_local_network_is_nobodys_network() {
    anchors(&scene(honest("169.254.1.1"), honest("169.254.1.2")), Rule::Unknown);
}

// The answer.

fn answer(address: &str) -> Vec<u8> {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    )
    .into_bytes()
}

#[test]
fn an_answer_from_elsewhere_than_it_says_is_revealed_too_late() {
    assert_eq!(reveals(&behind_nat(NAT)), Some(Rule::UnreachableAddress));
    assert_eq!(reveals(&party(PUBLIC_A, &[NAT])), Some(Rule::SourceDiffers));
    assert_eq!(reveals(&honest(NAT)), None);
}

#[test]
fn an_answer_on_hold_reveals_nothing() {
    assert_eq!(reveals(&party(NAT, &[])), None);
}

// All at once.

/// Every combination of what two parties can look like: media goes directly only where the table lets it.
#[test]
fn nothing_is_direct_that_the_table_does_not_name() {
    let places = [PUBLIC_A, PUBLIC_B, LAN_A, LAN_B, "2001:db8::1", "fd00::1", "127.0.0.1", "169.254.1.1"];
    let mut parties = vec![];
    for source in places {
        for sdp in [Some(source), Some(NAT), Some("10.0.0.1"), None] {
            for (signs_of_nat, network) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
                let sdp: Vec<_> = sdp.into_iter().collect();
                parties.push(Party { signs_of_nat, network, ..party(source, &sdp) });
            }
        }
    }
    let mut direct = 0;
    for caller in &parties {
        for callee in &parties {
            let decision = decide(&scene(caller.clone(), callee.clone())).unwrap();
            let expected = may_be_direct(caller, callee);
            assert_eq!(!decision.anchored, expected, "{caller:?} {callee:?} {decision:?}");
            direct += usize::from(expected);
        }
    }
    assert!(direct > 50, "only {direct} scenes are direct at all");
}

/// The table's direct rows, said the other way round.
fn may_be_direct(caller: &Party, callee: &Party) -> bool {
    let source = |p: &Party| p.flow.remote.ip();
    let matches = |p: &Party| p.sdp == [source(p)];
    let unspoken = |p: &Party| p.sdp.is_empty() && !p.signs_of_nat;
    let public = |p: &Party| reach(source(p)) == Reach::Public && !p.signs_of_nat;
    let private = |p: &Party| matches!(reach(source(p)), Reach::Private | Reach::Loopback);
    matches(caller)
        && (matches(callee) || unspoken(callee))
        && source(caller).is_ipv4() == source(callee).is_ipv4()
        && ((public(caller) && public(callee) && source(caller) != source(callee))
            || (private(caller) && private(callee) && caller.network == callee.network))
}

#[test]
fn the_event_tells_the_side_that_decided_and_what_was_seen_of_both() {
    let seen = scene(honest(PUBLIC_A), behind_nat(NAT));
    let caller = Sighting::BySibling(Some(ip(PUBLIC_A)));
    let Event::MediaDecided(told) = decide(&seen).unwrap().event("call".into(), &seen, caller.clone()) else {
        panic!()
    };
    assert_eq!((told.side, told.rule, told.anchored), (Side::Callee, Rule::UnreachableAddress, true));
    let callee = behind_nat(NAT).flow;
    let callee = Sighting::Party { at: callee.remote, transport: callee.transport, sdp: vec![ip(LAN_A)] };
    assert_eq!(told.seen, [caller, callee]);
}
