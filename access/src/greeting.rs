//! A server that starts again knows nobody. Who keeps a channel open notices with its next keep-alive; who has none to keep open
//! would not for as long as its lease lasts. So its path is left in the tables, and a server that starts says hello there.
//!
//! The hello is a STUN indication (RFC 8489 §5) and proves nothing: it only makes a peer ask, under its session's key, whether it is
//! still known, and the answer tells it. A peer asks so at most once in ten seconds, whoever says hello.

use std::time::{Duration, Instant};

use proto::node::{Flow, Transport};
use proto::stun::{Class, Writer};
use proto::tables::{Binding, Tables};
use proto::timers::Queue;

use crate::accounts::Number;
use crate::server::{Access, keep_alive};

/// Who is still to be greeted.
#[derive(Debug, Default)]
pub(crate) struct Greetings {
    begun: bool,
    due: Queue<Greeting>,
}

#[derive(Clone, Debug)]
struct Greeting {
    aor: String,
    flow: Flow,
    times: usize,
}

/// One after the other, not faster than this …
const APART: Duration = Duration::from_millis(1);
/// … and all of a crowd within this time: each hello brings a login.
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// Who has not logged in by then is greeted again.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];

impl Greetings {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.deadline()
    }
}

impl Access {
    /// A device has logged in: its path is left behind if it would notice nothing else.
    pub(crate) fn leave_path(&mut self, now: Instant, number: Number, tables: &mut dyn Tables) {
        let Some(device) = self.accounts.device_of(number) else { return };
        let aor = self.accounts.name(number);
        if device.flow.transport != Transport::Udp || keep_alive(device).is_some() {
            return self.forget_path(aor, tables);
        }
        let binding = Binding {
            contact: format!("sip:{aor}"),
            call_id: String::new(),
            cseq: 0,
            q: 0,
            expires: self.birth.wall_at(now) + self.config.lease,
            flow: device.flow,
            sent_by: String::new(),
            behind_nat: false,
            path: Vec::new(),
            instance: None,
            reg_id: None,
            agent: None,
            unanswered: 0,
        };
        tables.edit_bindings(aor, &mut |bindings| *bindings = vec![binding.clone()]);
    }

    /// Nobody is to be greeted there.
    pub(crate) fn forget_path(&self, aor: &str, tables: &mut dyn Tables) {
        if !tables.bindings(aor).is_empty() {
            tables.edit_bindings(aor, &mut Vec::clear);
        }
    }

    /// What a process before this one left behind is gone through once.
    pub(crate) fn greet(&mut self, now: Instant, tables: &mut dyn Tables) {
        if !std::mem::replace(&mut self.greetings.begun, true) {
            self.plan_greetings(now, tables);
        }
        while let Some(Greeting { aor, flow, times }) = self.greetings.due.pop(now) {
            if self.accounts.device(&aor).is_some() {
                continue;
            }
            let hello = Writer::new(Class::Indication, self.dice.bytes()).finish();
            self.send(flow, hello);
            if let Some(wait) = AGAIN.get(times) {
                self.greetings.due.set(now + *wait, Greeting { aor, flow, times: times + 1 });
            }
        }
    }

    fn plan_greetings(&mut self, now: Instant, tables: &mut dyn Tables) {
        let wall = self.birth.wall_at(now);
        let mut paths = Vec::new();
        for aor in tables.aors() {
            match tables.bindings(&aor).into_iter().find(|binding| binding.is_live(wall)) {
                Some(binding) => paths.push((aor, binding.flow)),
                None => self.forget_path(&aor, tables),
            }
        }
        let apart = APART.min(ALL_WITHIN / paths.len().max(1) as u32);
        for (place, (aor, flow)) in paths.into_iter().enumerate() {
            self.greetings.due.set(now + apart * place as u32, Greeting { aor, flow, times: 0 });
        }
    }
}
