//! Stories of topology hiding: a PBX inside, a phone outside that is to see nothing of the inside.

use proto::hidden::PREFIX;
use proto::sip::{Message, Name, NameAddr};

use crate::tests::local::{
    ADVERTISED, INSIDE, answer, call_over_networks, hidden_alice, pbx, ring, two_networks,
};
use crate::tests::net::*;

/// Two networks, the outer one of which sees nothing of the inner one.
fn veiled() -> Net {
    let mut net = two_networks();
    net.configure(P1, |config| config.networks[0].hides = true);
    net
}

/// The user part of every URI in these headers.
fn users(message: &Message, names: &[Name]) -> Vec<String> {
    let values = names.iter().flat_map(|&name| message.values(name));
    values.map(|value| NameAddr::parse(value).unwrap().uri().unwrap().user.to_owned()).collect()
}

fn assert_nothing_inside_is_shown(message: &Message) {
    let text = String::from_utf8_lossy(message.bytes()).replace("10.0.0.2:5060", "the phone's own");
    assert!(!text.contains("10.0.0."), "{text}");
    let users = users(message, &[Name::RecordRoute, Name::Contact]);
    assert_eq!(users.len(), 3, "{text}");
    assert!(users.iter().all(|user| user.starts_with(PREFIX)), "{text}");
}

#[test]
fn a_call_that_leaves_shows_nothing_of_the_inside() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    assert_nothing_inside_is_shown(&invite);
    assert_eq!(invite.vias().count(), 1, "the PBX's own Via stays here");
    assert!(ok.via().unwrap().sent_by().starts_with("10.0.0.50"), "and is there again in the answer");
    assert!(!ok.values(Name::RecordRoute).any(|route| route.contains(PREFIX)), "inside nothing is hidden");
}

#[test]
fn an_answer_to_a_call_from_outside_shows_nothing_of_the_inside() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut phone, &mut pbx);
    assert_nothing_inside_is_shown(&ok);
    assert_eq!(ok.vias().count(), 1);
    assert!(!String::from_utf8_lossy(invite.bytes()).contains(PREFIX));
}

#[test]
fn requests_of_both_parties_find_their_way_after_a_restart_too() {
    for restarts in [false, true] {
        let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
        let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
        if restarts {
            net.restart(P1);
        }
        let again = phone.in_dialog("INVITE", &invite, &phone.sdp());
        let got = net.say(&phone.seen_at.clone(), P1, again);
        let again = asked(&got, &pbx, "INVITE").expect("the re-INVITE reaches the PBX").message;
        assert_eq!(again.request_uri(), "sip:pbx@10.0.0.50:5060", "as the PBX wrote its Contact");
        let got = answer(&mut net, &pbx, &again, 200);
        assert_eq!(told(&got, &phone).pop().unwrap().status(), Some(200));
        let bye = pbx.in_dialog("BYE", &ok, "");
        let got = net.say("10.0.0.50:5060", INSIDE, bye);
        let bye = asked(&got, &phone, "BYE").expect("the BYE reaches the phone").message;
        assert_eq!(bye.vias().count(), 1);
        answer(&mut net, &phone, &bye, 200);
        assert_eq!(net.relay.sessions.len(), 0);
    }
}

#[test]
fn a_contact_has_the_same_name_in_every_request_of_a_call() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    let again = pbx.in_dialog("INVITE", &ok, &pbx.sdp());
    let got = net.say("10.0.0.50:5060", INSIDE, again);
    let again = asked(&got, &phone, "INVITE").unwrap().message;
    assert_eq!(users(&again, &[Name::Contact]), users(&invite, &[Name::Contact]));
}

/// The same text with its last letter before `@` another one.
fn garbled(message: &Message, name: &str) -> Message {
    let text = String::from_utf8(message.bytes().to_vec()).unwrap();
    let at = text.find(name).unwrap() + text[text.find(name).unwrap()..].find('@').unwrap() - 4;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    Message::parse(bytes::Bytes::from(format!("{}{other}{}", &text[..at], &text[at + 1..]))).unwrap()
}

#[test]
fn a_forged_name_is_481_in_a_dialog_and_404_outside() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (invite, _) = call_over_networks(&mut net, &mut pbx, &mut phone);
    for place in ["BYE sip:hid~", "Route: <sip:hid~"] {
        let forged = garbled(&phone.in_dialog("BYE", &invite, ""), place);
        let got = net.say(&phone.seen_at.clone(), P1, forged);
        assert!(asked(&got, &pbx, "BYE").is_none());
        assert_eq!(told(&got, &phone).pop().unwrap().status(), Some(481), "{place}");
    }
    let contact = NameAddr::parse(invite.text(Name::Contact).unwrap()).unwrap().raw_uri.to_owned();
    let forged = garbled(&phone.invite(&contact, &phone.sdp()), "INVITE sip:hid~");
    let got = net.say(&phone.seen_at.clone(), P1, forged);
    assert_eq!(told(&got, &phone).pop().unwrap().status(), Some(404));
}

#[test]
fn who_was_given_a_hidden_contact_calls_its_owner_by_it() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (invite, _) = call_over_networks(&mut net, &mut pbx, &mut phone);
    let contact = NameAddr::parse(invite.text(Name::Contact).unwrap()).unwrap().raw_uri.to_owned();
    let call = phone.invite(&contact, &phone.sdp());
    let got = net.say(&phone.seen_at.clone(), P1, call);
    assert!(asked(&got, &pbx, "INVITE").is_some(), "{:#?}", net.steps());
}

/// Whoever picks up after a restart is heard, though the caller's Via was kept from it (RFC 3261 §16.7, §16.11).
#[test]
fn an_answer_after_a_restart_finds_the_vias_that_were_hidden() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    phone.register(&mut net);
    let got = ring(&mut net, &mut pbx, "sip:alice@a.example");
    let invite = asked(&got, &phone, "INVITE").unwrap().message;
    assert_nothing_inside_is_shown(&invite);
    assert_eq!(invite.vias().count(), 1);
    answer(&mut net, &phone, &invite, 180);
    net.restart(P1);
    let got = answer(&mut net, &phone, &invite, 200);
    let ok = told(&got, &pbx).pop().expect("the 200 goes back");
    assert_eq!((ok.status(), ok.vias().count()), (Some(200), 1));
    assert!(ok.via().unwrap().sent_by().starts_with("10.0.0.50") && !ok.call_id().contains(PREFIX));
    let ack = pbx.in_dialog("ACK", &ok, "");
    let got = net.say("10.0.0.50:5060", INSIDE, ack);
    assert!(asked(&got, &phone, "ACK").is_some(), "the ACK goes through");
    let bye = phone.in_dialog("BYE", &invite, "");
    let got = net.say(&phone.seen_at.clone(), P1, bye);
    assert!(asked(&got, &pbx, "BYE").is_some(), "and so does the BYE");
}

/// A PBX that knows no domain: its people are known outside by our address, and by its own to itself, after a restart too.
#[test]
fn who_is_named_by_an_address_of_the_inside_is_named_by_ours_outside() {
    const OWN: &str = "<sip:7@10.0.0.50;x=1>";
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    phone.register(&mut net);
    let call = pbx.invite("sip:alice@a.example", &pbx.sdp());
    let call =
        call.edit().set(Name::From, &format!("\"Desk\" {OWN};tag=7")).set(Name::To, "<sip:alice@10.0.0.9>");
    let got = net.say("10.0.0.50:5060", INSIDE, call.finish());
    let invite = asked(&got, &phone, "INVITE").unwrap().message;
    let from = invite.text(Name::From).unwrap().to_owned();
    assert!(
        from.starts_with(&format!("\"Desk\" <sip:7@{ADVERTISED};hid=hid~")) && from.ends_with(">;tag=7"),
        "{from}"
    );
    assert!(!String::from_utf8_lossy(invite.bytes()).contains("10.0.0.9"));
    let got = answer(&mut net, &phone, &invite, 200);
    let ok = told(&got, &pbx).pop().unwrap();
    assert!(
        ok.text(Name::From).unwrap().contains(OWN)
            && ok.text(Name::To).unwrap().contains("<sip:alice@10.0.0.9>")
    );
    net.restart(P1);
    let refer = phone
        .in_dialog("REFER", &invite, "")
        .edit()
        .append(Name::ReferTo, from.split(';').next().unwrap())
        .finish();
    let got = net.say(&phone.seen_at.clone(), P1, refer);
    let refer = asked(&got, &pbx, "REFER").expect("the phone's REFER reaches the PBX").message;
    assert!(
        refer.text(Name::To).unwrap().contains(OWN)
            && refer.text(Name::From).unwrap().contains("alice@10.0.0.9")
    );
    let got = answer(&mut net, &pbx, &refer, 202);
    assert_eq!(told(&got, &phone).pop().unwrap().text(Name::To), Some(from.as_str()));
    let uri = NameAddr::parse(&from).unwrap().raw_uri.to_owned();
    let calls_back = phone.invite(&uri, &phone.sdp());
    let got = net.say(&phone.seen_at.clone(), P1, calls_back);
    let back = asked(&got, &pbx, "INVITE").expect("who calls back by the name finds its party").message;
    assert_eq!(back.request_uri(), OWN.trim_matches(['<', '>']));
}

#[test]
fn no_other_header_tells_of_addresses_inside_where_people_are_named() {
    let (mut net, mut phone, mut pbx) = (veiled(), hidden_alice(), pbx());
    let (_, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    let refer = pbx.in_dialog("REFER", &ok, "");
    let edit = refer
        .edit()
        .append(Name::ReferTo, "<sip:9@10.0.0.50?Subject=x>")
        .append_named("Referred-By", "<sip:7@10.0.0.50>;cid=1");
    let edit = edit.append_named(
        "Diversion",
        "\"sip:a\" <sip:10.0.0.50:5070;lr>;reason=x, sips:b@[fd00::1]:1;y, <sip:c@192.0.2.1?z>",
    );
    let got = net.say("10.0.0.50:5060", INSIDE, edit.append_named("Reply-To", "sip:7@10.0.0.50").finish());
    let refer = asked(&got, &phone, "REFER").expect("the REFER reaches the phone").message;
    let text = String::from_utf8_lossy(refer.bytes()).into_owned();
    assert!(!text.replace("10.0.0.2", "").contains("10.0.0."), "{text}");
    for line in [
        format!("Referred-By: <sip:7@{ADVERTISED}>;cid=1"),
        format!(
            "Diversion: \"sip:a\" <sip:{ADVERTISED};lr>;reason=x, sips:b@[fd00::1]:1;y, <sip:c@192.0.2.1?z>"
        ),
        format!("Reply-To: sip:7@{ADVERTISED}"),
    ] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} is missing in\n{text}");
    }
    let to = refer.text(Name::ReferTo).unwrap();
    assert!(to.starts_with("<sip:hid~") && to.ends_with(&format!("@{ADVERTISED}?Subject=x>")), "{to}");
}

/// Who refuses after a restart is heard, too, where nobody else was asked (RFC 3261 §16.7 step 6): hop by hop, once.
#[test]
fn a_refusal_after_a_restart_goes_back_and_is_acknowledged() {
    for mut net in [two_networks(), veiled()] {
        let (mut phone, mut pbx) = (hidden_alice(), pbx());
        phone.register(&mut net);
        let got = ring(&mut net, &mut pbx, "sip:alice@a.example");
        let invite = asked(&got, &phone, "INVITE").unwrap().message;
        answer(&mut net, &phone, &invite, 180);
        assert_eq!(net.relay.sessions.len(), 1);
        net.restart(P1);
        for again in [false, true] {
            let got = answer(&mut net, &phone, &invite, 486);
            let ack = asked(&got, &phone, "ACK").expect("each copy is acknowledged").message;
            assert_eq!(ack.via().unwrap().branch(), invite.via().unwrap().branch());
            assert_eq!((ack.call_id(), ack.cseq().unwrap().number), (invite.call_id(), 1));
            let busy: Vec<Message> = told(&got, &pbx);
            assert_eq!(busy.len(), usize::from(!again), "one answer leads to one answer");
            for busy in busy {
                assert_eq!((busy.status(), busy.vias().count()), (Some(486), 1));
                assert!(busy.via().unwrap().sent_by().starts_with("10.0.0.50"));
            }
        }
        assert_eq!(net.relay.sessions.len(), 0, "its ports are free");
    }
}

/// Of a fork nobody knows any more what the others say; and who holds no token of ours sends nobody anything.
#[test]
fn a_refusal_after_a_restart_is_dropped_where_another_may_still_ring_or_nothing_proves_its_way() {
    let (mut net, mut phone, mut pbx) = (two_networks(), hidden_alice(), pbx());
    let mut other = Phone::behind_nat("alice", "198.51.100.9:40009", "10.0.0.9:5060", P1);
    phone.register(&mut net);
    let got = ring(&mut net, &mut pbx, "sip:alice@a.example");
    let alone = asked(&got, &phone, "INVITE").unwrap().message;
    let proof = alone.via().unwrap().params.get("back").unwrap().to_owned();
    let text = String::from_utf8(alone.bytes().to_vec()).unwrap();
    let forged = text.replacen(
        &format!("back={proof}"),
        &format!("back={}", proof.chars().rev().collect::<String>()),
        1,
    );
    assert_ne!(forged, text);
    let forged = Message::parse(bytes::Bytes::from(forged)).unwrap();
    other.register(&mut net);
    let got = ring(&mut net, &mut pbx, "sip:alice@a.example");
    let forked = asked(&got, &phone, "INVITE").unwrap().message;
    assert!(asked(&got, &other, "INVITE").is_some() && forked.via().unwrap().params.get("back").is_none());
    net.restart(P1);
    for refused in [forged, forked] {
        let got = answer(&mut net, &phone, &refused, 486);
        assert!(told(&got, &pbx).is_empty() && asked(&got, &phone, "ACK").is_none());
    }
}
