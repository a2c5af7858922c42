//! RFC 3327: Path.

use proto::node::Transport;
use proto::sip::Name;

use crate::desk::{A, B, C, Desk, register, request, requests, response};
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

/// §5.4: the next hop is where the first of its Paths says (RFC 3261 §16.6 step 7).
/// Not met: it is whoever brought the REGISTER, by the very connection: that is the proxy of the first Path or one in front
/// of it, whose own address may mean nothing here. The Path is its Route there all the same.
#[test]
fn a_call_goes_to_who_brought_the_registration() {
    let mut desk = Desk::open();
    let draft = register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Path", "<sip:10.0.0.1;lr>");
    desk.hear(B, draft.with("Supported", "path"));
    let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
    assert_eq!(there.flow.remote.to_string(), B);
    assert_eq!(there.message.values(Name::Route).collect::<Vec<_>>(), ["<sip:10.0.0.1;lr>"]);
    assert_eq!(response(&desk.answer(&there, 180, &[]), A).status(), Some(180));
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
