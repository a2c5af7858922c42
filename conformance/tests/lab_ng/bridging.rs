//! Kamailio's script says who encrypts (`RTP/SAVP`, `RTP/AVP`), and the relay behind its `rtpengine` module stands between: a
//! baresip that takes SRTP alone and one that knows none call each other, and what each sent is counted at the other.

use conformance::lab::sbc::report_of;
use conformance::lab::wire::Wire;
use conformance::lab::{Lab, PATIENCE, Process, peer, postern};
use serde_json::Value;

pub(crate) const KAMAILIO: &str = "198.51.100.60";
/// 20 ms of G.711 in RTP.
const OPEN: usize = 172;
/// The same with the tag of AES_CM_128_HMAC_SHA1_80.
const SEALED: usize = 182;

pub(crate) struct Stage {
    pub(crate) lab: Lab,
    _kamailio: Process,
    _postern: Process,
}

impl Stage {
    /// Kamailio, with these options, and a relay beside it.
    pub(crate) fn up(parties: &str, options: &[&str]) -> Option<Stage> {
        let lab = Lab::up(&format!("-p kamailio={KAMAILIO} {parties}"))?;
        let relay = format!("relay:\n  address: udp:{KAMAILIO}:5090\n  ports: 20000-20999\n");
        let control = format!("control: {}\n", lab.scratch().join("kamailio.sock").display());
        let config = lab.write("kamailio.yaml", &(relay + "  ng: udp:127.0.0.1:2223\n" + &control));
        let mut postern = lab.spawn("kamailio", &[postern(), "run", "-c", &config.to_string_lossy()]);
        postern.wait_for("ready: listening", PATIENCE);
        let run = peer("kamailio/run-proxy");
        let fixed = [run.as_str(), KAMAILIO, "sip:198.51.100.99:5060", "-A", "WITH_RTPENGINE"];
        let mut kamailio = lab.spawn("kamailio", &[&fixed, options].concat());
        kamailio.wait_for_port("kamailio", 5060, PATIENCE);
        Some(Stage { lab, _kamailio: kamailio, _postern: postern })
    }

    /// A baresip of the host of that name, which must have registered before it goes on.
    pub(crate) fn baresip(&self, user: &str, seconds: &str, more: &[&str]) -> Process {
        let folder = self.lab.scratch().join(format!("baresip-{user}"));
        let encrypts = if user == "secure" { ";mediaenc=srtp-mand" } else { "" };
        let (bsip, dir) = (peer("bsip"), folder.to_string_lossy());
        let fixed = [&bsip, user, "--proxy", KAMAILIO, "--domain", "kam.test", "--time", seconds];
        let own = ["--dir", &dir, "--account", encrypts];
        self.lab.spawn(user, &[&fixed[..], &own, more].concat())
    }

    pub(crate) fn registered(&self, user: &str) {
        self.lab.baresip_registered(user);
    }

    pub(crate) fn nothing_stays_lent(&self) {
        self.lab.nothing_stays_lent("kamailio", &self.lab.scratch().join("kamailio.yaml"));
    }
}

/// One calls the other for two seconds.
fn a_call(caller: &str, callee: &str) {
    let Some(stage) = Stage::up("-p secure=203.0.113.10 -p plain=203.0.113.20", &[]) else { return };
    let recorder = stage.lab.capture(&["secure", "plain"]);
    let waits = stage.baresip(callee, "30", &["--once", "--tone", "600"]);
    stage.registered(callee);
    let uri = format!("sip:{callee}@kam.test");
    let call = ["--once", "--tone", "440", "--dial", &uri, "--dial-at", "1", "--at", "2:hangup"];
    let calls = report_of(stage.baresip(caller, "20", &call));
    let waits = report_of(waits);
    let wire = recorder.stop();
    both_heard(&calls, &waits, &wire);
    assert_sizes(&wire.at("secure"), SEALED);
    assert_sizes(&wire.at("plain"), OPEN);
    stage.nothing_stays_lent();
}

fn both_heard(caller: &Value, callee: &Value, wire: &Wire) {
    let number = |report: &Value, name: &str| report[name].as_i64().unwrap_or(0);
    for (own, other, tone) in [(caller, callee, 600), (callee, caller, 440)] {
        assert!(own["established"] == true, "{own}\n{}", wire.ladder());
        let (sent, received) = (number(other, "sent"), number(own, "received"));
        assert!(sent > 60 && sent - received < 15, "{sent} sent, {received} received\n{}", wire.ladder());
        assert!((number(own, "tone_hz") - tone).abs() <= 5, "the other's tone is {tone} Hz: {own}");
    }
}

/// Whatever is RTP at this host, sent or received, has that size. A relay that comes late sends several packets at once
/// (UDP_SEGMENT), and between hosts of the laboratory no card takes them apart.
fn assert_sizes(wire: &Wire, size: usize) {
    let is_voice = |bytes: &[u8]| bytes.len() > 100 && bytes[0] == 0x80 && bytes[1] & 0x7f == 0;
    let sizes: Vec<usize> =
        wire.packets.iter().map(|p| &p.payload).filter(|p| is_voice(p)).map(Vec::len).collect();
    let other: Vec<&usize> = sizes.iter().filter(|len| **len % size != 0).collect();
    let packets = sizes.iter().sum::<usize>() / size;
    assert!(packets > 120 && other.is_empty(), "{packets} of {size} bytes, and {other:?}");
}

#[test]
fn whoever_encrypts_calls_whoever_does_not_by_way_of_kamailio() {
    a_call("secure", "plain");
}

#[test]
fn whoever_does_not_encrypt_calls_whoever_does_by_way_of_kamailio() {
    a_call("plain", "secure");
}
