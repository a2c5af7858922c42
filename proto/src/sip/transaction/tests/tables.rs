//! Every state × every event of the four machines, as they stand.

use std::fmt::{Debug, Write};

use super::super::timer::Timer;
use super::super::{client, client_invite, client_non_invite, server, server_invite, server_non_invite};

/// One line for each pair that does something; the pairs that do nothing are named at the end of their state.
fn table<S: Debug + Copy + PartialEq, E: Debug + Copy, D: Debug>(
    states: &[S],
    events: &[E],
    step: fn(S, E) -> (S, &'static [D]),
) -> String {
    let mut text = String::new();
    for &state in states {
        writeln!(text, "{state:?}").unwrap();
        let mut nothing = Vec::new();
        for &event in events {
            match step(state, event) {
                (next, []) if next == state => nothing.push(format!("{event:?}")),
                (next, actions) => {
                    writeln!(text, "  {:<16} -> {next:?} {actions:?}", format!("{event:?}")).unwrap();
                }
            }
        }
        writeln!(text, "  nothing: {}", nothing.join(" ")).unwrap();
    }
    text
}

fn client_events(timers: &[Timer]) -> Vec<client::Event> {
    use client::Event::{Cancelled, Failure, Fired, Provisional, Success, Unsent};
    let messages = [Provisional, Success, Failure, Unsent, Cancelled];
    messages.into_iter().chain(timers.iter().map(|t| Fired(*t))).collect()
}

fn server_events(timers: &[Timer]) -> Vec<server::Event> {
    use server::Event::{Ack, Again, Failure, Fired, Ignored, Provisional, Success, Undelivered};
    let messages = [Again, Ack, Provisional, Success, Failure, Ignored, Undelivered];
    messages.into_iter().chain(timers.iter().map(|t| Fired(*t))).collect()
}

#[test]
fn invite_client() {
    use client_invite::State::{Accepted, Calling, Completed, Proceeding, Terminated};
    let events = client_events(&[Timer::A, Timer::B, Timer::D, Timer::M, Timer::GivenUp]);
    let states = [Calling, Proceeding, Accepted, Completed, Terminated];
    insta::assert_snapshot!(table(&states, &events, client_invite::step));
}

#[test]
fn non_invite_client() {
    use client_non_invite::State::{Completed, Proceeding, Terminated, Trying};
    let events = client_events(&[Timer::E, Timer::SlowE, Timer::F, Timer::K]);
    insta::assert_snapshot!(table(
        &[Trying, Proceeding, Completed, Terminated],
        &events,
        client_non_invite::step
    ));
}

#[test]
fn invite_server() {
    use server_invite::State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
    let events = server_events(&[Timer::Trying, Timer::G, Timer::H, Timer::I, Timer::L]);
    let states = [Proceeding, Accepted, Completed, Confirmed, Terminated];
    insta::assert_snapshot!(table(&states, &events, server_invite::step));
}

#[test]
fn non_invite_server() {
    use server_non_invite::State::{Completed, Proceeding, Terminated, Trying};
    let events = server_events(&[Timer::F, Timer::J]);
    insta::assert_snapshot!(table(
        &[Trying, Proceeding, Completed, Terminated],
        &events,
        server_non_invite::step
    ));
}
