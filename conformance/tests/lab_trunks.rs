//! Trunks with a real far end: Asterisk as a carrier that wants a registration and credentials, beside a server of it that is
//! dead; and Asterisk as the PBX that keeps the accounts of phones that register through us.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use conformance::lab::PATIENCE;
use conformance::lab::asterisk::Asterisk;
use conformance::lab::crew::{Member, heard};
use conformance::lab::sbc::{SBC, Sbc};

const PBX: &str = "198.51.100.50";
const SECONDS: Duration = Duration::from_secs(1);

/// Accounts at Asterisk, each with a password that begins with `pw-`.
fn accounts(names: &[&str]) -> String {
    let account = |name: &&str| {
        format!(
            "
[{name}]
type=endpoint
context=phones
disallow=all
allow=ulaw
auth={name}
aors={name}
direct_media=no
rtp_symmetric=yes
[{name}]
type=auth
auth_type=digest
username={name}
password=pw-{name}
[{name}]
type=aor
max_contacts=3
"
        )
    };
    names.iter().map(account).collect()
}

fn phone(stage: &Sbc, who: &str, steps: &str) -> Member {
    stage.lab.member(who, "sbc.test", &format!("udp:{SBC}:5060"), steps)
}

fn stage(settings: &str, names: &[&str], extensions: &str) -> Option<(Sbc, Asterisk)> {
    let parties = format!("-s home:port-restricted:alice -s office:symmetric:bob -p pbx={PBX}");
    let stage = Sbc::with(&parties, settings, "")?;
    let asterisk = stage.lab.asterisk("pbx", PBX, &accounts(names), extensions)?;
    Some((stage, asterisk))
}

/// We register with digest; a call out finds the first server dead and the second asking for credentials; a call in to the
/// number we registered reaches its user.
#[test]
fn a_carrier_with_a_dead_server_is_registered_at_called_and_calls() {
    let settings = format!(
        "trunks:
  carrier:
    servers: [\"udp:198.51.100.51:5060\", \"udp:{PBX}:5060\"]
    probe: 0
    try-timeout: 2s
    credentials: {{ user: \"4711\", password: pw-4711 }}
    register: {{ registrar: \"udp:{PBX}:5060\", domain: carrier.test, expires: 2m }}
    headers:
      - {{ on: out, rewrite: From, match: '^.*$', with: '<sip:4711@carrier.test>' }}
proxy:
  routes:
    - {{ to: \"600\", from: users, trunks: carrier }}
    - {{ to: \"4711\", from: carrier, user: bob }}
"
    );
    let Some((stage, asterisk)) = stage(&settings, &["4711"], "") else { return };
    asterisk.comes_to("pjsip show contacts", &format!("4711@{SBC}"), PATIENCE);
    let mut bob = phone(&stage, "bob", "{do: wait, after: ended}").registered();
    let alice = phone(
        &stage,
        "alice",
        "{do: call, to: \"sip:600@sbc.test\", after: registered, at-ms: 200}
         {do: hang-up, after: answered, at-ms: 2000}",
    );
    let alice = alice.report();
    assert!(heard(&alice, "alice@sbc.test") > 50, "{alice:#}\n{}", asterisk.said());
    let called = asterisk.console("channel originate PJSIP/4711 extension 600@phones");
    bob.answered();
    std::thread::sleep(3 * SECONDS);
    asterisk.console("channel request hangup all");
    let bob = bob.report();
    assert!(heard(&bob, "bob@sbc.test") > 50, "{bob:#}\n{called}\n{}", asterisk.said());
    stage.nothing_stays_lent();
}

/// Both phones register through us, Asterisk checks their passwords and calls one for the other.
#[test]
fn phones_register_through_us_at_asterisk_and_call_one_another() {
    let settings =
        format!("trunks:\n  pbx: {{ servers: \"udp:{PBX}:5060\" }}\nproxy:\n  mid-registrar: pbx\n");
    let dials = "\nexten => bob,1,Dial(PJSIP/bob,20)\n";
    let Some((stage, asterisk)) = stage(&settings, &["alice", "bob"], dials) else { return };
    let bob = phone(&stage, "bob", "{do: wait, after: ended}").registered();
    asterisk.comes_to("pjsip show contacts", "mid=", PATIENCE);
    let alice = phone(
        &stage,
        "alice",
        "{do: call, to: \"sip:bob@sbc.test\", after: registered, at-ms: 200}
         {do: hang-up, after: answered, at-ms: 2500}",
    );
    let (alice, bob) = (alice.report(), bob.report());
    let told = || format!("{alice:#}\n{bob:#}\n{}", asterisk.said());
    assert!(heard(&alice, "bob@sbc.test") > 50 && heard(&bob, "alice@sbc.test") > 50, "{}", told());
    stage.nothing_stays_lent();
}
