//! A plain phone, a real baresip, behind the proxy calls a peer and is called by one.

use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online};
use conformance::lab::sbc::report_of;

#[test]
fn a_baresip_behind_the_proxy_calls_a_peer_and_is_called_by_one() {
    calls("port-restricted", "symmetric");
}

/// By TLS to the access server, which lends each of the two a port.
#[test]
fn a_peer_whose_udp_is_blocked_calls_a_baresip_and_is_called_by_one() {
    calls("udp-blocked", "udp-blocked");
}

/// alice, a peer behind one kind of NAT, calls bob's phone; dave's phone calls carol, a peer behind the other.
fn calls(alice: &str, carol: &str) {
    let sites = format!(
        "-s home:{alice}:alice -s office:symmetric:bob -s shop:{carol}:carol -s mill:port-restricted:dave"
    );
    let Some(hub) = Hub::with(&sites, &[("alice", "carol")], "bob dave", FOUR) else { return };
    let by_proxy = ["--proxy", FOUR.proxy];
    let bob = hub.baresip("bob", 50, &["--tone", "600", "--once"]);
    let mut carol = hub.peer("carol", "carol", 60, &by_proxy);
    hub.until_registered(2);
    let mut alice = hub.peer("alice", "alice", 60, &[&by_proxy[..], &["--call", "bob"]].concat());
    let dave = hub.baresip("dave", 50, &["--tone", "440", "--once", "--dial", "sip:carol@peers.test"]);
    [&mut alice, &mut carol].into_iter().for_each(Online::has_called);
    std::thread::sleep(Duration::from_secs(5));
    [&mut alice, &mut carol].into_iter().for_each(Online::leave);
    let (alice, carol) = (alice.report(), carol.report());
    let (bob, dave) = (report_of(bob), report_of(dave));

    for (phone, peer, what) in [(&bob, &alice, "the peer calls"), (&dave, &carol, "the phone calls")] {
        let number = |name: &str| phone[name].as_i64().unwrap_or(0);
        let call = &peer["call"]["phone"];
        assert!(phone["established"] == true && call["answered"] == true, "{what}: {phone:#}\n{peer:#}");
        let (sent, received) = (number("sent"), number("received"));
        assert!(sent > 100 && received > 100, "{what}: the phone sent {sent} and heard {received} packets");
        // A baresip marks nothing: all that the peer heard is of another make.
        let (heard, said) = (call["unmarked"].as_i64().unwrap_or(0), call["sent"].as_i64().unwrap_or(0));
        assert!(heard > 100 && heard <= sent, "{what}: the peer heard {heard} of {sent}\n{peer:#}");
        // The peer's report is of the moment before it hung up.
        assert!(received <= said + 10, "{what}: the phone heard {received} of {said}\n{phone:#}");
        assert_eq!(peer["call"]["path"], "relay", "{what}: {peer:#}");
    }
}
