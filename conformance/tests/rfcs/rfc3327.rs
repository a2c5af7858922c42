//! RFC 3327: Path.

use proto::sip::Name;

use crate::desk::{A, B, Desk, register, request, requests, response};

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
