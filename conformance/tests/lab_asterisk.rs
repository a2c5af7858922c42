//! Scenario 1h: Asterisk behind a NAT, called and calling; Asterisk as the PBX behind us, with transfers between its legs; and
//! Asterisk as the target of an attended transfer by the name we gave its Contact.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use conformance::lab::PATIENCE;
use conformance::lab::asterisk::Asterisk;
use conformance::lab::crew::{Member, heard};
use conformance::lab::sbc::{SBC, Sbc, report_of};

const PBX: &str = "198.51.100.50";
/// How long a call lasts once it is up: twice as many packets as have to be heard, and time for the echo to open its NAT.
const TALK: Duration = Duration::from_secs(3);

/// An account `pbx` at Postern, registered from behind a NAT; calls to it go to the echo, which speaks when it is spoken to:
/// `rtp_keepalive` is what opens its NAT.
const ACCOUNT: &str = "
[postern]
type=endpoint
context=phones
disallow=all
allow=ulaw
aors=postern
outbound_auth=postern
from_user=pbx
from_domain=sbc.test
direct_media=no
rtp_symmetric=yes
rtp_keepalive=1
outbound_proxy=sip:198.51.100.20:5060\\;lr
[postern]
type=aor
contact=sip:sbc.test
outbound_proxy=sip:198.51.100.20:5060\\;lr
[postern]
type=auth
auth_type=digest
username=pbx
password=pw-pbx
[registration]
type=registration
server_uri=sip:sbc.test
client_uri=sip:pbx@sbc.test
outbound_proxy=sip:198.51.100.20:5060\\;lr
outbound_auth=postern
contact_user=600
endpoint=postern
line=yes
retry_interval=2
max_random_initial_delay=0
[identify]
type=identify
endpoint=postern
match=198.51.100.20
";

/// Postern as a trunk without credentials; extensions 71 and 72 are bob and carol there.
const TRUNK: &str = "
[postern]
type=endpoint
context=phones
disallow=all
allow=ulaw
aors=postern
direct_media=no
outbound_proxy=sip:198.51.100.20:5060\\;lr
[postern]
type=aor
contact=sip:198.51.100.20:5060
[identify]
type=identify
endpoint=postern
match=198.51.100.20
";

const DIALS: &str = "
exten => 71,1,Dial(PJSIP/postern/sip:bob@sbc.test,20)
exten => 72,1,Dial(PJSIP/postern/sip:carol@sbc.test,20)
";

/// Accounts of a PBX at pbx.test whose phones it meets along a Path (RFC 3327).
const BY_PATH: &str = "
[alice](phone)
auth=alice
aors=alice
direct_media=no
[alice]
type=auth
auth_type=digest
username=alice
password=pw-alice
[alice]
type=aor
max_contacts=2
support_path=yes
[bob](phone)
auth=bob
aors=bob
direct_media=no
[bob]
type=auth
auth_type=digest
username=bob
password=pw-bob
[bob]
type=aor
max_contacts=2
support_path=yes
";

fn phone(stage: &Sbc, who: &str, steps: &str) -> Member {
    stage.lab.member(who, "sbc.test", &format!("udp:{SBC}:5060"), steps)
}

/// A phone that takes one call and stays until it ends; it is registered.
fn waits(stage: &Sbc, who: &str) -> Member {
    phone(stage, who, "{do: wait, after: ended}").registered()
}

/// Asterisk has its account.
fn registered(asterisk: &Asterisk) {
    asterisk.comes_to("pjsip show registrations", "Registered", PATIENCE);
}

/// Postern with the PBX as a trusted trunk for numbers that begin with 7.
fn before_a_pbx(parties: &str) -> Option<(Sbc, Asterisk)> {
    let routes = format!("proxy:\n  routes:\n    - {{ to: \"7*\", via: udp:{PBX}:5060, trusted: true }}\n");
    let stage = Sbc::with(&format!("{parties} -p pbx={PBX}"), &routes, "")?;
    let asterisk = stage.lab.asterisk("pbx", PBX, TRUNK, DIALS)?;
    Some((stage, asterisk))
}

#[test]
fn scenario_1h_asterisk_behind_a_nat_is_called_and_calls() {
    let parties = "-s home:port-restricted:alice,bob -s office:symmetric:pbx";
    let Some(stage) = Sbc::up(parties) else { return };
    let Some(asterisk) = stage.lab.asterisk("pbx", "192.168.1.10", ACCOUNT, "") else { return };
    let mut bob = waits(&stage, "bob");
    registered(&asterisk);
    let alice = phone(
        &stage,
        "alice",
        "{do: call, to: \"sip:pbx@sbc.test\", after: registered, at-ms: 200}
         {do: hang-up, after: answered, at-ms: 3000}",
    );
    let called = asterisk.console("channel originate PJSIP/postern/sip:bob@sbc.test extension 600@phones");
    bob.answered();
    std::thread::sleep(TALK);
    let alice = alice.report();
    asterisk.console("channel request hangup all");
    for (report, own) in [(alice, "alice@sbc.test"), (bob.report(), "bob@sbc.test")] {
        assert!(
            heard(&report, own) > 50,
            "{own} did not hear its echo: {report}\n{called}\n{}",
            asterisk.said()
        );
    }
    stage.nothing_stays_lent();
}

/// Alice's calls are legs of a PBX behind us; bob and carol are called by it, so that it is in front of us, too. She transfers
/// bob to carol.
fn a_transfer_connects_two_legs_of_the_pbx(way: &str) {
    let parties = "-s home:port-restricted:alice,carol -s office:symmetric:bob";
    let Some((stage, asterisk)) = before_a_pbx(parties) else { return };
    let [bob, mut carol] = ["bob", "carol"].map(|who| waits(&stage, who));
    let calls = "{do: call, to: \"sip:71@sbc.test\", after: registered, at-ms: 200}";
    let alice = phone(&stage, "alice", &format!("{calls}\n{way}")).report();
    carol.answered();
    std::thread::sleep(TALK);
    asterisk.console("channel request hangup all");
    let (bob, carol) = (bob.report(), carol.report());
    let told = || format!("{alice:#}\n{bob:#}\n{carol:#}\n{}", asterisk.said());
    assert_eq!(alice["transfer-status"], 200, "{}", told());
    assert!(heard(&bob, "carol@sbc.test") > 50 && heard(&carol, "bob@sbc.test") > 50, "{}", told());
    stage.nothing_stays_lent();
}

/// RFC 3515 §2.4.
#[test]
fn scenario_1h_a_blind_transfer_through_us_connects_two_legs_of_the_pbx() {
    a_transfer_connects_two_legs_of_the_pbx(
        "{do: transfer, to: \"sip:72@sbc.test\", after: answered, at-ms: 1500}
         {do: wait, after: ended}",
    );
}

/// RFC 3891 §3, RFC 5589 §7.
#[test]
fn scenario_1h_an_attended_transfer_through_us_connects_two_legs_of_the_pbx() {
    a_transfer_connects_two_legs_of_the_pbx(
        "{do: hold, after: answered, at-ms: 1000}
         {do: consult, to: \"sip:72@sbc.test\", after: previous, at-ms: 500}
         {do: transfer-consulted, after: answered, at-ms: 1000}
         {do: wait, after: ended}",
    );
}

/// The same between three baresips: alice's transfer of bob to carol, by the PBX.
#[test]
fn scenario_1h_baresips_are_connected_by_a_transfer_through_the_pbx() {
    let parties = "-s home:port-restricted:alice,carol -s office:symmetric:bob";
    let Some((stage, asterisk)) = before_a_pbx(parties) else { return };
    let bob = stage.baresip("bob", 50, &["--tone", "600", "--once"]);
    let carol = stage.baresip("carol", 50, &["--tone", "800", "--once"]);
    stage.registered("bob");
    stage.registered("carol");
    let call = ["--dial", "sip:71@sbc.test", "--at", "1.5:transfer sip:72@sbc.test", "--once"];
    let alice = report_of(stage.baresip("alice", 40, &call));
    stage.established("carol");
    std::thread::sleep(TALK);
    asterisk.console("channel request hangup all");
    let (bob, carol) = (report_of(bob), report_of(carol));
    let told = || format!("{alice:#}\n{bob:#}\n{carol:#}\n{}", asterisk.said());
    for (report, tone) in [(&bob, 800), (&carol, 600)] {
        assert!((report["tone_hz"].as_i64().unwrap_or(0) - tone).abs() <= 5, "{}", told());
    }
}

/// RFC 3891: alice talks to bob, and to Asterisk behind its NAT; then bob takes her place there. The Refer-To is the name
/// that Asterisk's Contact has here.
#[test]
fn scenario_1h_an_attended_transfer_to_asterisk_behind_a_nat_finds_it_by_name() {
    let parties = "-s home:port-restricted:alice,bob -s office:symmetric:pbx";
    let Some(stage) = Sbc::up(parties) else { return };
    let Some(asterisk) = stage.lab.asterisk("pbx", "192.168.1.10", ACCOUNT, "") else { return };
    let recorder = stage.lab.capture(&["bob"]);
    registered(&asterisk);
    // The time begins anew with the call that he is transferred to.
    let bob = phone(&stage, "bob", "{do: hang-up, after: answered, at-ms: 7000}").registered();
    let alice = phone(
        &stage,
        "alice",
        "{do: call, to: \"sip:bob@sbc.test\", after: registered, at-ms: 200}
         {do: hold, after: answered, at-ms: 1000}
         {do: consult, to: \"sip:pbx@sbc.test\", after: previous, at-ms: 500}
         {do: transfer-consulted, after: answered, at-ms: 1000}
         {do: wait, after: ended}",
    );
    let (alice, bob, wire) = (alice.report(), bob.report(), recorder.stop());
    assert_eq!(alice["transfer-status"], 200, "{}\n{}", asterisk.said(), wire.ladder());
    assert!(heard(&bob, "bob@sbc.test") > 50, "{bob:#}\n{}\n{}", asterisk.said(), wire.ladder());
    let refer = wire.at("bob").sip().into_iter().find(|s| s.is("REFER", SBC, "")).expect("bob is referred");
    let to = refer.message.header("Refer-To").unwrap_or_default();
    assert!(to.contains(&format!("@{SBC}:5060;aor=pbx/sbc.test")) && !to.contains("192.168"), "{to}");
}

/// Asterisk keeps the accounts, phones behind NATs register through us: it judges their passwords, and its calls reach them by
/// the names we registered for them.
#[test]
fn scenario_1h_phones_behind_nats_register_through_us_at_asterisk_and_call_each_other() {
    let parties = format!("-s home:port-restricted:alice -s office:symmetric:bob -p pbx={PBX}");
    let proxy = format!(
        "trunks:\n  pbx: {{ servers: udp:{PBX}:5060, trusted: true }}\nproxy:\n  mid-registrar: pbx\n"
    );
    let Some(stage) = Sbc::with(&parties, &proxy, "") else { return };
    let Some(asterisk) = stage.lab.asterisk("pbx", PBX, "", "") else { return };
    let at = format!("udp:{SBC}:5060");
    let bob = stage.lab.member_as("bob", "1002", "sbc.test", &at, "{do: wait, after: ended}").registered();
    let calls = "{do: call, to: \"sip:1002@sbc.test\", after: registered, at-ms: 300}
                 {do: hang-up, after: answered, at-ms: 2500}";
    let alice = stage.lab.member_as("alice", "1001", "sbc.test", &at, calls);
    let (alice, bob) = (alice.report(), bob.report());
    let told = || format!("{alice:#}\n{bob:#}\n{}\n{}", asterisk.said(), stage.postern.output());
    assert!(heard(&alice, "1002@sbc.test") > 50 && heard(&bob, "1001@sbc.test") > 50, "{}", told());
    let contacts = asterisk.console("pjsip show contacts");
    assert!(contacts.contains(SBC) && !contacts.contains("192.168."), "{contacts}");
    stage.nothing_stays_lent();
}

/// RFC 3327: Asterisk keeps the accounts and meets two baresips behind NATs along the Path they registered by; we keep nothing
/// but the flow that the Path names, so that a restart in between is not noticed.
#[test]
fn scenario_1h_asterisk_calls_baresips_behind_nats_along_the_path_they_registered_by() {
    let parties = format!("-s home:port-restricted:alice -s office:symmetric:bob -p pbx={PBX}");
    let proxy = format!(
        "node-key: the-key-of-this-laboratory-only\nauth: {{ required: false }}\nproxy:\n  routes:\n    \
         - {{ to: pbx.test, via: udp:{PBX}:5060, trusted: true }}\n"
    );
    let Some(mut stage) = Sbc::with(&parties, &proxy, "") else { return };
    let dials = "exten => alice,1,Dial(PJSIP/alice,20)\nexten => bob,1,Dial(PJSIP/bob,20)\n";
    let Some(asterisk) = stage.lab.asterisk("pbx", PBX, BY_PATH, dials) else { return };
    let recorder = stage.lab.capture(&["pbx"]);
    let by_path = ["--domain", "pbx.test", "--account", ";sipnat=outbound"];
    for (caller, callee, killed) in [("alice", "bob", false), ("bob", "alice", true)] {
        let waits = stage.baresip(callee, 40, &[&by_path[..], &["--tone", "600", "--once"]].concat());
        asterisk.comes_to("pjsip show contacts", &format!("{callee}/sip"), PATIENCE);
        if killed {
            stage.killed_and_started();
        }
        let dials = format!("sip:{callee}@pbx.test");
        let calls = ["--tone", "800", "--dial", &dials, "--at", "2:hangup", "--once"];
        let calls = report_of(stage.baresip(caller, 40, &[&by_path[..], &calls].concat()));
        let waits = report_of(waits);
        let told = || format!("{calls:#}\n{waits:#}\n{}\n{}", asterisk.said(), stage.postern.output());
        for (report, tone) in [(&calls, 600), (&waits, 800)] {
            assert!((report["tone_hz"].as_i64().unwrap_or(0) - tone).abs() <= 5, "{}", told());
        }
        stage.nothing_stays_lent();
    }
    let said = recorder.stop().at("pbx").sip();
    let paths = said.iter().filter(|s| s.is("REGISTER", SBC, PBX)).filter_map(|s| s.message.header("Path"));
    let paths: Vec<_> = paths.collect();
    let calls: Vec<_> = said.iter().filter(|s| s.is("INVITE", PBX, SBC)).collect();
    assert!(
        calls.len() == 2
            && calls.iter().all(|s| paths.contains(&s.message.header("Route").unwrap_or_default()))
    );
}
