//! The node: what comes in is handed to the part it is for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use proto::node::{Birth, Input, Node, Output};
use proto::sip::transaction::Transactions;
use proto::tables::Tables;

use crate::config::Config;

/// A proxy. Born with a configuration; see [`Node`].
#[derive(Debug)]
pub struct Proxy {
    config: Arc<Config>,
    birth: Birth,
    transactions: Transactions,
    out: VecDeque<Output>,
}

/// The stream of dice that keys the transactions' index.
const TRANSACTION_DICE: u64 = 0x7261_6e73;

/// A snapshot of what a proxy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Calls between INVITE and end.
    pub calls: usize,
    /// Transactions, client and server.
    pub transactions: usize,
    /// Relay sessions this proxy holds.
    pub relay_sessions: usize,
}

impl Proxy {
    /// A proxy with nothing to do yet.
    pub fn new(config: Arc<Config>, birth: Birth) -> Proxy {
        let transactions = Transactions::new(config.timers, 10 * config.limits.calls, &mut birth.dice(TRANSACTION_DICE));
        Proxy { config, birth, transactions, out: VecDeque::new() }
    }

    /// From the next `handle` on, another configuration. Calls go on.
    pub fn reconfigure(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// What it holds now.
    pub fn status(&self) -> Status {
        Status { calls: 0, transactions: self.transactions.len(), relay_sessions: 0 }
    }
}

impl Node for Proxy {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        let _ = (now, input, tables, self.birth);
    }

    fn poll(&mut self, tables: &mut dyn Tables) -> Option<Output> {
        let _ = tables;
        self.out.pop_front().or_else(|| self.transactions.poll())
    }

    fn deadline(&self) -> Option<Instant> {
        self.transactions.deadline()
    }
}
