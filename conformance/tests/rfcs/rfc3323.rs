//! RFC 3323: a privacy mechanism; we are its privacy service towards phones and strangers.

use proto::sip::Name;

use crate::desk::{A, B, Desk, in_dialog, invite, request, requests, response, statuses};

/// §5.1: at `header`, the Vias and the Contact of its sender are hidden, and put back in the answers.
#[test]
fn header_privacy_hides_the_way() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite().with("Privacy", "header"));
    assert_eq!(there.message.vias().count(), 1);
    assert!(!there.message.text(Name::Contact).unwrap().contains("192.0.2.10"));
    let back = response(&desk.answer(&there, 180, &[]), A);
    assert_eq!((back.vias().count(), back.via().unwrap().sent_by()), (1, A.to_owned()));
}

/// §5.3: at `user`, From is anonymous and what names the person is taken off; answers name it as it did itself.
#[test]
fn user_privacy_hides_the_person() {
    let mut desk = Desk::open();
    let there = desk
        .forwarded(invite().with("Privacy", "user").with("Subject", "Alice's").with("Reply-To", "<sip:a@a>"));
    let from = there.message.text(Name::From).unwrap();
    assert_eq!(from, "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=caller");
    assert!(there.message.text(Name::Subject).is_none());
    assert!(!String::from_utf8_lossy(there.message.bytes()).contains("Reply-To"));
    let back = response(&desk.answer(&there, 486, &[]), A);
    assert_eq!(back.text(Name::From), Some("<sip:alice@example.com>;tag=caller"));
}

/// §5.2: at `session`, the description names nobody.
#[test]
fn session_privacy_hides_who_described_it() {
    let sdp = "v=0\r\no=alice 1 1 IN IP4 192.0.2.10\r\ns=Alice's\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let there =
        Desk::open().forwarded(invite().with("Privacy", "session").carrying("application/sdp", sdp)).message;
    assert!(
        there.body().starts_with(b"v=0\r\no=- 1 1 ")
            && !String::from_utf8_lossy(there.body()).contains("Alice")
    );
}

/// §5: a privacy service that can't do what is `critical` fails the request with 500.
#[test]
fn what_is_critical_and_can_t_be_done_is_500() {
    let sent = Desk::open().hear(A, invite().with("Privacy", "session;critical"));
    assert_eq!(statuses(&sent, A), [500]);
}

/// §5: the levels that were provided are taken off the Privacy header, others are left for the next service.
#[test]
fn what_was_done_is_taken_off() {
    let there = Desk::open().forwarded(invite().with("Privacy", "header;id")).message;
    assert_eq!(there.text(Name::Privacy), Some("id"));
}

/// §5: `none` asks that nothing be done.
#[test]
fn none_means_none() {
    let there = Desk::open().forwarded(invite().with("Privacy", "none")).message;
    assert_eq!((there.vias().count(), there.text(Name::Privacy)), (2, Some("none")));
    assert!(there.text(Name::From).unwrap().contains("alice"));
}

/// §4.2: what the dialog's first request asked for is kept in its others.
#[test]
fn privacy_lasts_as_long_as_the_dialog() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite().with("Privacy", "user"));
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    desk.hear(A, in_dialog("ACK", 1, &ok));
    let bye = requests(&desk.hear(A, in_dialog("BYE", 2, &ok)), "BYE").remove(0).message;
    assert!(bye.text(Name::From).unwrap().contains("anonymous.invalid"), "{bye:?}");
}

/// §5.3: a registrar must know who registers.
#[test]
fn a_registration_is_nobody_s_secret() {
    let mut desk = Desk::open();
    let register =
        request("REGISTER", "sip:registrar.example.org").with("Privacy", "user;header").without("Contact");
    desk.hear(A, register);
    let there = requests(&desk.resolve(&[B]), "REGISTER").remove(0).message;
    assert!(there.text(Name::From).unwrap().contains("alice@example.com") && there.vias().count() == 2);
}
