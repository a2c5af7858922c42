//! RFC 3891: Replaces, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, guarded, invite, request, requests, response};

/// §6.1: an INVITE with Replaces reaches the device it is for, header and all.
#[test]
fn who_takes_over_a_call_says_which() {
    let replaces = "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff;early-only";
    let draft =
        request("INVITE", &format!("sip:bob@{B}")).with("Replaces", replaces).with("Require", "replaces");
    let text = String::from_utf8_lossy(Desk::open().forwarded(draft).message.bytes()).into_owned();
    assert!(
        text.contains(&format!("Replaces: {replaces}\r\n")) && text.contains("Require: replaces\r\n"),
        "{text}"
    );
}

/// §3: whom it matches is for the device to say: its 481 comes back.
#[test]
fn a_call_nobody_knows_is_refused_by_the_device() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite().with("Replaces", "nobody;to-tag=a;from-tag=b"));
    assert_eq!(response(&desk.answer(&there, 481, &[]), A).status(), Some(481));
}

/// §3: two of them are 400 from the device: both reach it.
#[test]
fn two_of_them_are_the_device_s_affair() {
    let draft =
        invite().adding("Replaces", "a;to-tag=b;from-tag=c").adding("Replaces", "d;to-tag=e;from-tag=f");
    let there = Desk::open().forwarded(draft).message;
    assert_eq!(there.headers().filter(|header| header.name == Name::Replaces).count(), 2);
}

/// §4: a Refer-To with a Replaces in it reaches the one who is to call, escapes and all.
#[test]
fn a_referral_says_which_call() {
    let target =
        "<sip:bob@192.0.2.4?Replaces=425928%40bobster.example.org%3Bto-tag%3D7743%3Bfrom-tag%3D6472>";
    let refer = request("REFER", &format!("sip:bob@{B}")).with("Refer-To", target);
    let there = requests(&Desk::open().hear(A, refer), "REFER").remove(0).message;
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(text.contains(&format!("Refer-To: {target}\r\n")), "{text}");
}

/// §6.2: the option tag concerns the ends.
#[test]
fn the_option_tag_is_passed_on() {
    let there = Desk::open().forwarded(invite().with("Supported", "replaces, timer")).message;
    assert_eq!(there.text(Name::Supported), Some("replaces, timer"));
}

/// §8: nobody takes over a call who has not proven who that is.
#[test]
fn a_stranger_takes_over_nothing() {
    let draft = invite().with("Replaces", "a;to-tag=b;from-tag=c");
    assert_eq!(response(&Desk::new(guarded()).hear(A, draft), A).status(), Some(407));
}
