//! Logins wait a millisecond for one another: ten devices' signatures are checked in two thirds of the time when they are
//! checked together, and that is most of what a login costs. Who comes alone is not kept waiting.

use std::time::{Duration, Instant};

use proto::node::Flow;
use proto::peer::words::{self, Claim, Login};
use proto::sip::Message;
use proto::sip::transaction::ServerId;
use proto::tables::Tables;

use crate::server::Access;

/// Who has shown its password, and says that its device has signed the login.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) id: ServerId,
    pub(crate) flow: Flow,
    pub(crate) request: Message,
    pub(crate) aor: String,
    pub(crate) login: Login,
}

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Proving {
    waiting: Vec<Newcomer>,
    due: Option<Instant>,
    /// When signatures were checked last.
    last: Option<Instant>,
}

/// From one check to the next, at least.
const APART: Duration = Duration::from_millis(1);
/// So many are checked together at most: more would gain nothing.
const MOST: usize = 32;

impl Proving {
    pub(crate) fn take(&mut self, now: Instant, newcomer: Newcomer) {
        self.waiting.push(newcomer);
        let next = self.last.map_or(now, |last| now.max(last + APART));
        let due = if self.waiting.len() < MOST { self.due.unwrap_or(next) } else { now };
        self.due = Some(due);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl Access {
    pub(crate) fn prove_due(&mut self, now: Instant, tables: &mut dyn Tables) {
        if self.proving.due.is_some_and(|due| due <= now) {
            self.prove_all(now, tables);
        }
    }

    /// Everybody who waits, in the order they came: before anything that must not overtake a login.
    pub(crate) fn prove_all(&mut self, now: Instant, tables: &mut dyn Tables) {
        let newcomers = std::mem::take(&mut self.proving.waiting);
        if newcomers.is_empty() {
            return;
        }
        (self.proving.due, self.proving.last) = (None, Some(now));
        let claims: Vec<Claim<'_>> = newcomers
            .iter()
            .map(|Newcomer { login, aor, request, .. }| Claim { login, aor, call_id: request.call_id() })
            .collect();
        let proven = words::proven(&claims);
        for (newcomer, is_proven) in newcomers.iter().zip(proven) {
            match is_proven {
                true => self.let_in(now, newcomer, tables),
                false => {
                    let refusal = (403, "the device key has not signed this login");
                    self.refuse(newcomer.id, newcomer.flow, &newcomer.request, refusal);
                }
            }
        }
    }
}
