//! §10: registrations.

use std::time::Duration;

use proto::sip::{Message, Name};

use crate::desk::{
    A, B, Desk, Draft, PROXY, guarded, proof, register, request, requests, response, statuses,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Bob's REGISTER number so and so from one device, with these header lines more.
fn bob(number: u32, more: &[(&str, &str)]) -> Draft {
    let draft =
        register("bob").branch(&format!("z9hG4bKr{number}")).with("CSeq", &format!("{number} REGISTER"));
    more.iter().fold(draft, |draft, (name, value)| draft.with(name, value))
}

fn answered(desk: &mut Desk, draft: Draft) -> Message {
    response(&desk.hear(B, draft), B)
}

fn contacts(response: &Message) -> Vec<String> {
    response.contacts().flatten().map(|contact| contact.raw_uri.to_owned()).collect()
}

fn expires(response: &Message) -> Vec<Option<u32>> {
    response.contacts().flatten().map(|contact| contact.expires()).collect()
}

const HERE: &str = "<sip:bob@198.51.100.20:5070>";
const THERE: &str = "<sip:bob@198.51.100.30:5070>";

/// §10.2.1: the 200 lists the contact addresses bound now, each with the time it has left.
#[test]
fn a_registration_is_answered_with_the_bindings_and_their_time() {
    let mut desk = Desk::open();
    let ok = answered(&mut desk, bob(1, &[("Contact", HERE), ("Expires", "1800")]));
    assert_eq!((ok.status(), contacts(&ok), expires(&ok)), (Some(200), vec![B_URI.into()], vec![Some(1800)]));
    desk.pass(10 * MINUTE);
    assert_eq!(expires(&answered(&mut desk, bob(2, &[]))), [Some(1200)]);
}

const B_URI: &str = "sip:bob@198.51.100.20:5070";

/// §10.2.1.1: the expires parameter of a Contact counts before the Expires header.
#[test]
fn the_parameter_counts_before_the_header() {
    let contact = format!("{HERE};expires=600");
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", &contact), ("Expires", "1800")]));
    assert_eq!(expires(&ok), [Some(600)]);
}

/// §10.2.1.2: q values order the contacts of an address of record.
#[test]
fn the_preferred_device_rings_first() {
    let mut desk = Desk::open();
    let both = format!("{HERE};q=0.2, {THERE};q=0.8");
    answered(&mut desk, bob(1, &[("Contact", &both)]));
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    let rung = requests(&sent, "INVITE");
    assert_eq!(rung.len(), 1);
    assert_eq!(rung[0].message.request_uri(), "sip:bob@198.51.100.30:5070");
}

/// §10.2.2: Expires 0 removes the binding it names, and no other.
#[test]
fn an_expiry_of_zero_removes_one_binding() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", &format!("{HERE}, {THERE}"))]));
    let ok = answered(&mut desk, bob(2, &[("Contact", THERE), ("Expires", "0")]));
    assert_eq!(contacts(&ok), [B_URI]);
}

/// §10.2.2: a `*` with Expires 0 removes all bindings of the address of record.
#[test]
fn a_star_removes_all() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", &format!("{HERE}, {THERE}"))]));
    let ok = answered(&mut desk, bob(2, &[("Contact", "*"), ("Expires", "0")]));
    assert_eq!((ok.status(), contacts(&ok)), (Some(200), vec![]));
}

/// §10.2.3: a REGISTER without Contact fetches the bindings and leaves them as they are.
#[test]
fn without_a_contact_bindings_are_only_told() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", HERE)]));
    for number in [2, 3] {
        assert_eq!(contacts(&answered(&mut desk, bob(number, &[]))), [B_URI]);
    }
}

/// §10.3: a REGISTER is not forked, and its Record-Route is ignored.
#[test]
fn a_record_route_in_a_register_means_nothing() {
    let ok =
        answered(&mut Desk::open(), bob(1, &[("Contact", HERE), ("Record-Route", "<sip:192.0.2.99;lr>")]));
    assert_eq!((ok.status(), ok.values(Name::RecordRoute).count()), (Some(200), 0));
}

/// §10.3: requests are processed in order and each as a whole: one Contact that can't be served leaves all as they were.
#[test]
fn a_register_is_served_as_a_whole_or_not_at_all() {
    let mut desk = Desk::open();
    let both = format!("{THERE}, <mailto:bob@example.com>");
    assert!(answered(&mut desk, bob(1, &[("Contact", &both)])).status().is_some_and(|status| status >= 400));
    assert_eq!(contacts(&answered(&mut desk, bob(2, &[]))), Vec::<String>::new());
}

/// §10.3 step 1: a REGISTER for a domain that is not ours goes there.
#[test]
fn a_register_for_another_domain_is_forwarded_to_it() {
    let mut desk = Desk::open();
    let sent = desk.hear(B, bob(1, &[("Contact", HERE)]).to_domain("198.51.100.30"));
    assert_eq!(requests(&sent, "REGISTER")[0].flow.remote.to_string(), "198.51.100.30:5060");
    assert!(statuses(&sent, B).is_empty());
}

/// §10.3 step 2: extensions in Require that we lack are 420, with Unsupported naming them.
#[test]
fn what_a_device_requires_and_we_lack_is_named() {
    let refused = answered(&mut Desk::open(), bob(1, &[("Contact", HERE), ("Require", "antigravity")]));
    assert_eq!((refused.status(), refused.text(Name::Unsupported)), (Some(420), Some("antigravity")));
}

/// §10.3 step 3: who registers must prove who that is, as §22 says.
#[test]
fn a_registrar_asks_for_a_password() {
    let challenge = answered(&mut Desk::new(guarded()), bob(1, &[("Contact", HERE)]));
    assert_eq!(challenge.status(), Some(401));
    assert!(challenge.text(Name::WwwAuthenticate).is_some());
}

/// §10.3 step 4: whom the account may not register is 403.
#[test]
fn another_accounts_address_is_forbidden() {
    let mut desk = Desk::new(guarded());
    let alices = bob(1, &[("Contact", HERE), ("To", "<sip:alice@example.com>")]);
    let challenge = answered(&mut desk, alices.clone());
    let proof = proof(&challenge, "bob", "secret", "sip:example.com", "REGISTER", 1);
    let again = alices.branch("z9hG4bKr2").with("CSeq", "2 REGISTER").with("Authorization", &proof);
    assert_eq!(answered(&mut desk, again).status(), Some(403));
}

/// §10.3 step 5: an address of record that is not at our domain is 404.
#[test]
fn an_address_elsewhere_is_not_found() {
    let refused =
        answered(&mut Desk::open(), bob(1, &[("Contact", HERE), ("To", "<sip:bob@elsewhere.example>")]));
    assert_eq!(refused.status(), Some(404));
}

/// §10.3 step 5: the address of record is compared without parameters and with escapes undone.
#[test]
fn one_address_of_record_may_be_written_in_several_ways() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", HERE), ("To", "<sip:%62ob@EXAMPLE.com;transport=udp>")]));
    assert_eq!(contacts(&answered(&mut desk, bob(2, &[]))), [B_URI]);
}

/// §10.3 step 6: a `*` that does not stand alone, or without Expires 0, is 400.
#[test]
fn a_star_stands_alone_and_means_goodbye() {
    for (contact, expires) in [("*", "60"), ("*, <sip:bob@192.0.2.1>", "0")] {
        let refused = answered(&mut Desk::open(), bob(1, &[("Contact", contact), ("Expires", expires)]));
        assert_eq!(refused.status(), Some(400), "{contact} {expires}");
    }
}

/// §10.3 step 6: a `*` whose CSeq is not above that of a binding of the same Call-ID removes nothing.
#[test]
fn a_star_that_was_overtaken_removes_nothing() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(5, &[("Contact", HERE)]));
    let refused = answered(&mut desk, bob(4, &[("Contact", "*"), ("Expires", "0")]));
    assert!(refused.status().is_some_and(|status| status >= 400), "{:?}", refused.status());
    assert_eq!(contacts(&answered(&mut desk, bob(6, &[]))), [B_URI]);
}

/// §10.3 step 7: without any expiry we choose one.
#[test]
fn a_device_that_asks_for_no_time_gets_some() {
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", HERE)]));
    assert_eq!(expires(&ok), [Some(3600)]);
}

/// §10.3 step 7: more time than we allow is shortened.
#[test]
fn a_registrar_may_give_less_than_was_asked() {
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", HERE), ("Expires", "999999")]));
    assert_eq!(expires(&ok), [Some(7200)]);
}

/// §10.3 step 7: an expiry below the least we allow (and below an hour) is 423, with Min-Expires.
#[test]
fn a_time_too_brief_is_refused_with_the_least_allowed() {
    for (seconds, status) in [("59", 423), ("60", 200)] {
        let answer = answered(&mut Desk::open(), bob(1, &[("Contact", HERE), ("Expires", seconds)]));
        assert_eq!(answer.status(), Some(status), "{seconds}");
        assert_eq!(answer.text(Name::MinExpires), (status == 423).then_some("60"));
    }
}

/// §10.3 step 7: contacts are compared as URIs (§19.1.4), not letter by letter.
#[test]
fn the_same_contact_in_other_letters_is_the_same_binding() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", "<sip:bob@Host.Example.com;Transport=UDP>")]));
    let ok = answered(&mut desk, bob(2, &[("Contact", "<sip:bob@host.example.COM;transport=udp>")]));
    assert_eq!(contacts(&ok).len(), 1);
}

/// §10.3 step 7: under the same Call-ID a lower CSeq changes nothing.
#[test]
fn a_register_that_was_overtaken_changes_nothing() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(5, &[("Contact", HERE), ("Expires", "1800")]));
    answered(&mut desk, bob(4, &[("Contact", HERE), ("Expires", "0")]));
    assert_eq!(expires(&answered(&mut desk, bob(6, &[]))), [Some(1800)]);
}

/// §10.3 step 7: a binding whose time is over is there no longer.
#[test]
fn a_binding_ends_with_its_time() {
    let mut desk = Desk::open();
    answered(&mut desk, bob(1, &[("Contact", HERE), ("Expires", "60")]));
    desk.pass(MINUTE - Duration::from_secs(1));
    assert_eq!(contacts(&answered(&mut desk, bob(2, &[]))).len(), 1);
    desk.pass(Duration::from_secs(1));
    assert_eq!(contacts(&answered(&mut desk, bob(3, &[]))).len(), 0);
    assert_eq!(statuses(&desk.hear(A, request("INVITE", "sip:bob@example.com")), A).last(), Some(&480));
}

/// §10.3 step 8: the 200 has a Date.
#[test]
fn the_answer_tells_the_time() {
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", HERE)]));
    assert_eq!(ok.text(Name::Date), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
}

/// §10.3 step 8: the contacts in the 200 are as they were registered, whatever way the device was seen by.
#[test]
fn a_contact_is_told_as_it_was_registered() {
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", "<sip:bob@10.0.0.9:5060;ob>;q=0.7")]));
    assert_eq!(contacts(&ok), ["sip:bob@10.0.0.9:5060;ob"]);
}

/// §10.2: the request URI of a REGISTER names the domain alone; one with our address reaches us as well.
#[test]
fn phones_register_at_our_address_too() {
    let ip = PROXY.split(':').next().unwrap();
    let ok = answered(&mut Desk::open(), bob(1, &[("Contact", HERE)]).to_domain(ip));
    assert_eq!(ok.status(), Some(200));
}
