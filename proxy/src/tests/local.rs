//! Stories of one proxy whose users call one another: forking, networks, families, and phones that move.

use std::time::Duration;

use proto::event::{Event, Rule};
use proto::sip::{Message, Name};

use crate::config::{Listener, MediaRange, Network};
use crate::tests::net::*;
use crate::tests::testing::address;

const BOB: &str = "sip:bob@a.example";

fn alice() -> Phone {
    Phone::public("alice", "198.51.100.7:5060", P1)
}

pub(crate) fn hidden_alice() -> Phone {
    Phone::behind_nat("alice", "198.51.100.1:40001", "10.0.0.2:5060", P1)
}

fn desk() -> Phone {
    Phone::public("bob", "192.0.2.7:5060", P1)
}

fn mobile() -> Phone {
    Phone::behind_nat("bob", "192.0.2.1:50001", "10.0.0.3:5070", P1)
}

pub(crate) fn ring(net: &mut Net, alice: &mut Phone, to: &str) -> Vec<Packet> {
    let invite = alice.invite(to, &alice.sdp());
    net.say(&alice.seen_at.clone(), alice.proxy, invite)
}

pub(crate) fn answer(net: &mut Net, phone: &Phone, request: &Message, status: u16) -> Vec<Packet> {
    let sdp = if (200..300).contains(&status) { phone.sdp() } else { String::new() };
    net.say(&phone.seen_at, phone.proxy, phone.answer(request, status, &sdp))
}

/// The ports of the relay an SDP names.
fn port_of(message: &Message) -> String {
    let sdp = sdp_of(message);
    assert!(sdp.contains(&format!("c=IN IP4 {MEDIA}")), "{sdp}");
    sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap().split(' ').next().unwrap().to_string()
}

fn rules(net: &Net) -> Vec<(Rule, bool)> {
    let rule = |(_, event): &(_, Event)| match event {
        Event::MediaDecided(told) => Some((told.rule, told.anchored)),
        _ => None,
    };
    let mut rules: Vec<_> = net.events.iter().filter_map(rule).collect();
    rules.dedup();
    rules
}

// Forking (RFC 3261 §16.6, §16.7).

/// Bob's two devices ring.
fn fork(alice: &mut Phone, devices: &mut [Phone]) -> (Net, Vec<Message>) {
    let mut net = Net::new();
    devices.iter_mut().for_each(|device| device.register(&mut net));
    let got = ring(&mut net, alice, BOB);
    let invite = |device: &Phone| asked(&got, device, "INVITE").expect("every device rings").message;
    let invites = devices.iter().map(invite).collect();
    (net, invites)
}

#[test]
fn each_branch_has_ports_of_its_own_and_losers_give_theirs_back() {
    let (mut alice, mut devices) = (hidden_alice(), [desk(), mobile()]);
    let (mut net, invites) = fork(&mut alice, &mut devices);
    assert_eq!(net.relay.sessions.len(), 2);
    assert_ne!(port_of(&invites[0]), port_of(&invites[1]));
    let got = answer(&mut net, &devices[0], &invites[0], 200);
    let ok = told(&got, &alice).pop().unwrap();
    assert_eq!(ok.status(), Some(200));
    let cancel = asked(&got, &devices[1], "CANCEL");
    // No provisional response has come from the mobile, so CANCEL must wait (RFC 3261 §9.1).
    assert!(cancel.is_none());
    let got = answer(&mut net, &devices[1], &invites[1], 180);
    let cancel = asked(&got, &devices[1], "CANCEL").expect("now it is cancelled");
    answer(&mut net, &devices[1], &cancel.message, 200);
    let got = answer(&mut net, &devices[1], &invites[1], 487);
    assert!(told(&got, &alice).is_empty());
    assert!(asked(&got, &devices[1], "ACK").is_some());
    assert_eq!(net.relay.sessions.len(), 1, "{:#?}", net.steps());
}

#[test]
fn only_the_branch_behind_a_nat_is_anchored() {
    let (mut alice, mut devices) = (alice(), [desk(), mobile()]);
    let (net, invites) = fork(&mut alice, &mut devices);
    assert_eq!(sdp_of(&invites[0]), alice.sdp());
    port_of(&invites[1]);
    assert_eq!(net.relay.sessions.len(), 1);
}

#[test]
fn when_all_devices_decline_the_best_answer_goes_back_and_no_ports_are_held() {
    let (mut alice, mut devices) = (hidden_alice(), [desk(), mobile()]);
    let (mut net, invites) = fork(&mut alice, &mut devices);
    let got = answer(&mut net, &devices[0], &invites[0], 486);
    assert!(told(&got, &alice).iter().all(|m| m.status() == Some(100)));
    let got = answer(&mut net, &devices[1], &invites[1], 480);
    assert!(matches!(told(&got, &alice).pop().unwrap().status(), Some(486 | 480)));
    assert_eq!(net.relay.sessions.len(), 0);
}

#[test]
fn a_603_ends_all_branches() {
    let (mut alice, mut devices) = (hidden_alice(), [desk(), mobile()]);
    let (mut net, invites) = fork(&mut alice, &mut devices);
    answer(&mut net, &devices[1], &invites[1], 180);
    let got = answer(&mut net, &devices[0], &invites[0], 603);
    let cancel = asked(&got, &devices[1], "CANCEL").expect("the other is cancelled");
    answer(&mut net, &devices[1], &cancel.message, 200);
    let got = answer(&mut net, &devices[1], &invites[1], 487);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(603));
    assert_eq!(net.relay.sessions.len(), 0);
}

#[test]
fn two_200s_make_two_dialogs_that_each_end_by_their_own_bye() {
    let (mut alice, mut devices) = (alice(), [desk(), mobile()]);
    let (mut net, invites) = fork(&mut alice, &mut devices);
    let first = told(&answer(&mut net, &devices[0], &invites[0], 200), &alice).pop().unwrap();
    let second = told(&answer(&mut net, &devices[1], &invites[1], 200), &alice).pop();
    let second = second.expect("a second 200 goes back, too (§16.7 step 5)");
    assert_ne!(first.to_tag(), second.to_tag());
    for (ok, device) in [(first, &devices[0]), (second, &devices[1])] {
        let bye = alice.in_dialog("BYE", &ok, "");
        let got = net.say(&alice.seen_at.clone(), P1, bye);
        let bye = asked(&got, device, "BYE").expect("each BYE reaches its device").message;
        answer(&mut net, device, &bye, 200);
    }
    net.pass(Duration::from_secs(64));
    assert_eq!((net.relay.sessions.len(), net.status(P1).calls), (0, 0));
}

#[test]
fn devices_of_lower_preference_ring_after_the_others_have_declined() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    let (mut first, mut second) = (desk(), mobile());
    first.register(&mut net);
    second.register(&mut net);
    let tables = &mut net.stations.get_mut(&address(P1)).unwrap().tables;
    tables.bindings.get_mut("bob@a.example").unwrap()[1].q = 500;
    let got = ring(&mut net, &mut alice, BOB);
    let invite = asked(&got, &first, "INVITE").expect("the desk rings").message;
    assert!(asked(&got, &second, "INVITE").is_none());
    let got = answer(&mut net, &first, &invite, 486);
    let invite = asked(&got, &second, "INVITE").expect("then the mobile").message;
    let got = answer(&mut net, &second, &invite, 200);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(200));
    assert_eq!(net.relay.sessions.len(), 1, "{:#?}", net.steps());
}

// Two networks (1j): a PBX inside, phones outside, one-to-one NAT.

pub(crate) const INSIDE: &str = "10.0.0.1:5060";
pub(crate) const ADVERTISED: &str = "203.0.113.77:5060";

pub(crate) fn two_networks() -> Net {
    let mut net = Net::new();
    net.configure(P1, |config| {
        let network = |name: &str, cidr: &str| Network {
            name: name.into(),
            cidrs: vec![cidr.parse().unwrap()],
            hides: false,
        };
        config.networks = vec![network("outside", "0.0.0.0/0"), network("inside", "10.0.0.0/8")];
        config.listeners[0].advertise = address(ADVERTISED);
        let (bind, advertise) = (address(INSIDE), address(INSIDE));
        config.listeners.push(Listener { network: 1, bind, advertise, ..config.listeners[0].clone() });
        config.redirects.clear();
    });
    net.also_at(INSIDE, P1);
    net
}

pub(crate) fn pbx() -> Phone {
    Phone::public("pbx", "10.0.0.50:5060", INSIDE)
}

/// A call from a phone outside to the PBX, or the other way round; both behind their own addresses.
pub(crate) fn call_over_networks(net: &mut Net, from: &mut Phone, to: &mut Phone) -> (Message, Message) {
    to.register(net);
    let got = ring(net, from, &format!("sip:{}@a.example", to.user));
    let invite = asked(&got, to, "INVITE").unwrap_or_else(|| panic!("{:#?}", net.steps())).message;
    let got = answer(net, to, &invite, 200);
    let ok = told(&got, from).pop().unwrap();
    let ack = from.in_dialog("ACK", &ok, "");
    let got = net.say(&from.seen_at.clone(), from.proxy, ack);
    assert!(asked(&got, to, "ACK").is_some(), "the ACK goes through");
    (invite, ok)
}

#[test]
fn each_side_is_met_by_the_address_of_its_own_network() {
    for outside_calls in [true, false] {
        let (mut net, mut phone, mut pbx) = (two_networks(), hidden_alice(), pbx());
        let (from, to) = if outside_calls { (&mut phone, &mut pbx) } else { (&mut pbx, &mut phone) };
        let (invite, ok) = call_over_networks(&mut net, from, to);
        let own = |phone: &Phone| if phone.user == "pbx" { INSIDE } else { ADVERTISED };
        assert_eq!(invite.via().unwrap().sent_by(), own(to));
        let routes = |m: &Message| m.values(Name::RecordRoute).map(str::to_string).collect::<Vec<_>>();
        assert_eq!(routes(&invite).len(), 2, "double Record-Route (RFC 5658)");
        assert!(routes(&invite)[0].contains(own(to)), "the callee's next hop stands in its own network");
        assert!(routes(&ok)[1].contains(own(from)), "and so does the caller's");
        let asks = net.relay.sessions.values().next().unwrap();
        let names = if outside_calls { ["outside", "inside"] } else { ["inside", "outside"] };
        assert_eq!(asks[0].networks, names.map(String::from));
    }
}

#[test]
fn in_dialog_requests_cross_networks_both_ways() {
    let (mut net, mut phone, mut pbx) = (two_networks(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut phone, &mut pbx);
    let again = pbx.in_dialog("INVITE", &invite, &pbx.sdp());
    let got = net.say("10.0.0.50:5060", INSIDE, again);
    let again = asked(&got, &phone, "INVITE").expect("the re-INVITE reaches the phone").message;
    port_of(&again);
    answer(&mut net, &phone, &again, 200);
    let bye = phone.in_dialog("BYE", &ok, "");
    let got = net.say(&phone.seen_at.clone(), P1, bye);
    let bye = asked(&got, &pbx, "BYE").expect("the BYE reaches the PBX").message;
    answer(&mut net, &pbx, &bye, 200);
    assert_eq!(net.relay.sessions.len(), 0);
}

/// The networks are not in the token: the way of the request tells them.
#[test]
fn a_restarted_proxy_names_the_right_networks_to_the_relay() {
    for by_callee in [true, false] {
        let (mut net, mut phone, mut pbx) = (two_networks(), hidden_alice(), pbx());
        let (invite, ok) = call_over_networks(&mut net, &mut phone, &mut pbx);
        net.restart(P1);
        let got = match by_callee {
            true => {
                let again = pbx.in_dialog("INVITE", &invite, &pbx.sdp());
                net.say("10.0.0.50:5060", INSIDE, again)
            }
            false => {
                let again = phone.in_dialog("INVITE", &ok, &phone.sdp());
                net.say(&phone.seen_at.clone(), P1, again)
            }
        };
        assert!(asked(&got, if by_callee { &phone } else { &pbx }, "INVITE").is_some());
        let asks = net.relay.sessions.values().next().unwrap();
        assert_eq!(asks.last().unwrap().networks, ["outside", "inside"].map(String::from));
    }
}

#[test]
fn a_private_pbx_and_a_public_phone_meet_at_the_relay() {
    let mut net = two_networks();
    let (mut phone, mut pbx) = (alice(), pbx());
    call_over_networks(&mut net, &mut phone, &mut pbx);
    assert_eq!(rules(&net), [(Rule::PrivateToPublic, true)]);
}

#[test]
fn two_phones_inside_talk_directly() {
    let mut net = two_networks();
    let mut second = Phone::public("carol", "10.0.0.51:5060", INSIDE);
    call_over_networks(&mut net, &mut pbx(), &mut second);
    assert_eq!(rules(&net), [(Rule::SameNetwork, false)]);
    assert_eq!(net.relay.begun, 0);
}

// IPv6: tokens that need two Record-Routes.

#[test]
fn an_anchored_call_between_ipv4_and_ipv6_ends_by_either_bye() {
    const V6: &str = "[2001:db8::1]:5060";
    for caller_hangs_up in [true, false] {
        let mut net = Net::new();
        net.configure(P1, |config| {
            let (bind, advertise) = (address(V6), address(V6));
            config.listeners.push(Listener { bind, advertise, ..config.listeners[0].clone() });
            config.redirects.clear();
            let ip = "2001:db8::9".parse().unwrap();
            config.relays[0].media.push(MediaRange { ip, ports: 20000..=29999 });
        });
        net.also_at(V6, P1);
        let mut caller = Phone::public("six", "[2001:db8::50]:5060", V6);
        let mut callee = desk();
        let (invite, ok) = call_over_networks(&mut net, &mut caller, &mut callee);
        assert_eq!(rules(&net), [(Rule::FamiliesDiffer, true)]);
        net.restart(P1);
        net.pass(Duration::from_secs(2));
        let (bye, from, to) = match caller_hangs_up {
            true => (caller.in_dialog("BYE", &ok, ""), &caller, &callee),
            false => (callee.in_dialog("BYE", &invite, ""), &callee, &caller),
        };
        let got = net.say(&from.seen_at, from.proxy, bye);
        let bye = asked(&got, to, "BYE").expect("the BYE goes through").message;
        answer(&mut net, to, &bye, 200);
        assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
    }
}

// One NAT for both.

#[test]
fn two_phones_behind_one_nat_talk_directly_when_configured_so() {
    for same_nat_direct in [true, false] {
        let mut net = Net::new();
        net.configure(P1, |config| config.same_nat_direct = same_nat_direct);
        let mut alice = Phone::behind_nat("alice", "192.0.2.1:40001", "10.0.0.2:5060", P1);
        let mut bob = mobile();
        let (invite, _) = call_over_networks(&mut net, &mut alice, &mut bob);
        assert_eq!(rules(&net), [(Rule::SameNat, !same_nat_direct)]);
        assert_eq!(sdp_of(&invite) == alice.sdp(), same_nat_direct);
    }
}

// What is no offer and no answer.

#[test]
fn an_sdp_beside_the_negotiation_is_not_the_relays_business() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), desk());
    let (_, ok) = call_over_networks(&mut net, &mut alice, &mut bob);
    let before = net.steps().iter().filter(|step| *step == "P1 INVITE relay").count();
    for method in ["OPTIONS", "BYE"] {
        let request = alice.in_dialog(method, &ok, "");
        let got = net.say(&alice.seen_at.clone(), P1, request);
        let request = asked(&got, &bob, method).expect("it reaches Bob").message;
        let got = answer(&mut net, &bob, &request, 200);
        assert_eq!(sdp_of(told(&got, &alice).last().unwrap()), bob.sdp());
    }
    assert_eq!(net.steps().iter().filter(|step| *step == "P1 INVITE relay").count(), before);
    assert_eq!(net.relay.sessions.len(), 0);
}

// One host for everything.

#[test]
fn a_phone_at_a_siblings_address_is_still_a_phone() {
    let mut net = Net::new();
    net.configure(P1, |config| config.siblings.cidrs.push("0.0.0.0/0".parse().unwrap()));
    let (mut alice, mut bob) = (alice(), mobile());
    bob.register(&mut net);
    let got = ring(&mut net, &mut alice, BOB);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called").message;
    assert_eq!(rules(&net), [(Rule::SignsOfNat, true)]);
    assert!(
        invite.text(Name::RelayVerdict).is_none(),
        "what our proxies say to one another is not for phones"
    );
    assert!(invite.text(Name::NodeAuth).is_none());
    let got = answer(&mut net, &bob, &invite, 200);
    let ok = told(&got, &alice).pop().unwrap();
    assert!(ok.text(Name::RelayVerdict).is_none() && ok.text(Name::NodeAuth).is_none());
}
