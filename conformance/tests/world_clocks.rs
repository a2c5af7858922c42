//! Wall clocks that are set, and that differ: timers, calls and registrations go by a clock of their own, and only a process
//! that starts reads the wall's.

use std::time::Duration;

use conformance::cast::{Cast, Plot, alice_calls, script};
use conformance::world::{Entry, NodeId, World};
use endpoint_sim::{After, EndedBy, Phone, Step};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: i64 = 3600;

fn own(cast: &Cast) -> [NodeId; 4] {
    [cast.p1, cast.p2, cast.relay, cast.redirect]
}

/// Processes that run don't see it; those that start (a crash, an upgrade) count from there on, ahead of or behind all that
/// was made before: the dialog's tokens, the nonces the phones hold, the relay's leases.
#[test]
fn clocks_that_are_set_by_hours_in_a_call_end_nothing() {
    for seconds in [5 * HOUR, -5 * HOUR] {
        let mut cast = Plot { alice: alice_calls(20_000), ..Plot::default() }.begin();
        cast.until_answered();
        cast.world.run_for(3 * SECOND);
        for node in own(&cast) {
            cast.world.set_clock(node, seconds);
        }
        let before = cast.report(cast.alice).received;
        cast.world.run_for(3 * SECOND);
        for proxy in [cast.p1, cast.p2] {
            cast.world.restart(proxy);
        }
        cast.world.run_for(3 * SECOND);
        let heard = cast.report(cast.alice).received - before;
        assert!(heard >= 290, "{heard} packets in six seconds, {seconds} s");
        cast.until_alice_is_done();
        cast.assert_audio_both_ways();
        assert_eq!(
            cast.report(cast.bob).ended_by,
            Some(EndedBy::Them),
            "{seconds} s\n{}",
            cast.world.ladder()
        );
        // The relay has run on, and takes no word from those who started with another time: its lease ends by itself.
        cast.assert_clean_within(3600 * SECOND);
    }
}

/// Node-Auth is good for a minute either way (the boundary: the message's way takes less than a second).
#[test]
fn neighbours_whose_clocks_are_59_seconds_apart_work_together_and_61_apart_do_not() {
    for (seconds, good) in [(59, true), (-59, true), (61, false), (-61, false)] {
        let mut cast = Plot::default().begin();
        cast.world.set_clock(cast.p1, seconds);
        cast.world.restart(cast.p1);
        let alice = cast.alice;
        let over = |w: &World| {
            let report = w.node::<Phone>(alice).report();
            report.ended_by.is_some() || report.call_status.is_some_and(|status| status >= 300)
        };
        assert!(cast.world.run_until(over, 120 * SECOND), "{seconds} s\n{}", cast.world.ladder());
        let served = cast.between(cast.relay, cast.p1).iter().any(|title| title.starts_with("200 INVITE"));
        let status = cast.report(cast.alice).call_status;
        assert_eq!((served, status == Some(200)), (good, good), "{seconds} s\n{}", cast.world.ladder());
        cast.assert_clean();
    }
}

/// A registration ends when it was granted to end, whatever the wall clock says meanwhile; a process that starts goes by its
/// machine's: set forward, it finds the registration over until the phone's next word, set back, it finds it live for longer.
#[test]
fn a_registration_ends_when_it_was_to_end_and_a_new_process_goes_by_its_own_clock() {
    for (seconds, restarted, called_at_s, live) in [
        (0, false, 298, true),
        (0, false, 303, false),
        (5 * HOUR, false, 298, true),
        (-5 * HOUR, false, 303, false),
        (5 * HOUR, true, 298, false),
        (-5 * HOUR, true, 303, true),
    ] {
        let call = Step::call("sip:bob@example.com", After::Registered, called_at_s * 1000);
        let mut cast = Plot { sites: [None, None], alice: script(vec![call]), ..Plot::default() }.begin();
        cast.world.run_for(5 * SECOND);
        cast.world.kill(cast.bob);
        for node in own(&cast) {
            cast.world.set_clock(node, seconds);
            if restarted {
                cast.world.restart(node);
            }
        }
        cast.world.run_for(310 * SECOND);
        let asked = |entry: &&Entry| {
            entry.from == cast.p2
                && entry.sent.1.ip().to_string() == "192.0.2.20"
                && entry.title().is_some_and(|title| title.starts_with("INVITE"))
        };
        let arrived = cast.between(cast.p1, cast.p2).iter().any(|title| title.starts_with("INVITE"));
        let which = format!("{seconds} s, restarted {restarted}, called at {called_at_s} s");
        assert!(arrived || !live, "{which}: P2 is never asked\n{}", cast.world.ladder());
        let found = cast.world.packets().iter().any(|entry| asked(&entry));
        assert_eq!(found, live, "{which}\n{}", cast.world.ladder());
    }
}
