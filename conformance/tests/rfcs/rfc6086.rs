//! RFC 6086: INFO, which a proxy lets through.

use crate::desk::{A, B, Desk, in_dialog, invite, requests, response};

/// §4.2: an INFO goes by the dialog's way to its other end, package and body as they came, and its answer back.
#[test]
fn an_info_takes_the_dialog_s_way() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite().with("Recv-Info", "foo"));
    assert!(String::from_utf8_lossy(there.message.bytes()).contains("Recv-Info: foo\r\n"));
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let info =
        in_dialog("INFO", 2, &ok).with("Info-Package", "foo").carrying("application/foo", "I am a foo");
    let info = requests(&desk.hear(A, info), "INFO").remove(0);
    assert_eq!((info.flow.remote.to_string(), info.message.body()), (B.into(), &b"I am a foo"[..]));
    assert!(String::from_utf8_lossy(info.message.bytes()).contains("Info-Package: foo\r\n"));
    assert_eq!(response(&desk.answer(&info, 200, &[]), A).status(), Some(200));
}

/// §4.2.2: a package nobody asked for is refused by the callee (469), with Recv-Info; both come back.
#[test]
fn a_refused_package_comes_back_by_name() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let info =
        requests(&desk.hear(A, in_dialog("INFO", 2, &ok).with("Info-Package", "bar")), "INFO").remove(0);
    let refused = response(&desk.answer(&info, 469, &[("Recv-Info", "foo")]), A);
    assert_eq!(refused.status(), Some(469));
    assert!(String::from_utf8_lossy(refused.bytes()).contains("Recv-Info: foo\r\n"));
}
