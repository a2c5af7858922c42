//! Phones that talk SRTP alone (RFC 4568) and phones that never heard of it, in the simulated world: the relay translates,
//! and neither reads a line the other would not have written.

use conformance::cast::{Cast, Plot, SITES};
use endpoint_sim::{Act, After, Phone, Step};

/// SDP lines as a phone heard them in its SIP.
fn heard(cast: &Cast, phone: conformance::world::NodeId) -> [bool; 2] {
    [cast.heard_by(phone, " RTP/SAVP "), cast.heard_by(phone, "a=crypto:")]
}

fn play(srtp: [bool; 2]) -> Cast {
    Plot { srtp, ..Plot::default() }.play()
}

#[test]
fn a_phone_that_encrypts_calls_one_that_does_not() {
    let cast = play([true, false]);
    cast.assert_audio_both_ways();
    cast.assert_no_media_to_strangers();
    assert_eq!((heard(&cast, cast.alice), heard(&cast, cast.bob)), ([true; 2], [false; 2]));
    assert_eq!((cast.report(cast.alice).unopened, cast.report(cast.bob).unmarked), (0, 0));
}

#[test]
fn a_phone_that_does_not_encrypt_calls_one_that_does() {
    let cast = play([false, true]);
    cast.assert_audio_both_ways();
    cast.assert_no_media_to_strangers();
    assert_eq!((heard(&cast, cast.alice), heard(&cast, cast.bob)), ([false; 2], [true; 2]));
    assert_eq!(cast.report(cast.bob).unopened, 0);
}

#[test]
fn phones_that_both_encrypt_hear_each_other_from_behind_every_pair_of_nats() {
    for (a, alice) in SITES {
        for (b, bob) in SITES {
            let cast = Plot { srtp: [true; 2], sites: [alice, bob], ..Plot::default() }.play();
            cast.assert_audio_both_ways();
            // What is said before the answer with its key has come can't be opened.
            assert!(cast.report(cast.alice).unopened < 10, "{a} to {b}");
        }
    }
}

/// Two public phones need a relay for nothing but their keys.
#[test]
fn a_relay_stands_between_two_public_phones_that_differ() {
    for srtp in [[true, false], [false, true]] {
        let cast = Plot { srtp, sites: [None; 2], ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        assert!(!cast.relay_ports().is_empty());
    }
    let cast = Plot { srtp: [true; 2], sites: [None; 2], ..Plot::default() }.play();
    cast.assert_audio_both_ways();
    assert!(cast.relay_ports().is_empty(), "whose keys agree need none");
}

#[test]
fn an_offer_that_comes_late_is_translated_too() {
    for srtp in [[true, false], [false, true]] {
        for sites in [[None; 2], Plot::default().sites] {
            let mut plot = Plot { srtp, sites, ..Plot::default() };
            plot.alice.steps[1].late_offer = true;
            plot.play().assert_audio_both_ways();
        }
    }
}

/// Hold and resume: the keys stay, and so do the roll-over counters under them.
#[test]
fn a_call_is_held_and_resumed_under_the_same_keys() {
    for srtp in [[true, false], [false, true]] {
        let steps = vec![
            Step::call("sip:bob@example.com", After::Registered, 2000),
            Step::new(Act::Hold, After::Answered, 1000),
            Step::new(Act::Resume, After::Answered, 2000),
            Step::new(Act::HangUp, After::Answered, 4000),
        ];
        let cast = Plot { srtp, alice: conformance::cast::script(steps), ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        for phone in [cast.alice, cast.bob] {
            let report = cast.report(phone);
            assert!(report.received > 100 && report.unopened == 0, "{srtp:?}: {report:?}");
        }
        assert_eq!(cast.world.node::<Phone>(cast.alice).report().changes, 2, "{srtp:?}");
    }
}
