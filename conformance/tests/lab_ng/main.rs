//! The ng protocol beside the program it comes from: the same offers and answers go to rtpengine and to Postern, and what
//! comes back must read the same but for the ports ([`corpus`]). What is known to differ stands in DEVIATIONS.md and is left out.
//! Then Kamailio, with its stock `rtpengine` module, calls through Postern ([`kamailio`], [`bridging`], [`browser`]) and has it
//! play media and digits to the parties ([`playing`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bridging;
mod browser;
mod corpus;
mod kamailio;
mod playing;
mod running;
mod story;

use conformance::lab::apart::{Apart, HOME, OFFICE};
use conformance::lab::ng::Client;

use crate::running::{Running, relay};
use crate::story::{Story, tell};

/// Tells both the same, and holds what they say side by side.
fn both_write_the_same(test: &str, stories: &[Story]) {
    let Some(stage) = Apart::inside(test) else { return };
    let interface = [format!("--interface={HOME}"), format!("--interface=office/{OFFICE}")];
    let arguments = ["--table=-1", "--foreground", "--log-level=1", "--listen-ng=127.0.0.1:2223"];
    let ports = ["--port-min=30000", "--port-max=30999"];
    let arguments: Vec<&str> =
        arguments.into_iter().chain(ports).chain(interface.iter().map(String::as_str)).collect();
    let Some(_rtpengine) = Running::start("rtpengine", &arguments) else { return };
    let networks = format!("  default: {{ bind: {HOME} }}\n  office: {{ bind: {OFFICE} }}\n");
    let _postern = stage.service("ng", &relay(&networks, "20000-20999", "udp:127.0.0.1:2224"));
    let (mut theirs, mut ours) = (Client::to("127.0.0.1:2223"), Client::to("127.0.0.1:2224"));
    theirs.wait();
    ours.wait();
    let mut differences = String::new();
    for (number, story) in stories.iter().enumerate() {
        for (at, step) in story.steps.iter().enumerate() {
            let call = format!("call-{number}");
            let (expected, mut seen) = (tell(&mut theirs, &call, step), tell(&mut ours, &call, step));
            if story.declines_mux(at) {
                seen = seen.replace("a=rtcp:?", "a=rtcp:P+1");
            }
            if expected != seen {
                differences += &format!(
                    "=== {} ({}, step {at})\n--- rtpengine\n{expected}--- postern\n{seen}",
                    story.name, step.command
                );
            }
        }
    }
    assert!(stories.len() >= 5 && differences.is_empty(), "{differences}");
}

#[test]
fn rtpengine_and_postern_say_the_same_of_rtcp() {
    both_write_the_same("rtpengine_and_postern_say_the_same_of_rtcp", &corpus::rtcp::stories());
}

#[test]
fn rtpengine_and_postern_write_the_same_sections() {
    both_write_the_same("rtpengine_and_postern_write_the_same_sections", &corpus::sections::stories());
}

#[test]
fn rtpengine_and_postern_write_the_same_formats() {
    both_write_the_same("rtpengine_and_postern_write_the_same_formats", &corpus::formats::stories());
}

#[test]
fn rtpengine_and_postern_understand_the_same_words() {
    both_write_the_same("rtpengine_and_postern_understand_the_same_words", &corpus::words::stories());
}

#[test]
fn rtpengine_and_postern_take_exchanges_further_alike() {
    both_write_the_same("rtpengine_and_postern_take_exchanges_further_alike", &corpus::exchanges::stories());
}
