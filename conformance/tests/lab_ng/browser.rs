//! A browser that is registered at Kamailio over WebSocket and a plain phone call each other: Kamailio's script asks for ICE,
//! DTLS-SRTP and rtcp-mux on the browser's side, and the relay behind its `rtpengine` module ends them.

use std::path::Path;

use conformance::lab::browser::{Browser, both_called_and_heard};
use conformance::lab::sbc::report_of;
use conformance::lab::skipped;

use crate::bridging::{KAMAILIO, Stage};

fn speaks_websocket() -> bool {
    let modules = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let has = |folder: &Path| folder.join("kamailio/modules/websocket.so").exists();
    modules.map(|entry| entry.path()).any(|folder| has(&folder))
}

#[test]
fn a_browser_and_a_plain_phone_call_each_other_by_way_of_kamailio() {
    let Some(browser) = Browser::found() else { return };
    if !speaks_websocket() {
        return skipped("Kamailio has no WebSocket (Debian: kamailio-websocket-modules)");
    }
    let listener = format!("tcp:{KAMAILIO}:8080");
    let options = ["-A", "WITH_WEBSOCKET", "-l", &listener];
    let Some(stage) = Stage::up("-p web=203.0.113.10 -p bob=203.0.113.20", &options) else { return };
    let mut bob = stage.baresip("bob", "60", &["--tone", "600", "--then", "1:dial sip:alice@kam.test"]);
    stage.registered("bob");
    let url = format!("ws://{KAMAILIO}:8080");
    let page = browser.opens(&stage.lab, "web", &url, "kam.test", &["phone.html"]);
    let page = report_of(page);
    bob.terminate();
    both_called_and_heard(&page, &report_of(bob));
    stage.nothing_stays_lent();
}
