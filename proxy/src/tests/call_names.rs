//! Stories of hidden Call-IDs: a PBX inside, a phone outside; each knows a call by a name of its own.

use proto::hidden::{LONGEST, MARK, PREFIX};
use proto::sip::{Message, Name};

use crate::tests::local::{
    ADVERTISED, INSIDE, answer, call_over_networks, hidden_alice, pbx, ring, two_networks,
};
use crate::tests::net::*;

fn bordered() -> Net {
    let mut net = two_networks();
    net.configure(P1, |config| config.networks[0].hides = true);
    net
}

/// Both parties hang up in turn, the proxy being the one that knows the call, or one that was started since.
fn both_end_it(net: &mut Net, phone: &mut Phone, pbx: &mut Phone, at_phone: &Message, at_pbx: &Message) {
    for restarts in [false, true] {
        if restarts {
            net.restart(P1);
        }
        let again = phone.in_dialog("INFO", at_phone, "");
        let got = net.say(&phone.seen_at.clone(), P1, again);
        let again = asked(&got, pbx, "INFO").expect("the phone's INFO reaches the PBX").message;
        assert_eq!(again.call_id(), at_pbx.call_id());
        let got = answer(net, pbx, &again, 200);
        assert_eq!(told(&got, phone).pop().unwrap().call_id(), at_phone.call_id());
    }
    let bye = pbx.in_dialog("BYE", at_pbx, "");
    let got = net.say("10.0.0.50:5060", INSIDE, bye);
    let bye = asked(&got, phone, "BYE").expect("the PBX's BYE reaches the phone").message;
    assert_eq!(bye.call_id(), at_phone.call_id());
    let got = answer(net, phone, &bye, 200);
    assert_eq!(told(&got, pbx).pop().unwrap().call_id(), at_pbx.call_id());
    assert_eq!(net.relay.sessions.len(), 0);
}

#[test]
fn a_call_from_the_inside_has_a_sealed_name_outside() {
    let (mut net, mut phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    assert!(invite.call_id().starts_with(PREFIX), "{}", invite.call_id());
    assert!(!ok.call_id().contains(PREFIX), "the PBX knows its own name");
    both_end_it(&mut net, &mut phone, &mut pbx, &invite, &ok);
}

#[test]
fn a_call_from_outside_keeps_its_name_there() {
    let (mut net, mut phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut phone, &mut pbx);
    assert!(!ok.call_id().contains(MARK), "{}", ok.call_id());
    assert!(invite.call_id().starts_with(MARK) && invite.call_id().ends_with(ok.call_id()));
    both_end_it(&mut net, &mut phone, &mut pbx, &ok, &invite);
}

#[test]
fn a_call_that_fails_is_known_to_both_to_its_end() {
    let (mut net, mut phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    phone.register(&mut net);
    let got = ring(&mut net, &mut pbx, "sip:alice@a.example");
    let invite = asked(&got, &phone, "INVITE").unwrap().message;
    let got = answer(&mut net, &phone, &invite, 486);
    let ack = asked(&got, &phone, "ACK").expect("the failure is acknowledged").message;
    assert_eq!(ack.call_id(), invite.call_id());
    let busy = told(&got, &pbx).pop().unwrap();
    assert_eq!((busy.status(), busy.call_id().contains(PREFIX)), (Some(486), false));
}

/// A transfer, a pickup: what names a call from the inside is understood outside, and the other way round.
#[test]
fn headers_that_name_a_call_are_translated_with_it() {
    let (mut net, mut phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    let (hidden, own) = (invite.call_id().to_owned(), ok.call_id().to_owned());
    let naming = |message: &Message, call: &str| {
        let escaped = call.replace('@', "%40");
        let refer =
            format!("<sip:carol@a.example?Replaces={escaped}%3Bto-tag%3D1%3Bfrom-tag%3D2&Subject=a%20b>;x=y");
        let edit = message.edit().append(Name::ReferTo, &refer).append_named("In-Reply-To", call);
        let edit = edit.append(Name::Replaces, &format!("{call};to-tag=1;from-tag=2;early-only"));
        edit.append_named("Target-Dialog", &format!("{call};local-tag=1")).finish()
    };
    let said = |message: &Message| {
        let text = String::from_utf8(message.bytes().to_vec()).unwrap();
        let lines = text.lines().filter(|line| {
            ["Refer-To", "In-Reply-To", "Replaces", "Target-D"].iter().any(|n| line.starts_with(n))
        });
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let refer = naming(&phone.in_dialog("REFER", &invite, ""), &hidden);
    let got = net.say(&phone.seen_at.clone(), P1, refer.clone());
    let refer_inside = asked(&got, &pbx, "REFER").expect("the phone's REFER reaches the PBX").message;
    assert_eq!(
        said(&refer_inside),
        said(&naming(&refer, &own)).into_iter().filter(|l| !l.contains(&hidden)).collect::<Vec<_>>()
    );
    answer(&mut net, &pbx, &refer_inside, 202);

    let refer = naming(&pbx.in_dialog("REFER", &ok, ""), &own);
    let got = net.say("10.0.0.50:5060", INSIDE, refer.clone());
    let refer_outside = asked(&got, &phone, "REFER").expect("the PBX's REFER reaches the phone").message;
    assert_eq!(
        said(&refer_outside),
        said(&naming(&refer, &hidden)).into_iter().filter(|l| !l.contains(&own)).collect::<Vec<_>>()
    );
}

/// RFC 4235: a busy lamp outside is told of calls by the names they have there, by the inside's own where it asks or tells itself.
#[test]
fn bodies_and_events_that_tell_of_dialogs_are_translated_with_them() {
    let (mut net, mut phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    let (invite, ok) = call_over_networks(&mut net, &mut pbx, &mut phone);
    let (hidden, own) = (invite.call_id().to_owned(), ok.call_id().to_owned());
    let notify = |message: Message, call: &str, target: &str| {
        let body = format!(
            "--x\r\nContent-Type: text/plain\r\n\r\n{own}\r\n--x\r\nContent-Type: application/dialog-info+xml\r\n\r\n\
             <dialog-info><dialog id='{call}' call-id='{call}'><local><target uri='{target}'/></local></dialog>\
             </dialog-info>\r\n--x--\r\n"
        );
        let edit = message.edit().set(Name::ContentType, "multipart/mixed;boundary=x").body(body.as_bytes());
        edit.append(Name::Event, &format!("dialog;x=1;call-id=\"{call}\";to-tag=2")).finish()
    };
    let event = |message: &Message| message.text(Name::Event).unwrap().to_owned();

    let inside = notify(pbx.in_dialog("NOTIFY", &ok, ""), &own, "sip:pbx@10.0.0.50:5060");
    let got = net.say("10.0.0.50:5060", INSIDE, inside.clone());
    let told = asked(&got, &phone, "NOTIFY").expect("the NOTIFY reaches the phone").message;
    let said = String::from_utf8_lossy(told.body());
    let target = said.split("target uri='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(target.starts_with("sip:hid~") && target.ends_with(ADVERTISED), "{said}");
    let outside = notify(pbx.in_dialog("NOTIFY", &ok, ""), &hidden, target);
    assert_eq!(said, String::from_utf8_lossy(outside.body()));
    assert_eq!(event(&told), event(&outside));
    answer(&mut net, &phone, &told, 200);

    let asks = phone.in_dialog("NOTIFY", &invite, "");
    let asks = asks.edit().body(outside.body());
    let asks =
        asks.set(Name::ContentType, "multipart/mixed;boundary=x").append(Name::Event, &event(&outside));
    let got = net.say(&phone.seen_at.clone(), P1, asks.finish());
    let told = asked(&got, &pbx, "NOTIFY").expect("the NOTIFY reaches the PBX").message;
    assert_eq!(String::from_utf8_lossy(told.body()), String::from_utf8_lossy(inside.body()));
    assert_eq!(event(&told), event(&inside));
}

#[test]
fn a_name_too_long_to_hide_passes_as_it_is() {
    let (mut net, mut phone, pbx) = (bordered(), hidden_alice(), pbx());
    phone.register(&mut net);
    let long = "x".repeat(LONGEST + 1);
    let call = pbx.clone().invite("sip:alice@a.example", &pbx.sdp()).edit().set(Name::CallId, &long).finish();
    let got = net.say("10.0.0.50:5060", INSIDE, call);
    let invite = asked(&got, &phone, "INVITE").unwrap().message;
    assert_eq!(invite.call_id(), long);
    let got = answer(&mut net, &phone, &invite, 200);
    assert_eq!(told(&got, &pbx).pop().unwrap().call_id(), long);
}

/// Nobody outside makes a name of the inside: what does not open is that network's own.
#[test]
fn a_forged_name_is_a_name_of_its_senders() {
    let (mut net, phone, mut pbx) = (bordered(), hidden_alice(), pbx());
    pbx.register(&mut net);
    for forged in [format!("{PREFIX}AAAA"), format!("{MARK}00000000~x")] {
        let call = phone
            .clone()
            .invite("sip:pbx@a.example", &phone.sdp())
            .edit()
            .set(Name::CallId, &forged)
            .finish();
        let got = net.say(&phone.seen_at.clone(), P1, call);
        let invite = asked(&got, &pbx, "INVITE").expect("it is a call like any other").message;
        assert!(invite.call_id().starts_with(MARK) && invite.call_id().ends_with(&forged));
        let got = answer(&mut net, &pbx, &invite, 486);
        assert_eq!(told(&got, &phone).pop().unwrap().call_id(), forged);
    }
}
