//! A stock proxy beside us: Kamailio as the upstream that brings a call, and as the downstream that takes one; and sipsak, the
//! tool that operators probe with.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use conformance::lab::crew::heard;
use conformance::lab::domains::{Call, ip, told};
use conformance::lab::phone::Phone;
use conformance::lab::sbc::{SBC, Sbc};
use conformance::lab::{Lab, PATIENCE};

const KAMAILIO: &str = "198.51.100.60";

/// Alice is Kamailio's, in public; bob is ours, behind a NAT. Either calls the other.
#[test]
fn kamailio_as_upstream_and_as_downstream_proxy_carries_calls_with_audio() {
    let routes =
        format!("proxy:\n  routes:\n    - {{ to: kam.test, via: udp:{KAMAILIO}:5060, trusted: true }}\n");
    let parties = format!("-p kamailio={KAMAILIO} -p alice=203.0.113.10 -s home:symmetric:bob");
    let Some(stage) = Sbc::with(&parties, &routes, "") else { return };
    let next = format!("sip:{SBC}:5060");
    let run = conformance::lab::peer("kamailio/run-proxy");
    let mut kamailio = stage.lab.spawn("kamailio", &[&run, KAMAILIO, &next]);
    kamailio.wait_for_port("kamailio", 5060, PATIENCE);
    for caller_is_kamailios in [true, false] {
        let member = |user: &str, steps: &str| match user {
            "alice" => stage.lab.member("alice", "kam.test", &format!("udp:{KAMAILIO}:5060"), steps),
            user => stage.lab.member(user, "sbc.test", &format!("udp:{SBC}:5060"), steps),
        };
        let (caller, callee, to) = match caller_is_kamailios {
            true => ("alice", "bob", "bob@sbc.test"),
            false => ("bob", "alice", "alice@kam.test"),
        };
        let waits = member(callee, "{do: wait, after: ended}").registered();
        let calls = format!("{{do: call, to: \"sip:{to}\", after: registered, at-ms: 300}}");
        let asks = member(caller, &format!("{calls}\n{{do: hang-up, after: answered, at-ms: 2500}}"));
        let (from, to) = (asks.name().to_owned(), waits.name().to_owned());
        let (asks, waits) = (asks.report(), waits.report());
        let told = || format!("{asks:#}\n{waits:#}\n{}\n{}", stage.postern.output(), kamailio.output());
        assert!(heard(&asks, &to) > 80 && heard(&waits, &from) > 80, "{}", told());
        assert_eq!(waits["ended-by"], "them", "{}", told());
        stage.nothing_stays_lent();
    }
}

/// RFC 3327: the registrar is Kamailio, we are the edge. Alice's REGISTER goes on with a Path of ours, and what Kamailio has for
/// her comes back along it, by the flow her NAT keeps open, also when we have been killed and started since: nothing is kept for it.
#[test]
fn a_registrar_behind_us_meets_its_phones_along_the_path() {
    let parties =
        format!("-p sbc={SBC} -p kamailio={KAMAILIO} -p carol=203.0.113.10 -s home:symmetric:alice");
    let Some(lab) = Lab::up(&parties) else { return };
    let config = format!(
        "node-key: the-key-of-this-laboratory-only\nauth: {{ required: false }}\nlisteners:\n  - {{ address: udp:{SBC}:5060 }}\n\
         domains: [sbc.test]\nproxy:\n  routes:\n    - {{ to: kam.test, via: udp:{KAMAILIO}:5060, trusted: true }}\n\
         relay:\n  address: udp:{SBC}:5090\n  ports: 20000-20999\n"
    );
    let mut postern = lab.service("sbc", &config);
    let run = conformance::lab::peer("kamailio/run-proxy");
    let mut kamailio = lab.spawn("kamailio", &[&run, KAMAILIO, &format!("sip:{SBC}:5060")]);
    kamailio.wait_for_port("kamailio", 5060, PATIENCE);
    let at = |host, local, proxy| Phone::new(&lab, host, local, host, "kam.test", &format!("{proxy}:5060"));
    let mut alice = at("alice", "192.168.1.10:5060", SBC);
    let mut carol = at("carol", "203.0.113.10:5060", KAMAILIO);
    // Nobody is asked for credentials here.
    (alice.trusted, carol.trusted) = (true, true);
    assert!(carol.register(300).is("200 REGISTER"));
    let answer = alice.register_saying(300, "Supported: path\r\n");
    assert!(answer.is("200 REGISTER"), "{}", answer.0);
    let path = answer.header("Path").unwrap_or_else(|| panic!("no Path in {}", answer.0));
    assert!(path.contains(SBC) && path.contains(";lr"), "{path}");
    let media = |ip: &str| format!("{ip}:4000").parse().expect("an address");
    for killed in [false, true] {
        if killed {
            postern.kill();
            postern = lab.service("sbc", &config);
        }
        let mut call = Call::place(&mut carol, &mut alice, media("203.0.113.10"), media("192.168.1.10"));
        assert_eq!((told(&call.ok).ip(), told(&call.invite).ip()), (ip(SBC), ip(SBC)), "{}", call.invite.0);
        call.hung_up(&mut carol, &mut alice);
        let mut call = Call::place(&mut alice, &mut carol, media("192.168.1.10"), media("203.0.113.10"));
        call.hung_up(&mut alice, &mut carol);
    }
}

/// `sipsak` answers 0 for a 2xx: OPTIONS that asks after us (RFC 3261 §11), a registration with digest (§10, §22) and a
/// MESSAGE to nobody, which is no success.
#[test]
fn sipsak_probes_and_registers() {
    let Some(stage) = Sbc::up("-p alice=203.0.113.10") else { return };
    let run = |arguments: &str| {
        let argv: Vec<&str> = ["sipsak", "-p", SBC].into_iter().chain(arguments.split(' ')).collect();
        let (status, said) = stage.lab.run("alice", &argv, Duration::from_secs(20));
        (status.code(), said)
    };
    let probe = run(&format!("-vv -s sip:{SBC}"));
    assert!(probe.0 == Some(0) && probe.1.contains("200 OK"), "{probe:?}");
    let registers =
        run("-vvv -u alice -U -C sip:alice@203.0.113.10:5080 -x 300 -a pw-alice -s sip:alice@sbc.test");
    assert_eq!(registers.0, Some(0), "{registers:?}");
    let intruder =
        run("-vvv -u alice -U -C sip:alice@203.0.113.10:5081 -x 300 -a wrong -s sip:alice@sbc.test");
    assert_ne!(intruder.0, Some(0), "{intruder:?}");
}
