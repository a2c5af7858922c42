//! The ng face: rtpengine's control protocol, so that Kamailio, OpenSIPS and others use this relay as their rtpengine.
//!
//! ```text
//! client ── cookie d7:command5:offer…e ──▶ command ──▶ calls ──▶ describe ──▶ session (the same as the SIP face makes)
//!        ◀── cookie d3:sdp…6:result2:oke ── restate ◀── ports ──┘
//! ```
//!
//! A message is a cookie and a dictionary, in bencoding or JSON; it is answered in kind, and a repeated cookie gets the
//! answer it got before. It comes in a datagram, on a stream ([`stream`]) or in a WebSocket message. Nothing proves who sent
//! it, so it is heard only from the addresses in [`Config::allow`]; over UDP those can be forged, which is why the default
//! is loopback alone.
//!
//! **Left out**: ICE with other parties than those of DTLS is stripped, nothing that parties send is transcoded, and what is played is
//! G.711. What asks for more is refused in words (`publish`), or named in the answer's `warning` and the call goes on.

pub mod bencode;
mod calls;
mod codecs;
pub(crate) use codecs::static_name;
pub mod command;
mod cookies;
mod exchange;
pub mod flags;
mod gather;
pub mod json;
mod keying;
mod playing;
pub use playing::Files;
mod report;
mod restate;
pub mod stream;
pub mod value;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::cidr::Cidr;
use proto::control::Session;
use proto::event::{CallEnded, EndedBy, Event, Release, Side};
use proto::node::{Flow, Output, Ticket, Transport};
use proto::tables::Latch;

use self::calls::{Call, Calls, Dialog, Said};
use self::command::{Command, Envelope, Switch, Target, error, seal};
use self::cookies::{Asker, Cookies};
use self::value::{Dict, Value};
use crate::describe::Not;
use crate::recent::Recent;
use crate::relay::Relay;
use crate::session::index;

/// The ng face of a lane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where commands come in; anything else that comes in there is dropped.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// Who may command.
    pub allow: Vec<Cidr>,
    /// Whom a leg accepts first.
    pub latch: Latch,
    /// Where files that may be played are read; `None`: nowhere.
    pub media: Option<Arc<dyn Files>>,
}

impl Default for Config {
    fn default() -> Config {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|range| range.parse().ok());
        Config { listen: Vec::new(), allow: loopback.collect(), latch: Latch::Strict, media: None }
    }
}

/// Commands by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Obeyed or refused with an answer.
    pub commands: u64,
    /// Of those, refused.
    pub errors: u64,
    /// Repetitions, answered from memory.
    pub repeated: u64,
    /// From addresses that may not command, or unreadable.
    pub ignored: u64,
    /// Words that asked for what is not to be had.
    pub unknown_words: u64,
}

/// What a lane holds for its ng face.
#[derive(Debug, Default)]
pub(crate) struct Ng {
    pub(crate) calls: Calls,
    /// What parties of calls have said lately.
    pub(crate) said: Recent<[Said]>,
    pub(crate) counts: Counts,
    pub(crate) by_command: [u64; COMMANDS.len()],
    cookies: Cookies,
    waiting: VecDeque<Waiting>,
    /// Commands that wait for a file.
    reading: Vec<playing::Reading>,
    /// Sessions whose deletion was put off.
    deletions: BTreeSet<(Instant, u64)>,
    /// Words that were told of once.
    told: BTreeSet<String>,
    pub(crate) ended: Ended,
    /// What marks our own descriptions.
    mark: String,
}

/// Sessions by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) deleted: u64,
    pub(crate) silent: u64,
    pub(crate) rejected: u64,
}

/// A command that waits for ports to be opened.
#[derive(Clone, Debug)]
struct Waiting {
    until: Instant,
    pairs: usize,
    flow: Flow,
    asker: Asker,
    bytes: Bytes,
}

/// How an answer comes about.
pub(crate) type Answer = Result<Dict<'static>, Refused>;

/// Why there is none, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// With these words.
    Error(&'static str),
    /// There is no room: other relays may have some.
    Full(&'static str),
    /// Ports are being opened.
    Yet(usize),
}

impl From<Not> for Refused {
    fn from(not: Not) -> Refused {
        match not {
            Not::Yet(pairs) => Refused::Yet(pairs),
            Not::Refused(refusal) if refusal.status == 503 => Refused::Full(refusal.why),
            Not::Refused(refusal) => Refused::Error(refusal.why),
        }
    }
}

impl Relay {
    /// Whether this is where ng commands come in.
    pub(crate) fn is_ng(&self, flow: &Flow) -> bool {
        self.config.ng.as_ref().is_some_and(|ng| ng.listen.contains(&(flow.transport, flow.local)))
    }

    /// A message on the ng socket. On a connection what can't be read ends it: its framing may be lost.
    pub(crate) fn command(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        let ip = flow.remote.ip().to_canonical();
        let allowed =
            self.config.ng.as_ref().is_some_and(|ng| ng.allow.iter().any(|range| range.contains(ip)));
        let envelope = if allowed { Envelope::read(&bytes) } else { None };
        let is_clear = envelope.as_ref().is_some_and(|envelope| envelope.body.is_some());
        match &envelope {
            Some(envelope) => self.hear(now, flow, &bytes, envelope),
            None => self.ng.counts.ignored += 1,
        }
        if flow.transport != Transport::Udp && !is_clear {
            self.outputs.push_back(Output::Close { flow });
            let why = if allowed { UNREADABLE } else { NOT_ALLOWED };
            self.tell(Event::Warning { about: format!("ng client {}", flow.remote).into(), why });
        }
    }

    fn hear(&mut self, now: Instant, flow: Flow, bytes: &Bytes, envelope: &Envelope<'_>) {
        let asker = Asker::of(flow, envelope, bytes);
        if let Some(answer) = self.ng.cookies.known(now, &asker) {
            self.ng.counts.repeated += 1;
            return self.outputs.push_back(Output::Send { flow, bytes: answer, ticket: Ticket(0) });
        }
        let is_same = |waiting: &&mut Waiting| waiting.asker == asker && waiting.bytes == *bytes;
        if let Some(waiting) = self.ng.waiting.iter_mut().find(is_same) {
            waiting.flow = flow;
            return;
        }
        if self.reads_first(now, flow, &asker, envelope, bytes) {
            return;
        }
        if self.asks_all_lanes(envelope) {
            return self.begin_round(flow, bytes.clone());
        }
        match self.obey(now, flow, envelope) {
            Err(Refused::Yet(pairs)) if self.ng.waiting.len() < WAITING => {
                let until = now + PATIENCE;
                self.ng.waiting.push_back(Waiting { until, pairs, flow, asker, bytes: bytes.clone() });
            }
            answer => self.give(now, flow, asker, envelope, answer),
        }
    }

    /// Commands that wait: ports may be open now, or the wait too long.
    pub(crate) fn try_commands_again(&mut self, now: Instant) {
        for _ in 0..self.ng.waiting.len() {
            let Some(waiting) = self.ng.waiting.pop_front() else { return };
            let Some(envelope) = Envelope::read(&waiting.bytes) else { continue };
            match self.obey(now, waiting.flow, &envelope) {
                Err(Refused::Yet(pairs)) if now < waiting.until => {
                    self.ng.waiting.push_front(Waiting { pairs, ..waiting.clone() });
                    return;
                }
                answer => self.give(now, waiting.flow, waiting.asker, &envelope, answer),
            }
        }
    }

    /// Pairs of ports that commands wait for.
    pub(crate) fn commands_demand(&self) -> usize {
        self.ng.waiting.iter().map(|waiting| waiting.pairs).sum()
    }

    /// When a waiting command is given up, a deleted call is due, or answers may be forgotten.
    pub(crate) fn commands_deadline(&self) -> Option<Instant> {
        let waiting = self.ng.waiting.front().map(|waiting| waiting.until);
        let deletion = self.ng.deletions.first().map(|&(at, _)| at);
        [waiting, deletion, self.ng.cookies.deadline()].into_iter().flatten().min()
    }

    fn obey(&mut self, now: Instant, flow: Flow, envelope: &Envelope<'_>) -> Answer {
        let Some(dict) = envelope.body.as_ref().and_then(Value::as_dict) else {
            return Err(Refused::Error("Could not decode dictionary"));
        };
        let command = Command::read(dict).map_err(Refused::Error)?;
        self.ng.by_command[command.number()] += 1;
        match command {
            Command::Ping => Ok(Dict::default().with("result", Value::text("pong"))),
            Command::Offer(describe) => self.offer(now, flow, &describe),
            Command::Answer(describe) => self.answer_to(now, &describe),
            Command::Delete(target, delay, fatal) => self.delete(now, &target, delay, fatal),
            Command::Query(target) => self.query(now, &target),
            Command::List(limit) => Ok(self.list(limit)),
            Command::Statistics => Ok(self.statistics(now)),
            Command::Set(target, switch, on) => self.switch(&target, switch, on),
            Command::PlayDtmf(target, digit) => self.play_dtmf(now, &target, digit),
            Command::PlayMedia(play) => self.play_media(now, &play),
            Command::StopMedia(target) => self.stop_media(&target),
        }
    }

    fn give(&mut self, now: Instant, flow: Flow, asker: Asker, envelope: &Envelope<'_>, answer: Answer) {
        self.ng.counts.commands += 1;
        let answer = answer.unwrap_or_else(|refused| {
            self.ng.counts.errors += 1;
            match refused {
                Refused::Error(words) => error(words),
                Refused::Full(words) if supports_limits(envelope) => Dict::default()
                    .with("message", Value::text(words))
                    .with("result", Value::text("load limit")),
                Refused::Full(words) => error(words),
                Refused::Yet(_) => error("Ran out of ports"),
            }
        });
        let bytes = Bytes::from(seal(envelope.cookie, envelope.encoding, answer));
        self.ng.cookies.keep(now, asker, &bytes);
        self.outputs.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
    }

    fn delete(&mut self, now: Instant, target: &Target, delay: Option<Duration>, fatal: bool) -> Answer {
        let sessions = self.meant(target);
        if sessions.is_empty() {
            return match fatal {
                true => Err(Refused::Error(NOT_FOUND)),
                false => Ok(ok().with("warning", Value::text(NOT_FOUND))),
            };
        }
        let answer = self.query(now, &Target { call: target.call.clone(), ..Target::default() });
        for session in sessions {
            match delay.filter(|delay| !delay.is_zero()) {
                Some(delay) => drop(self.ng.deletions.insert((now + delay, session.0))),
                None => self.release(now, session, Release::Bye),
            }
        }
        answer
    }

    /// Deletions that were put off and are due.
    pub(crate) fn delete_due(&mut self, now: Instant) {
        self.ng.cookies.forget(now);
        while let Some(&(at, session)) = self.ng.deletions.first()
            && at <= now
        {
            self.ng.deletions.pop_first();
            self.release(now, Session(session), Release::Bye);
        }
    }

    /// A session is gone, whoever ended it.
    pub(crate) fn forget_dialog(&mut self, now: Instant, session: Session, why: Release) {
        self.ng.deletions.retain(|&(_, deleted)| deleted != session.0);
        let Some(call) = self.ng.calls.remove(session) else { return };
        match why {
            Release::Bye => self.ng.ended.deleted += 1,
            _ => self.ng.ended.silent += 1,
        }
        self.tell(ended(now, call, why));
    }

    /// The sessions of what a command is about.
    pub(crate) fn meant(&self, target: &Target) -> Vec<Session> {
        let Some(call) = self.ng.calls.by_id.get(&target.call) else { return Vec::new() };
        call.meant(target).into_iter().map(|at| call.dialogs[at].session).collect()
    }

    fn switch(&mut self, target: &Target, switch: Switch, on: bool) -> Answer {
        for (session, side) in self.parties(target)? {
            match switch {
                Switch::Record => self.record(session, on),
                Switch::Pause => self.switch_legs(session, None, Switch::Record, false),
                _ => self.switch_legs(session, side, switch, on),
            }
        }
        Ok(ok())
    }

    /// The sessions and parties a command is about; without a party: both.
    fn parties(&self, target: &Target) -> Result<Vec<Named>, Refused> {
        let call = self.ng.calls.by_id.get(&target.call).ok_or(Refused::Error("Unknown call-ID"))?;
        let whole = Target { call: target.call.clone(), ..Target::default() };
        let about = if target.all { &whole } else { target };
        let dialogs = call.meant(about).into_iter().map(|at| &call.dialogs[at]);
        let legs: Vec<Named> = dialogs.filter_map(|dialog| self.named_in(dialog, about)).collect();
        if legs.is_empty() {
            return Err(Refused::Error(NOT_FOUND));
        }
        Ok(legs)
    }

    /// The party of a dialog that is named by label, by address or by tag; both when no name is given that is to be met.
    fn named_in(&self, dialog: &Dialog, about: &Target) -> Option<Named> {
        let by_label = about.label.as_deref().and_then(|label| dialog.labelled(label));
        let by_address = || about.address.and_then(|ip| self.described_at(dialog.session, ip));
        let by_tag = || about.from.as_deref().and_then(|tag| dialog.side(tag));
        let side = by_label.or_else(by_address).or_else(by_tag);
        let must_be_met = about.label.is_some() || about.address.is_some();
        (side.is_some() || !must_be_met).then_some((dialog.session, side))
    }

    /// The party whose SDP wants media there.
    fn described_at(&self, session: Session, ip: IpAddr) -> Option<Side> {
        let session = self.sessions.get(&session.0)?;
        let wants = |leg: u32| {
            let leg = self.legs.get(leg as usize);
            leg.and_then(|leg| leg.media.signalled).is_some_and(|signalled| signalled.ip() == ip)
        };
        let has = |side: &Side| session.streams().any(|stream| wants(stream.legs[index(*side)]));
        [Side::Caller, Side::Callee].into_iter().find(has)
    }
}

/// A session, and one of its parties or both.
type Named = (Session, Option<Side>);

/// What `list`, `statistics` and logs call the commands.
pub(crate) const COMMANDS: [&str; 11] = [
    "ping",
    "offer",
    "answer",
    "delete",
    "query",
    "list",
    "statistics",
    "switch",
    "playdtmf",
    "playmedia",
    "stopmedia",
];

impl Command {
    fn number(&self) -> usize {
        match self {
            Command::Ping => 0,
            Command::Offer(_) => 1,
            Command::Answer(_) => 2,
            Command::Delete(..) => 3,
            Command::Query(_) => 4,
            Command::List(_) => 5,
            Command::Statistics => 6,
            Command::Set(..) => 7,
            Command::PlayDtmf(..) => 8,
            Command::PlayMedia(_) => 9,
            Command::StopMedia(_) => 10,
        }
    }
}

fn ended(now: Instant, call: Call, why: Release) -> Event {
    let by = match why {
        Release::Bye => EndedBy::Caller,
        Release::Stopping => EndedBy::Us,
        Release::Abandoned | Release::Silent | Release::Overdue => EndedBy::Silence,
    };
    Event::CallEnded(Box::new(CallEnded {
        call: call.name,
        from: "".into(),
        to: "".into(),
        status: if call.answered { 200 } else { 487 },
        duration: if call.answered { now.saturating_duration_since(call.begun) } else { Duration::ZERO },
        setup: Duration::ZERO,
        by,
        anchored: true,
    }))
}

/// Whether the client knows `load limit` as a result, and asks another relay then.
fn supports_limits(envelope: &Envelope<'_>) -> bool {
    let dict = envelope.body.as_ref().and_then(Value::as_dict);
    dict.and_then(|dict| dict.value("supports")).is_some_and(|value| match value {
        Value::List(items) => items.iter().any(|item| item.as_text() == Some("load limit")),
        _ => false,
    })
}

pub(crate) fn ok() -> Dict<'static> {
    Dict::default().with("result", Value::text("ok"))
}

pub(crate) const NOT_FOUND: &str = "Call-ID not found or tags didn't match";

const UNREADABLE: &str = "what it sent is no command (expected: COOKIE d…e or COOKIE {…}, at most 64 KiB); its connection was closed";
const NOT_ALLOWED: &str = "it is not in `relay.ng.allow`; its connection was closed";

/// How long a command waits for ports that are being opened, and how many may.
const PATIENCE: Duration = Duration::from_millis(900);
const WAITING: usize = 4096;
