//! RFC 3261 §10.3, a sentence each.

use super::*;
use crate::tests::testing::{Clock, Maps, config, message, udp};

const SOURCE: &str = "198.51.100.7:5060";
const ALICE: &str = "alice@example.com";

struct Scene {
    config: Config,
    clock: Clock,
    tables: Maps,
    cseq: u32,
}

fn scene() -> Scene {
    Scene { config: config(), clock: Clock::new(), tables: Maps::default(), cseq: 0 }
}

impl Scene {
    /// Alice registers with these header lines; CSeq rises by itself.
    fn register(&mut self, lines: &str) -> Registered {
        self.cseq += 1;
        self.request("call-1", self.cseq, lines)
    }

    fn request(&mut self, call_id: &str, cseq: u32, lines: &str) -> Registered {
        let request = register("alice@example.com", call_id, cseq, lines);
        self.from(SOURCE, &request)
    }

    fn from(&mut self, source: &str, request: &Message) -> Registered {
        self.by(&udp(source), request)
    }

    fn by(&mut self, flow: &Flow, request: &Message) -> Registered {
        register_at(self, flow, request)
    }

    /// Contacts bound, as registered.
    fn bound(&self) -> Vec<String> {
        self.tables.bindings(ALICE).into_iter().map(|binding| binding.contact).collect()
    }

    fn only(&self) -> Binding {
        let bindings = self.tables.bindings(ALICE);
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        bindings.into_iter().next().unwrap()
    }
}

fn register_at(scene: &mut Scene, flow: &Flow, request: &Message) -> Registered {
    super::register(
        scene.clock.now(),
        flow,
        request,
        Reply::tagged("totag"),
        &scene.config,
        &mut scene.tables,
    )
}

fn register(aor: &str, call_id: &str, cseq: u32, lines: &str) -> Message {
    let lines = if lines.is_empty() { String::new() } else { format!("{lines}\n") };
    message(&format!(
        "REGISTER sip:example.com SIP/2.0
        Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1
        From: <sip:{aor}>;tag=1
        To: <sip:{aor}>
        Call-ID: {call_id}
        CSeq: {cseq} REGISTER
        {lines}Content-Length: 0"
    ))
}

fn answer(registered: &Registered) -> Message {
    registered.response.clone().finish()
}

fn status(registered: &Registered) -> u16 {
    registered.status
}

fn listed(registered: &Registered) -> Vec<String> {
    answer(registered).values(Name::Contact).map(str::to_string).collect()
}

fn changes(registered: &Registered) -> Vec<Registration> {
    let change = |event: &Event| match event {
        Event::Registered { change, .. } => Some(*change),
        _ => None,
    };
    registered.events.iter().filter_map(change).collect()
}

// Step 7: adding.

#[test]
fn a_contact_is_bound_with_the_source_it_was_seen_from() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:alice@198.51.100.7>");
    assert_eq!(status(&done), 200);
    assert_eq!((scene.only().contact.as_str(), scene.only().flow), ("sip:alice@198.51.100.7", udp(SOURCE)));
    assert_eq!(changes(&done), [Registration::New]);
    assert_eq!(done.changed, Some((ALICE.to_string(), vec![scene.only()])));
}

#[test]
fn each_of_several_contacts_is_bound() {
    let mut scene = scene();
    let done =
        scene.register("Contact: <sip:a@198.51.100.7>;q=0.5, <sip:b@198.51.100.7>\nContact: <sip:c@h>");
    assert_eq!(scene.bound(), ["sip:a@198.51.100.7", "sip:b@198.51.100.7", "sip:c@h"]);
    assert_eq!(
        listed(&done),
        [
            "<sip:a@198.51.100.7>;expires=3600;q=0.500",
            "<sip:b@198.51.100.7>;expires=3600",
            "<sip:c@h>;expires=3600"
        ]
    );
}

#[test]
fn without_a_contact_the_bindings_are_listed_and_nothing_changes() {
    let mut scene = scene();
    scene.register("Contact: <sip:alice@198.51.100.7>\nExpires: 600");
    let edits = scene.tables.edits;
    scene.clock.pass(100.0);
    let done = scene.register("");
    assert_eq!(listed(&done), ["<sip:alice@198.51.100.7>;expires=500"]);
    assert_eq!((scene.tables.edits, done.changed, done.events.len()), (edits, None, 0));
}

// Step 7: refreshing.

#[test]
fn the_same_contact_again_is_a_refresh() {
    let mut scene = scene();
    scene.register("Contact: <sip:alice@198.51.100.7>\nExpires: 100");
    scene.clock.pass(90.0);
    let done = scene.register("Contact: <sip:alice@198.51.100.7>\nExpires: 100");
    assert_eq!(changes(&done), [Registration::Refreshed]);
    assert_eq!(listed(&done), ["<sip:alice@198.51.100.7>;expires=100"]);
}

#[test]
fn contacts_are_compared_as_uris() {
    let mut scene = scene();
    scene.register("Contact: <sip:%61lice@Phone.example;transport=udp>");
    scene.register("Contact: <sip:alice@phone.EXAMPLE;transport=UDP>");
    assert_eq!(scene.bound(), ["sip:alice@phone.EXAMPLE;transport=UDP"]);
    scene.register("Contact: <sip:alice@phone.example>");
    assert_eq!(scene.bound().len(), 2, "transport decides");
}

#[test]
fn a_refresh_from_a_new_source_moves_the_binding_there() {
    let mut scene = scene();
    let contact = "Contact: <sip:alice@192.168.1.10>";
    scene.from("198.51.100.7:4000", &register(ALICE, "c", 1, contact));
    scene.from("198.51.100.7:4001", &register(ALICE, "c", 2, contact));
    assert_eq!(scene.only().flow.remote.port(), 4001);
}

#[test]
fn one_instance_keeps_one_binding_per_reg_id_whatever_its_contact() {
    let mut scene = scene();
    let contact = |host, reg_id| {
        format!(
            "Supported: outbound\nContact: <sip:alice@{host}>;+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}"
        )
    };
    scene.register(&contact("h1", 1));
    let done = scene.register(&contact("h2", 1));
    assert_eq!(scene.bound(), ["sip:alice@h2"]);
    assert_eq!(listed(&done), ["<sip:alice@h2>;expires=3600;+sip.instance=\"<urn:uuid:1>\";reg-id=1"]);
    scene.register(&contact("h3", 2));
    assert_eq!(scene.bound().len(), 2);
}

// Step 7: removing.

#[test]
fn expires_zero_removes_only_that_contact() {
    let mut scene = scene();
    scene.register("Contact: <sip:a@h>, <sip:b@h>");
    let done = scene.register("Contact: <sip:a@h>;expires=0");
    assert_eq!((scene.bound(), changes(&done)), (vec!["sip:b@h".to_string()], vec![Registration::Removed]));
    let nothing = scene.register("Contact: <sip:a@h>;expires=0");
    assert_eq!((status(&nothing), nothing.events.len()), (200, 0));
}

#[test]
fn the_expires_header_removes_what_has_no_parameter_of_its_own() {
    let mut scene = scene();
    scene.register("Contact: <sip:a@h>, <sip:b@h>");
    scene.register("Contact: <sip:a@h>, <sip:b@h>;expires=100\nExpires: 0");
    assert_eq!(scene.bound(), ["sip:b@h"]);
}

// Step 6: the star.

#[test]
fn a_star_with_expires_zero_removes_all() {
    let mut scene = scene();
    scene.register("Contact: <sip:a@h>, <sip:b@h>");
    let done = scene.register("Contact: *\nExpires: 0");
    assert_eq!((status(&done), listed(&done).len(), scene.tables.aors().len()), (200, 0, 0));
    assert_eq!(changes(&done), [Registration::Removed; 2]);
}

#[test]
fn a_star_with_anything_else_is_400_and_removes_nothing() {
    for lines in [
        "Contact: *",
        "Contact: *\nExpires: 10",
        "Contact: *\nContact: <sip:b@h>\nExpires: 0",
        "Contact: <sip:b@h>\nContact: *\nExpires: 0",
    ] {
        let mut scene = scene();
        scene.register("Contact: <sip:a@h>");
        assert_eq!(status(&scene.register(lines)), 400, "{lines}");
        assert_eq!(scene.bound(), ["sip:a@h"], "{lines}");
    }
}

#[test]
fn a_star_that_is_out_of_order_removes_nothing() {
    let mut scene = scene();
    scene.request("c", 5, "Contact: <sip:a@h>");
    assert_eq!(status(&scene.request("c", 5, "Contact: *\nExpires: 0")), 500);
    assert_eq!(scene.bound().len(), 1);
    assert_eq!(status(&scene.request("c", 6, "Contact: *\nExpires: 0")), 200);
}

// Step 7: lifetimes.

#[test]
fn the_parameter_counts_before_the_header_before_the_default() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>;expires=200, <sip:b@h>\nExpires: 300");
    assert_eq!(listed(&done), ["<sip:a@h>;expires=200", "<sip:b@h>;expires=300"]);
    assert_eq!(
        listed(&scene.register("Contact: <sip:a@h>, <sip:b@h>;expires=0")),
        ["<sip:a@h>;expires=3600"]
    );
}

#[test]
fn an_expiry_that_cannot_be_read_counts_as_none() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>;expires=soon\nExpires: later");
    assert_eq!(listed(&done), ["<sip:a@h>;expires=3600"]);
}

#[test]
fn too_brief_an_expiry_is_423_with_the_least_one() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>;expires=59");
    assert_eq!((status(&done), answer(&done).text(Name::MinExpires)), (423, Some("60")));
    assert!(scene.bound().is_empty());
    assert_eq!(status(&scene.register("Contact: <sip:a@h>;expires=60")), 200);
}

#[test]
fn an_hour_is_never_too_brief() {
    let mut scene = scene();
    scene.config.expiries = crate::config::Expiries { min: 7200, default: 7200, max: 9000 };
    assert_eq!(status(&scene.register("Contact: <sip:a@h>;expires=3599")), 423);
    assert_eq!(status(&scene.register("Contact: <sip:a@h>;expires=3600")), 200);
}

#[test]
fn too_long_an_expiry_is_cut() {
    let done = scene().register("Contact: <sip:a@h>;expires=4294967295");
    assert_eq!(listed(&done), ["<sip:a@h>;expires=7200"]);
}

#[test]
fn a_binding_is_gone_when_its_time_is_over() {
    let mut scene = scene();
    scene.register("Contact: <sip:a@h>;expires=100");
    scene.clock.pass(99.0);
    assert_eq!(listed(&scene.register("")), ["<sip:a@h>;expires=1"]);
    assert!(expired(scene.clock.now(), ALICE, &mut scene.tables).is_empty());
    scene.clock.pass(1.0);
    assert!(listed(&scene.register("")).is_empty());
    let told = expired(scene.clock.now(), ALICE, &mut scene.tables);
    assert!(matches!(told[..], [Event::Registered { change: Registration::Lost, .. }]));
    assert!(scene.tables.aors().is_empty());
}

// Step 7: order, and all or nothing.

#[test]
fn under_one_call_id_an_older_request_changes_nothing() {
    let mut scene = scene();
    scene.request("c", 10, "Contact: <sip:a@h>;expires=100");
    for cseq in [9, 10] {
        assert_eq!(status(&scene.request("c", cseq, "Contact: <sip:a@h>;expires=0")), 500);
        assert_eq!(scene.bound(), ["sip:a@h"]);
    }
    assert_eq!(status(&scene.request("c", 11, "Contact: <sip:a@h>;expires=0")), 200);
}

#[test]
fn another_call_id_counts_anew() {
    let mut scene = scene();
    scene.request("before-the-reboot", 10, "Contact: <sip:a@h>");
    assert_eq!(status(&scene.request("after-it", 1, "Contact: <sip:a@h>")), 200);
    assert_eq!((scene.only().call_id.as_str(), scene.only().cseq), ("after-it", 1));
}

#[test]
fn one_contact_that_fails_leaves_all_others_as_they_were() {
    let mut scene = scene();
    scene.request("c", 10, "Contact: <sip:a@h>;expires=100");
    let failing = [
        "Contact: <sip:b@h>, <sip:a@h>",
        "Contact: <sip:b@h>, <sip:c@h>;expires=1",
        "Contact: <sip:b@h>, <tel:+4930123>",
        "Contact: <sip:b@h>, <sip:>",
    ];
    for lines in failing {
        let before = scene.tables.bindings(ALICE);
        assert_ne!(status(&scene.request("c", 9, lines)), 200, "{lines}");
        assert_eq!(scene.tables.bindings(ALICE), before, "{lines}");
    }
}

#[test]
fn a_contact_named_twice_is_bound_once_as_it_was_named_last() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>;expires=100, <sip:a@h>;expires=200");
    assert_eq!((status(&done), listed(&done)), (200, vec!["<sip:a@h>;expires=200".to_string()]));
}

// Steps 2, 4 and 5.

#[test]
fn what_the_device_requires_and_we_lack_is_420_by_name() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>\nRequire: path, x-gravity, outbound, x-levity");
    assert_eq!((status(&done), answer(&done).text(Name::Unsupported)), (420, Some("x-gravity, x-levity")));
    assert!(scene.bound().is_empty());
}

#[test]
fn an_address_at_no_domain_of_ours_is_404() {
    let mut scene = scene();
    let request = register("alice@elsewhere.example", "c", 1, "Contact: <sip:a@h>");
    assert_eq!(status(&scene.from(SOURCE, &request)), 404);
}

#[test]
fn a_phone_that_registers_at_our_address_is_found_at_our_domain() {
    let mut scene = scene();
    scene.from(SOURCE, &register("alice@203.0.113.1", "c", 1, "Contact: <sip:a@h>"));
    assert_eq!(scene.bound(), ["sip:a@h"]);
}

// Step 8: the answer.

#[test]
fn the_answer_carries_the_date_and_the_tag() {
    let done = scene().register("Contact: <sip:a@h>");
    assert_eq!(answer(&done).text(Name::Date), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert_eq!(answer(&done).to_tag(), "totag");
}

// RFC 3327.

#[test]
fn a_path_is_kept_and_told_when_the_device_supports_it() {
    let mut scene = scene();
    let path = "Path: <sip:edge1.example;lr>, <sip:edge2.example;lr>";
    let done = scene.register(&format!("Contact: <sip:a@h>\nSupported: path\n{path}"));
    assert_eq!(scene.only().path, ["<sip:edge1.example;lr>", "<sip:edge2.example;lr>"]);
    assert_eq!(answer(&done).text(Name::Path), Some("<sip:edge1.example;lr>, <sip:edge2.example;lr>"));
}

#[test]
fn a_path_behind_the_devices_back_is_420() {
    let mut scene = scene();
    let done = scene.register("Contact: <sip:a@h>\nPath: <sip:edge.example;lr>");
    assert_eq!((status(&done), answer(&done).text(Name::Unsupported)), (420, Some("path")));
}

// NAT.

#[test]
fn a_device_that_names_itself_rightly_is_behind_no_nat() {
    let mut scene = scene();
    scene.register("Contact: <sip:alice@198.51.100.7>");
    assert!(!scene.only().behind_nat);
    assert_eq!(scene.only().sent_by, "198.51.100.7:5060");
}

#[test]
fn another_address_or_udp_port_in_via_or_contact_shows_a_nat() {
    for (source, contact) in [
        (SOURCE, "<sip:alice@192.168.1.10>"),
        (SOURCE, "<sip:alice@198.51.100.7:5062>"),
        ("198.51.100.7:61000", "<sip:alice@198.51.100.7:61000>"),
        ("198.51.100.8:5060", "<sip:alice@198.51.100.8>"),
    ] {
        let mut scene = scene();
        scene.from(source, &register(ALICE, "c", 1, &format!("Contact: {contact}")));
        assert!(scene.only().behind_nat, "{source} {contact}");
    }
}

#[test]
fn over_a_connection_the_port_shows_nothing() {
    let mut scene = scene();
    let flow = Flow { transport: proto::node::Transport::Tcp, ..udp("198.51.100.7:61000") };
    scene.by(&flow, &register(ALICE, "c", 1, "Contact: <sip:alice@198.51.100.7:5060;transport=tcp>"));
    assert!(!scene.only().behind_nat);
}

#[test]
fn a_host_name_shows_nothing() {
    let mut scene = scene();
    scene.register("Contact: <sip:alice@phone.example>");
    assert!(!scene.only().behind_nat);
}

// Limits and losses.

#[test]
fn more_devices_than_allowed_are_403_and_change_nothing() {
    let mut scene = scene();
    scene.config.limits.bindings = 2;
    scene.register("Contact: <sip:a@h>, <sip:b@h>");
    assert_eq!(status(&scene.register("Contact: <sip:c@h>")), 403);
    assert_eq!(scene.bound(), ["sip:a@h", "sip:b@h"]);
    assert_eq!(status(&scene.register("Contact: <sip:b@h>")), 200, "a refresh is no new device");
}

#[test]
fn a_device_that_answers_no_more_makes_room() {
    let mut scene = scene();
    scene.config.limits.bindings = 2;
    scene.register("Contact: <sip:a@h>, <sip:b@h>");
    scene.tables.edit_bindings(ALICE, &mut |bindings| bindings[0].unanswered = 3);
    assert_eq!(status(&scene.register("Contact: <sip:c@h>")), 200);
    assert_eq!(scene.bound(), ["sip:b@h", "sip:c@h"]);
}

#[test]
fn a_device_that_had_been_given_up_is_reachable_when_it_registers() {
    let mut scene = scene();
    scene.register("Contact: <sip:a@h>");
    scene.tables.edit_bindings(ALICE, &mut |bindings| bindings[0].unanswered = 3);
    let done = scene.register("Contact: <sip:a@h>");
    assert!(matches!(done.events[..], [_, Event::Reachable { reachable: true, .. }]));
    assert_eq!(scene.only().unanswered, 0);
}

#[test]
fn a_connection_that_closes_takes_its_bindings_and_no_others() {
    let mut scene = scene();
    let flow =
        |id| Flow { transport: proto::node::Transport::Tcp, id: proto::node::FlowId(id), ..udp(SOURCE) };
    scene.by(&flow(1), &register(ALICE, "c1", 1, "Contact: <sip:a@h;transport=tcp>"));
    scene.by(&flow(2), &register(ALICE, "c2", 1, "Contact: <sip:b@h;transport=tcp>"));
    let lost = closed(&flow(1), [ALICE.to_string()], &scene.config, &mut scene.tables);
    assert_eq!(
        (scene.bound(), lost.changed),
        (vec!["sip:b@h;transport=tcp".to_string()], vec![ALICE.to_string()])
    );
    assert!(matches!(lost.events[..], [Event::Registered { change: Registration::Lost, .. }]));
    assert!(closed(&flow(1), [ALICE.to_string()], &scene.config, &mut scene.tables).changed.is_empty());
}

#[test]
fn a_refused_register_says_why() {
    let done = scene().register("Contact: <sip:a@h>;expires=1");
    assert!(matches!(done.events[..], [Event::Refused { status: 423, .. }]));
    assert!(done.changed.is_none());
}
