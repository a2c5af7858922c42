//! What an exchange is made of: commands, the descriptions in them, and the flags beside those.

use conformance::lab::ng::{Client, list, masked, text};
use relay::ng::value::{Dict, Value};

pub(crate) type Flags = Vec<(&'static str, Value<'static>)>;

/// One step of an exchange: a command, and an SDP.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) command: &'static str,
    pub(crate) tags: [&'static str; 2],
    pub(crate) sdp: String,
    pub(crate) flags: Flags,
}

/// An exchange.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

impl Story {
    /// Whether this step tells somebody who offered rtcp-mux that it was declined: the RTCP port need not be the next one
    /// then (DEVIATIONS).
    pub(crate) fn declines_mux(&self, at: usize) -> bool {
        let offered = self.steps[..at].iter().any(|step| step.sdp.contains("a=rtcp-mux"));
        offered && self.steps[at].command == "answer"
    }
}

pub(crate) fn story(name: &'static str, steps: Vec<Step>) -> Story {
    Story { name, steps }
}

/// A plain call whose offer and answer have the same flags.
pub(crate) fn both(name: &'static str, flags: Flags) -> Story {
    story(name, vec![offer(a(), flags.clone()), answer(b(), flags)])
}

pub(crate) fn offer(sdp: impl Into<String>, flags: Flags) -> Step {
    Step { command: "offer", tags: ["a", ""], sdp: sdp.into(), flags }
}

pub(crate) fn answer(sdp: impl Into<String>, flags: Flags) -> Step {
    Step { command: "answer", tags: ["a", "b"], sdp: sdp.into(), flags }
}

pub(crate) fn tagged(step: Step, tags: [&'static str; 2]) -> Step {
    Step { tags, ..step }
}

/// Everybody's: without ICE.
pub(crate) fn plain() -> Flags {
    vec![("ICE", text("remove"))]
}

pub(crate) fn with(more: Flags) -> Flags {
    [plain(), more].concat()
}

pub(crate) fn replaced(words: &[&str]) -> Flags {
    with(vec![("replace", list(words))])
}

pub(crate) fn codec(key: &'static str, words: &[&str]) -> Flags {
    with(vec![("codec", Value::Dict(Dict::default().with(key, list(words))))])
}

pub(crate) fn mux(words: &[&str]) -> Flags {
    with(vec![("rtcp-mux", list(words))])
}

pub(crate) fn sdp(who: u8, lines: &str) -> String {
    let (ip, lines) = (format!("192.0.2.{who}"), lines.replace('\n', "\r\n"));
    format!("v=0\r\no=user 11 12 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}\r\n")
}

pub(crate) const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15";
pub(crate) const VIDEO: &str = "b=TIAS:512000\na=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=42e01f\na=rtcp-fb:* nack pli\na=rtcp-fb:96 ccm fir\na=rtpmap:97 VP8/90000";

/// The caller.
pub(crate) fn a() -> String {
    sdp(10, &format!("m=audio 4000 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000\n{EVENTS}\na=ptime:20"))
}

/// The callee.
pub(crate) fn b() -> String {
    sdp(20, "m=audio 5000 RTP/AVP 0 101\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=sendrecv")
}

pub(crate) fn a_mux() -> String {
    a() + "a=rtcp-mux\r\n"
}

pub(crate) fn b_mux() -> String {
    b() + "a=rtcp-mux\r\n"
}

/// Tells a program one step of a call; what it answers, its ports masked.
pub(crate) fn tell(client: &mut Client, call: &str, step: &Step) -> String {
    let mut entries = vec![("command", text(step.command)), ("call-id", text(call))];
    let tags = ["from-tag", "to-tag"].into_iter().zip(step.tags).filter(|(_, tag)| !tag.is_empty());
    entries.extend(tags.map(|(key, tag)| (key, text(tag))));
    if !step.sdp.is_empty() {
        entries.push(("sdp", text(&step.sdp)));
    }
    entries.extend(step.flags.iter().cloned());
    let answer = client.command(&entries);
    let word = |key: &str| answer.text(key).unwrap_or_default().to_owned();
    format!("{} {}{}\n{}", word("result"), word("error-reason"), word("warning"), masked(&word("sdp")))
}
