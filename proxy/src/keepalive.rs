//! Keeps NAT mappings of registered devices open: OPTIONS every 25 s ± jitter to UDP bindings behind a NAT, from the
//! socket they registered on. Three unanswered mark a binding unreachable; an answer clears it.

use std::time::Instant;

use proto::node::Dice;
use proto::tables::Tables;

use crate::config::Config;
use crate::moment::Moment;
use crate::part::{Outcome, RequestId, Want};

/// The schedule of keep-alives of one lane.
#[derive(Debug)]
pub struct KeepAlive {}

impl KeepAlive {
    /// Nothing scheduled yet.
    pub fn new(dice: Dice) -> KeepAlive {
        let _ = dice;
        KeepAlive {}
    }

    /// Once after birth: takes up what a former life left in the tables.
    pub fn resume(&mut self, now: Moment, config: &Config, tables: &dyn Tables) {
        let _ = (now, config, tables);
    }

    /// The bindings of an address of record changed.
    pub fn changed(&mut self, now: Moment, aor: &str, config: &Config, tables: &dyn Tables) {
        let _ = (now, aor, config, tables);
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config, tables: &mut dyn Tables) {
        let _ = (now, config, tables);
    }

    /// What became of a request.
    pub fn outcome(
        &mut self,
        now: Moment,
        id: RequestId,
        outcome: Outcome,
        config: &Config,
        tables: &mut dyn Tables,
    ) {
        let _ = (now, id, outcome, config, tables);
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        None
    }

    /// When to call [`KeepAlive::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
}
