//! RFC 3327: Path.

use std::sync::Arc;

use proto::node::{Input, SendError, Transport};
use proto::sip::Name;
use proxy::Config;
use proxy::config::{NextHop, Trunk};

use crate::desk::{A, B, C, Desk, Draft, Sent, open, register, request, requests, response, tcp};
use crate::handset::Handset;

const EDGE: &str = "<sip:198.51.100.30:5060;lr>";

/// §5.3: a registrar keeps Path with the binding, and says so in the 200.
#[test]
fn a_path_is_kept_and_told() {
    let mut desk = Desk::open();
    let draft =
        register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Path", EDGE).with("Supported", "path");
    let ok = response(&desk.hear(B, draft), B);
    assert_eq!((ok.status(), ok.text(Name::Path)), (Some(200), Some(EDGE)));
}

/// §5.4: a request to the binding is given the Path as its Route.
#[test]
fn a_call_takes_the_path() {
    let mut desk = Desk::open();
    let draft =
        register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Path", EDGE).with("Supported", "path");
    desk.hear(B, draft);
    let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
    assert_eq!(there.message.request_uri(), "sip:bob@10.0.0.9");
    assert_eq!(there.message.values(Name::Route).collect::<Vec<_>>(), [EDGE]);
}

/// §5.3: a Path the device does not support is 420.
#[test]
fn a_path_behind_the_device_s_back_is_refused() {
    let draft = register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Path", EDGE);
    let refused = response(&Desk::open().hear(B, draft), B);
    assert_eq!((refused.status(), refused.text(Name::Unsupported)), (Some(420), Some("path")));
}

/// §5.2: a proxy between device and registrar adds itself for a device that supports it.
#[test]
fn a_registration_elsewhere_is_to_come_back_by_us() {
    let mut desk = Desk::open();
    let away = register("bob").to_domain("198.51.100.30").with("Contact", "<sip:bob@10.0.0.9>");
    let there = requests(&desk.hear(B, away.clone().with("Supported", "path")), "REGISTER").remove(0);
    assert!(there.message.text(Name::Path).is_some_and(|path| path.contains("@203.0.113.1:5060;lr")));
    let plain = away.branch("z9hG4bKplain").with("Call-ID", "r2");
    let there = requests(&desk.hear(B, plain), "REGISTER").remove(0);
    assert_eq!(there.message.text(Name::Path), None, "a device that doesn't know of it would never learn");
}

/// §5.3: several Paths are kept in their order, and told in it.
#[test]
fn several_paths_keep_their_order() {
    let mut desk = Desk::open();
    let both = format!("{EDGE}, <sip:198.51.100.31;lr>");
    let draft = register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Path", &both);
    let ok = response(&desk.hear(B, draft.with("Supported", "path")), B);
    assert_eq!(ok.values(Name::Path).collect::<Vec<_>>(), [EDGE, "<sip:198.51.100.31;lr>"]);
    let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
    assert_eq!(there.message.values(Name::Route).collect::<Vec<_>>(), [EDGE, "<sip:198.51.100.31;lr>"]);
}

/// §5.3: a refresh brings the Path anew: what it has is kept, what it lacks is forgotten.
#[test]
fn a_refresh_brings_the_path_anew() {
    let mut desk = Desk::open();
    let by = |number: u32| {
        let draft = register("bob").with("Contact", "<sip:bob@198.51.100.20:5070>").with("Supported", "path");
        draft.branch(&format!("z9hG4bKr{number}")).with("CSeq", &format!("{number} REGISTER"))
    };
    desk.hear(B, by(1).with("Path", EDGE));
    let ok = response(&desk.hear(B, by(2)), B);
    assert_eq!((ok.text(Name::Path), ok.contacts().count()), (None, 1));
    let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
    assert_eq!((there.flow.remote.to_string(), there.message.values(Name::Route).count()), (B.into(), 0));
}

/// §5.4: a Path is its binding's: another device of the same user is met by its own way.
#[test]
fn a_path_is_for_one_binding() {
    let mut desk = Desk::open();
    desk.register("bob", C, &format!("<sip:bob@{C}>"));
    let behind =
        register("bob").branch("z9hG4bKp").with("Call-ID", "p").with("Contact", "<sip:bob@10.0.0.9>");
    desk.hear(B, behind.with("Path", "<sip:198.51.100.31;lr>").with("Supported", "path"));
    let sent = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE");
    let mut ways: Vec<_> = sent.iter().map(|there| there.message.values(Name::Route).count()).collect();
    ways.sort_unstable();
    assert_eq!(ways, [0, 1], "{sent:?}");
}

/// A registrar that knows an edge proxy by this word of its configuration: an address, or a name.
fn knows_edge(host: &str) -> Desk {
    let next = NextHop { host: host.into(), port: None, transport: None };
    let sources = host.parse().into_iter().collect();
    let edge = Trunk { trusted: true, sources, ..Trunk::to("edge", next) };
    Desk::new(Config { trunks: vec![Arc::new(edge)], ..open() })
}

/// Bob registers by way of whoever sends from B, with this Path.
fn by_path(path: &str) -> Draft {
    register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Supported", "path").with("Path", path)
}

/// Where a call for bob goes.
fn called(desk: &mut Desk) -> Vec<Sent> {
    requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE")
}

/// §5.4: the next hop is where the first of its Paths says (RFC 3261 §16.6 step 7), whoever brought the REGISTER.
#[test]
fn a_call_goes_to_the_first_path() {
    let mut desk = knows_edge("198.51.100.30");
    desk.hear(B, by_path(EDGE));
    let there = called(&mut desk).remove(0);
    assert_eq!(there.flow.remote.to_string(), "198.51.100.30:5060");
    assert_eq!(there.message.values(Name::Route).collect::<Vec<_>>(), [EDGE]);
    assert_eq!(there.message.request_uri(), "sip:bob@10.0.0.9");
    assert_eq!(response(&desk.answer(&there, 180, &[]), A).status(), Some(180));
}

/// §5.4: a first Path that is a name is found by RFC 3263; when that leads nowhere, the way the REGISTER came by is left.
#[test]
fn a_path_by_name_is_resolved() {
    for (found, reached) in [(&["10.0.0.30:5070"][..], "10.0.0.30:5070"), (&[], B)] {
        let mut desk = knows_edge("edge.example.com");
        desk.hear(B, by_path("<sip:edge.example.com;lr>"));
        assert_eq!(called(&mut desk).len(), 0);
        assert_eq!(desk.questions.last().map(|(_, name)| name.as_str()), Some("edge.example.com"));
        let there = requests(&desk.resolve(found), "INVITE").remove(0);
        assert_eq!(there.flow.remote.to_string(), reached);
        assert_eq!(there.message.text(Name::Route), Some("<sip:edge.example.com;lr>"));
    }
}

/// §6: a Path that may be forged must not direct requests elsewhere: one whose first URI names neither a trusted place nor the
/// address it came from, and that no trusted server brought, is given as Route to whoever brought it, and leads nowhere else.
#[test]
fn a_stranger_s_path_directs_nothing() {
    for path in ["<sip:10.0.0.1;lr>", "<sip:192.0.2.66:7;lr>", "<sip:victim.example;lr>", "<sip:a@[::1];lr>"]
    {
        let mut desk = knows_edge("198.51.100.30");
        desk.hear(B, by_path(path));
        let there = called(&mut desk).remove(0);
        assert_eq!(there.flow.remote.to_string(), B, "{path}");
        assert!(desk.questions.is_empty(), "nor is a name of theirs looked up");
        assert_eq!(there.message.text(Name::Route), Some(path));
    }
}

/// §6: what a trusted server says of the way to it is believed, wherever that leads.
#[test]
fn a_trusted_server_s_path_is_believed() {
    let mut desk = knows_edge("198.51.100.30");
    desk.hear("198.51.100.30:5060", by_path("<sip:192.0.2.31;lr>, <sip:198.51.100.30;lr>"));
    assert_eq!(called(&mut desk)[0].flow.remote.to_string(), "192.0.2.31:5060");
}

/// §5.4: an edge that nobody is told of is met at the port its Path names, if that is at its own address.
#[test]
fn a_path_names_another_port_of_the_same_address() {
    let mut desk = Desk::open();
    desk.hear(B, by_path("<sip:t@198.51.100.20:5060;lr;ob>"));
    assert_eq!(called(&mut desk)[0].flow.remote.to_string(), "198.51.100.20:5060");
}

/// §5.4: a connection with the edge is used again while it is there; the binding outlives it, since its Path says the way.
#[test]
fn a_binding_by_path_outlives_the_edge_s_connection() {
    let mut desk = Desk::open();
    let edge = tcp("198.51.100.30:40000");
    desk.hear_by(edge, by_path("<sip:198.51.100.30:5060;transport=tcp;lr>"));
    assert_eq!(called(&mut desk)[0].flow, edge);
    desk.tell(Input::Closed { flow: edge });
    let again = request("INVITE", "sip:bob@example.com").branch("z9hG4bKagain").with("Call-ID", "c2");
    let sent = desk.hear(A, again);
    let there = requests(&sent, "INVITE").remove(0);
    let sent = if there.flow == edge { desk.fails(&there, SendError::Closed) } else { sent };
    let there = requests(&sent, "INVITE").remove(0);
    let (transport, at) = (there.flow.transport, there.flow.remote.to_string());
    assert_eq!((transport, at.as_str()), (Transport::Tcp, "198.51.100.30:5060"));
}

/// §5.2: a proxy leaves the Paths that stand already, below its own.
#[test]
fn paths_of_others_stay() {
    let mut desk = Desk::open();
    let draft = register("bob").to_domain("198.51.100.30").with("Contact", "<sip:bob@10.0.0.9>");
    let draft = draft.with("Supported", "path").with("Path", "<sip:198.51.100.31;lr>");
    let there = requests(&desk.hear(B, draft), "REGISTER").remove(0);
    let paths: Vec<_> = there.message.values(Name::Path).collect();
    assert_eq!((paths.len(), paths[1]), (2, "<sip:198.51.100.31;lr>"));
}

/// §5.1: a device that says `path` takes the 200's Path for what it is, and stays registered.
#[test]
fn a_device_may_be_told_its_path() {
    let mut handset = Handset::new([Transport::Tcp, Transport::Tcp]);
    handset.granted(&[(Name::Path, EDGE)]);
    assert_eq!(handset.report().flows, 2);
}
