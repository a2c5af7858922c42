//! Topology hiding between real programs: sipp, baresip and Asterisk inside and outside, each behind a NAT of its own or in
//! public. Nothing of the inside leaves to the outside: the capture is searched for its addresses and its Call-IDs.
//!
//! ```text
//!   bob 192.168.7.10 ── NAT 203.0.113.102 ──┐                                    ┌── NAT 203.0.113.101 ── alice 192.168.1.10
//!   pbx 198.51.100.50 ──────────────────────┴── 198.51.100.20 edge 198.51.100.21 ┴── carrier 203.0.113.60
//!                        inside                                                     outside, `hide-topology: true`
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::time::Duration;

use conformance::lab::crew::heard;
use conformance::lab::sbc::report_of;
use conformance::lab::wire::Wire;
use conformance::lab::{Lab, PATIENCE, Process, peer};

const SECONDS: Duration = Duration::from_secs(1);
const INSIDE: &str = "198.51.100.20";
const OUTSIDE: &str = "198.51.100.21";
const PBX: &str = "198.51.100.50";
const CARRIER: &str = "203.0.113.60";

/// What stands in no message to the outside: addresses of the inside, and our own mark for Call-IDs.
const NEVER_OUTSIDE: [&str; 6] = [INSIDE, PBX, "192.168.7.", "198.51.100.51", "203.0.113.102", "out~"];

struct Stage {
    postern: Process,
    lab: Lab,
    proxy: String,
}

impl Stage {
    fn up(parties: &str, proxy: &str) -> Option<Stage> {
        let lab = Lab::up(&format!("-p edge={INSIDE},{OUTSIDE} {parties}"))?;
        let postern = lab.service("edge", &config(proxy));
        Some(Stage { postern, lab, proxy: proxy.to_owned() })
    }

    /// Power fails, and the next process starts with the same key and nothing else.
    fn killed_and_started(&mut self) {
        self.postern.kill();
        self.postern = self.lab.service("edge", &config(&self.proxy));
    }

    /// A baresip at this address of the edge.
    fn baresip(&self, user: &str, at: &str, seconds: u32, more: &[&str]) -> Process {
        let (bsip, seconds) = (peer("bsip"), seconds.to_string());
        let folder = self.lab.scratch().join(format!("baresip-{user}"));
        let folder = folder.to_string_lossy();
        let fixed = [bsip.as_str(), user, "--proxy", at, "--time", &seconds, "--dir", &folder];
        self.lab.spawn(user, &[&fixed[..], more].concat())
    }
}

fn config(proxy: &str) -> String {
    let user = |name| format!("  - {{ name: {name}, password: pw-{name} }}\n");
    let users: String = ["alice", "bob", "carol", "dave"].into_iter().map(user).collect();
    format!(
        "networks:\n  inside: {{ bind: {INSIDE}, cidr: [198.51.100.0/24, 203.0.113.102/32] }}\n  \
         outside: {{ bind: {OUTSIDE}, cidr: [0.0.0.0/0], hide-topology: true }}\n\
         listeners:\n  - {{ address: udp:{INSIDE}:5060, network: inside }}\n  - {{ address: udp:{OUTSIDE}:5060, network: outside }}\n\
         node-key: the-key-of-this-laboratory-only\ndomains: [sbc.test]\nusers:\n{users}{proxy}\
         relay:\n  address: udp:{INSIDE}:5090\n  ports: 20000-20999\n  networks: [inside, outside]\n"
    )
}

/// Nothing inside leaves: neither its addresses nor a Call-ID that was given there.
fn nothing_inside_left(wire: &Wire) {
    let (mut given_inside, mut left) = (BTreeSet::new(), 0);
    let all = wire.at("edge").sip();
    for seen in &all {
        if [seen.from, seen.to].iter().any(|at| at.ip().to_string() == INSIDE) {
            let call = seen.message.header("Call-ID").unwrap_or_default();
            given_inside.extend(Some(call.to_owned()).filter(|call| !call.starts_with("out~")));
        }
    }
    assert!(!given_inside.is_empty(), "{}", wire.ladder());
    for seen in all.iter().filter(|seen| seen.from.ip().to_string() == OUTSIDE) {
        left += 1;
        let text = &seen.message.0;
        let told = NEVER_OUTSIDE.into_iter().chain(given_inside.iter().map(String::as_str));
        for inside in told {
            assert!(!text.contains(inside), "{inside} leaves to {}:\n{text}", seen.to);
        }
    }
    assert!(left > 3, "{}", wire.ladder());
}

/// 200 calls of sipp's from this host to the other: `who` is what the route leads there by.
fn sipp_calls(stage: &Stage, [caller, at]: [&str; 2], edge: &str, [callee, to]: [&str; 2], who: &str) {
    let bench = |name: &str| format!("{}/bench/{name}", env!("CARGO_MANIFEST_DIR"));
    let sipp = |host: &str, address: &str, more: &[&str]| {
        stage.lab.spawn(host, &[&["sipp", "-nostdin", "-i", address][..], more].concat())
    };
    let mut answers = sipp(callee, to, &["-sf", &bench("uas.xml"), "-p", "5070", "-m", "200"]);
    answers.wait_for_port("sipp", 5070, PATIENCE);
    let (scenario, edge) = (bench("uac.xml"), format!("{edge}:5060"));
    let calls = ["-sf", &scenario, "-p", "5080", "-s", who, "-m", "200", "-r", "50", &edge];
    let mut calls = sipp(caller, at, &calls);
    for side in [&mut calls, &mut answers] {
        // It says 0 only when every call went as the scenario says.
        let status = side.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", side.output());
    }
}

#[test]
fn sipps_calls_pass_the_border_both_ways_and_show_nothing() {
    let routes = format!(
        "auth: {{ required: false }}\nshield: {{ enabled: false }}\nproxy:\n  routes:\n    \
         - {{ to: \"in*\", via: udp:{PBX}:5070 }}\n    - {{ to: \"out*\", via: udp:{CARRIER}:5070 }}\n"
    );
    let Some(stage) = Stage::up(&format!("-p pbx={PBX} -p carrier={CARRIER}"), &routes) else { return };
    let recorder = stage.lab.capture(&["edge"]);
    sipp_calls(&stage, ["pbx", PBX], INSIDE, ["carrier", CARRIER], "out1");
    sipp_calls(&stage, ["carrier", CARRIER], OUTSIDE, ["pbx", PBX], "in1");
    nothing_inside_left(&recorder.stop());
}

const TWO_NATS: &str = "-s home:symmetric:alice -s office:port-restricted:bob:lan=192.168.7";

/// One calls, the other holds the call, takes it back and hangs up.
fn baresips_talk(inside_calls: bool) {
    let Some(stage) = Stage::up(TWO_NATS, "proxy: {}\n") else { return };
    let recorder = stage.lab.capture(&["edge"]);
    let ends = ["--at", "2.5:hold", "--at", "4:resume", "--at", "6:hangup"];
    let parties = [("alice", OUTSIDE, "440"), ("bob", INSIDE, "600")];
    let starts = |(user, at, tone), more: &[&str]| {
        stage.baresip(user, at, 50, &[&["--once", "--tone", tone], more].concat())
    };
    let [caller, callee] = if inside_calls { [parties[1], parties[0]] } else { parties };
    let called = starts(callee, &ends);
    stage.lab.baresip_registered(callee.0);
    let calls = starts(caller, &["--dial", &format!("sip:{}@sbc.test", callee.0)]);
    let (alice, bob) = if inside_calls { (called, calls) } else { (calls, called) };
    let (alice, bob, wire) = (report_of(alice), report_of(bob), recorder.stop());
    for (report, tone) in [(&alice, 600), (&bob, 440)] {
        let number = |name: &str| report[name].as_i64().unwrap_or(0);
        let off = (number("tone_hz") - tone).abs();
        assert!(off <= 5 && number("received") > 150, "{alice:#}\n{bob:#}\n{}", wire.ladder());
        let closed = |event: &serde_json::Value| event["type"] == "CALL_CLOSED";
        assert!(report["events"].as_array().is_some_and(|all| all.iter().any(closed)), "{report:#}");
    }
    let seen = wire.sip();
    let holds = |s: &&conformance::lab::story::Seen| {
        s.message.is("INVITE") && s.message.header("To").is_some_and(|to| to.contains(";tag="))
    };
    assert!(seen.iter().filter(holds).count() >= 4, "a hold and its end cross us:\n{}", wire.ladder());
    nothing_inside_left(&wire);
}

#[test]
fn a_baresip_inside_calls_one_outside_which_holds_and_hangs_up() {
    baresips_talk(true);
}

#[test]
fn a_baresip_outside_calls_one_inside_which_holds_and_hangs_up() {
    baresips_talk(false);
}

/// Postern is killed in mid-call; who hangs up afterwards is understood by the other side.
#[test]
fn baresips_hang_up_after_the_proxy_between_them_was_killed() {
    let Some(mut stage) = Stage::up(TWO_NATS, "proxy: {}\n") else { return };
    let recorder = stage.lab.capture(&["edge"]);
    let alice = stage.baresip("alice", OUTSIDE, 50, &["--once"]);
    stage.lab.baresip_registered("alice");
    let mut bob = stage.baresip("bob", INSIDE, 50, &["--once", "--dial", "sip:alice@sbc.test"]);
    stage.lab.baresip_established("bob");
    std::thread::sleep(2 * SECONDS);
    stage.killed_and_started();
    bob.terminate();
    let (alice, bob, wire) = (report_of(alice), report_of(bob), recorder.stop());
    let closed = |event: &serde_json::Value| event["type"] == "CALL_CLOSED";
    let ended = alice["events"].as_array().is_some_and(|all| all.iter().any(closed));
    assert!(ended, "alice does not hear of the end:\n{alice:#}\n{bob:#}\n{}", wire.ladder());
    nothing_inside_left(&wire);
}

/// Postern as Asterisk's trunk, met at this address; 71 is bob and 72 carol.
fn trunk(edge: &str) -> String {
    format!(
        "[postern]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=ulaw\naors=postern\ndirect_media=no\n\
         outbound_proxy=sip:{edge}:5060\\;lr\n[postern]\ntype=aor\ncontact=sip:{edge}:5060\n\
         [identify]\ntype=identify\nendpoint=postern\nmatch={edge}\n"
    )
}

const DIALS: &str = "
exten => 71,1,Dial(PJSIP/postern/sip:bob@sbc.test,20)
exten => 72,1,Dial(PJSIP/postern/sip:carol@sbc.test,20)
";

/// `transferor` calls bob by the PBX, holds the call, asks carol by the PBX, and connects both: each of its two calls is known to
/// the PBX by another name than to itself, and so is the one in Replaces.
fn an_attended_transfer_by(stage: &Stage, pbx: [&str; 2], edge: &str, transferor: &str, places: [&str; 3]) {
    let Some(asterisk) = stage.lab.asterisk(pbx[0], pbx[1], &trunk(edge), DIALS) else { return };
    let recorder = stage.lab.capture(&["edge"]);
    let member = |user, at, steps: &str| stage.lab.member(user, "sbc.test", &format!("udp:{at}:5060"), steps);
    let waits = |user, at| member(user, at, "{do: wait, after: ended}").registered();
    let (bob, carol) = (waits("bob", places[1]), waits("carol", places[2]));
    let steps = "{do: call, to: \"sip:71@sbc.test\", after: registered, at-ms: 200}
         {do: hold, after: answered, at-ms: 1000}
         {do: consult, to: \"sip:72@sbc.test\", after: previous, at-ms: 500}
         {do: transfer-consulted, after: answered, at-ms: 1000}
         {do: wait, after: ended}";
    let transferor = member(transferor, places[0], steps).report();
    std::thread::sleep(2 * SECONDS);
    asterisk.console("channel request hangup all");
    let (bob, carol, wire) = (bob.report(), carol.report(), recorder.stop());
    let told = || format!("{transferor:#}\n{bob:#}\n{carol:#}\n{}\n{}", asterisk.said(), wire.ladder());
    assert_eq!(transferor["transfer-status"], 200, "{}", told());
    assert!(heard(&bob, "carol@sbc.test") > 50 && heard(&carol, "bob@sbc.test") > 50, "{}", told());
    nothing_inside_left(&wire);
}

#[test]
fn a_phone_outside_transfers_between_legs_of_an_asterisk_inside() {
    let parties = format!("{TWO_NATS} -p carol=203.0.113.70 -p pbx={PBX}");
    let routes = format!("proxy:\n  routes:\n    - {{ to: \"7*\", via: udp:{PBX}:5060, trusted: true }}\n");
    let Some(stage) = Stage::up(&parties, &routes) else { return };
    an_attended_transfer_by(&stage, ["pbx", PBX], INSIDE, "alice", [OUTSIDE, INSIDE, OUTSIDE]);
}

#[test]
fn a_phone_inside_transfers_between_legs_of_an_asterisk_outside() {
    let parties = format!(
        "-s home:symmetric:carol -s office:port-restricted:dave,bob:lan=192.168.7 -p carrier={CARRIER}"
    );
    let routes =
        format!("proxy:\n  routes:\n    - {{ to: \"7*\", via: udp:{CARRIER}:5060, trusted: true }}\n");
    let Some(stage) = Stage::up(&parties, &routes) else { return };
    an_attended_transfer_by(&stage, ["carrier", CARRIER], OUTSIDE, "dave", [INSIDE, INSIDE, OUTSIDE]);
}

/// A call to Asterisk's echo, and one from it to the phone, whichever side of the border it is on; Postern is killed in the
/// midst of the first.
fn an_asterisk_is_called_and_calls(mut stage: Stage, pbx: [&str; 2], pbx_edge: &str, phone: [&str; 2]) {
    let dials = format!("exten => 73,1,Dial(PJSIP/postern/sip:{}@sbc.test,20)\n", phone[0]);
    let Some(asterisk) = stage.lab.asterisk(pbx[0], pbx[1], &trunk(pbx_edge), &dials) else { return };
    let recorder = stage.lab.capture(&["edge"]);
    let steps = "{do: call, to: \"sip:600@sbc.test\", after: registered, at-ms: 200}
                 {do: hang-up, after: answered, at-ms: 4000}";
    let at = format!("udp:{}:5060", phone[1]);
    let mut caller = stage.lab.member(phone[0], "sbc.test", &at, steps);
    caller.answered();
    std::thread::sleep(2 * SECONDS);
    stage.killed_and_started();
    let caller = caller.report();
    asterisk.comes_to("core show channels", "0 active calls", PATIENCE);
    let mut called = stage.lab.member(phone[0], "sbc.test", &at, "{do: wait, after: ended}").registered();
    asterisk
        .console(&format!("channel originate PJSIP/postern/sip:{}@sbc.test extension 600@phones", phone[0]));
    called.answered();
    std::thread::sleep(2 * SECONDS);
    asterisk.console("channel request hangup all");
    let (called, wire) = (called.report(), recorder.stop());
    let told = || format!("{caller:#}\n{called:#}\n{}\n{}", asterisk.said(), wire.ladder());
    let own = format!("{}@sbc.test", phone[0]);
    assert!(heard(&caller, &own) > 50 && heard(&called, &own) > 40, "{}", told());
    assert_eq!(called["ended-by"], "them", "{}", told());
    nothing_inside_left(&wire);
}

#[test]
fn an_asterisk_inside_is_called_from_outside_and_calls_there_though_the_proxy_is_killed() {
    let routes = format!("proxy:\n  routes:\n    - {{ to: \"6*\", via: udp:{PBX}:5060, trusted: true }}\n");
    let Some(stage) = Stage::up(&format!("-s home:symmetric:alice -p pbx={PBX}"), &routes) else { return };
    an_asterisk_is_called_and_calls(stage, ["pbx", PBX], INSIDE, ["alice", OUTSIDE]);
}

#[test]
fn an_asterisk_outside_is_called_from_inside_and_calls_there_though_the_proxy_is_killed() {
    let routes =
        format!("proxy:\n  routes:\n    - {{ to: \"6*\", via: udp:{CARRIER}:5060, trusted: true }}\n");
    let parties =
        format!("-s home:symmetric:alice -s office:port-restricted:bob:lan=192.168.7 -p carrier={CARRIER}");
    let Some(stage) = Stage::up(&parties, &routes) else { return };
    an_asterisk_is_called_and_calls(stage, ["carrier", CARRIER], OUTSIDE, ["bob", INSIDE]);
}
