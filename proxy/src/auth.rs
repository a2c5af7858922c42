//! Who sent this request (RFC 3261 §22, RFC 8760), before anything is allocated for it.

use std::sync::Arc;

use proto::node::Flow;
use proto::sip::Message;
use proto::tables::{Tables, User};

use crate::config::Config;
use crate::moment::Moment;

/// Which of the two challenges: 407 with Proxy-Authenticate, or 401 with WWW-Authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// For what we forward.
    Proxy,
    /// For REGISTER.
    Registrar,
}

/// What a request proved.
#[derive(Debug)]
pub enum Verdict {
    /// Go on; the account, when it is one of ours.
    Accepted(Option<Arc<User>>),
    /// Answer with this: 401 or 407.
    Challenge(Message),
    /// Answer with this status, if any (0: with silence), and an event that says why.
    Refuse {
        /// Status.
        status: u16,
        /// For the operator.
        why: &'static str,
    },
}

/// Checks requests.
#[derive(Debug)]
pub struct Gate {}

impl Gate {
    /// By the configuration's realm, algorithms and nonce key.
    pub fn new(config: &Config) -> Gate {
        let _ = config;
        Gate {}
    }

    /// Whether this request may be served. Listeners without authentication, trusted trunks and proven siblings need no
    /// credentials. From must belong to the account. Called once per request outside of transactions of old, never
    /// for ACK and CANCEL, nor for requests that carry a token of ours. `to_tag` is for the challenge.
    pub fn check(
        &self,
        now: Moment,
        flow: &Flow,
        request: &Message,
        face: Face,
        to_tag: &str,
        config: &Config,
        tables: &mut dyn Tables,
    ) -> Verdict {
        let _ = (now, flow, request, face, to_tag, config, tables);
        Verdict::Accepted(None)
    }
}
