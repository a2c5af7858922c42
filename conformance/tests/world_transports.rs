//! Calls between any two transports, told in the simulated world: phones behind NATs, each on a transport of its own.

use std::time::Duration;

use conformance::cast::{ALL, Plot, script};
use conformance::world::Rules;
use endpoint_sim::{Act, After, Step};
use proto::node::Transport;

#[test]
fn every_pair_of_transports_has_audio_both_ways() {
    for from in ALL {
        for to in ALL {
            let cast = Plot { transport: from, bob_by: Some(to), ..Plot::default() }.play();
            cast.assert_audio_both_ways();
            cast.assert_no_media_to_strangers();
        }
    }
}

/// Browsers know no address of their own: their Contacts end in `.invalid` (RFC 7118 §5), and all that is sent to them goes
/// by the connection they opened.
#[test]
fn a_browser_is_met_on_its_connection_whoever_hangs_up() {
    for (alice, bob) in [(Transport::Udp, Transport::Wss), (Transport::Wss, Transport::Ws)] {
        let hangs_up = script(vec![Step::new(Act::HangUp, After::Answered, 2000)]);
        let alices = script(vec![Step::call("sip:bob@example.com", After::Registered, 2000)]);
        let plot =
            Plot { transport: alice, bob_by: Some(bob), alice: alices, bob: hangs_up, ..Plot::default() };
        let cast = plot.play();
        cast.assert_audio_both_ways();
        assert!(!cast.heard_by(cast.alice, "@bob.invalid"), "the caller is given a Contact it can reach");
    }
}

/// Re-INVITE in both directions crosses from a stream to datagrams and back.
#[test]
fn hold_and_resume_go_through_between_a_browser_and_a_udp_phone() {
    let alices = script(vec![
        Step::call("sip:bob@example.com", After::Registered, 2000),
        Step::new(Act::Hold, After::Answered, 1000),
        Step::new(Act::Resume, After::Previous, 1000),
        Step::new(Act::HangUp, After::Previous, 2000),
    ]);
    let bobs = script(vec![Step::new(Act::Move, After::Answered, 3000)]);
    for (alice, bob) in [(Transport::Wss, Transport::Udp), (Transport::Udp, Transport::Tls)] {
        let plot = Plot {
            transport: alice,
            bob_by: Some(bob),
            alice: alices.clone(),
            bob: bobs.clone(),
            ..Plot::default()
        };
        plot.play().assert_audio_both_ways();
    }
}

/// Two phones in public talk directly over any transport: their SDP names where they signal from, and no address in Via or
/// Contact says otherwise (`.invalid` is none).
#[test]
fn public_phones_talk_directly_whatever_they_signal_by() {
    for transport in ALL {
        let cast = Plot { sites: [None, None], transport, ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        assert!(cast.relay_ports().is_empty(), "{transport}");
    }
}

/// The NAT drops its connections in mid-call: the phone comes back, and its BYE finds the way.
#[test]
fn a_call_over_tls_survives_a_lost_connection() {
    let sites = [Some(Rules::PORT_RESTRICTED), None];
    let mut cast = Plot { transport: Transport::Tls, sites, ..Plot::default() }.begin();
    cast.until_answered();
    let nat = cast.nats[0].unwrap();
    cast.world.rebind(nat, None);
    cast.world.run_for(Duration::from_millis(500));
    cast.until_alice_is_done();
    cast.assert_clean();
    cast.assert_audio_both_ways();
}
