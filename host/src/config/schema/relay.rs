//! The relay's part of the file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ng::Ng;
use crate::config::values::{Cidr, Ports, SipAddress, Span};

/// The relay.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Relay {
    /// Where proxies reach it.
    pub address: SipAddress,
    /// Media ports, in each network: one is enough with `mode: one-port`.
    pub ports: Ports,
    /// Networks it lends ports in; none: all.
    pub networks: Vec<String>,
    /// Threads that carry media. 0: the proxy's own thread does, which spares each call a few wake-ups and suits a small
    /// site; much signalling then delays media.
    pub threads: u16,
    /// A port for each party, one for both, or a few for all calls.
    pub mode: RelayMode,
    /// How long no media may come before a call counts as dead.
    pub media_timeout: Span,
    /// Sessions at once; more are refused with 503. 0: as many as there are ports.
    pub max_sessions: u32,
    /// Where calls are recorded when that is asked for, and how much of them is kept.
    pub record: Record,
    /// Pairs of ports each thread opens in each network at the start; more are opened when they are needed. A port rests
    /// for 5 s between two sessions, so ten times the calls a second spare every call the opening of its ports.
    pub open_at_start: u32,
    /// Whether streams of latched parties go on in the kernel, past this host's own firewall rules. Needs CAP_BPF and
    /// CAP_NET_ADMIN, Linux 6.6 or later, and Ethernet interfaces; without them media goes its ordinary way.
    pub kernel_path: bool,
    /// rtpengine's control protocol, for Kamailio, OpenSIPS and others; none: not spoken.
    pub ng: Option<Ng>,
}

impl Relay {
    /// Where it listens: for proxies, then for ng clients.
    pub fn addresses(&self) -> impl Iterator<Item = SipAddress> + '_ {
        std::iter::once(self.address).chain(self.ng.iter().flat_map(|ng| ng.listen.iter().copied()))
    }
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            address: SipAddress::udp(([127, 0, 0, 1], 5090).into()),
            ports: Ports { first: 20_000, last: 29_999 },
            networks: Vec::new(),
            threads: 1,
            mode: RelayMode::default(),
            media_timeout: Span(std::time::Duration::from_secs(120)),
            max_sessions: 0,
            record: Record::default(),
            open_at_start: 64,
            kernel_path: false,
            ng: None,
        }
    }
}

/// Recordings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Record {
    /// Their folder; none: `recordings` beside the store, else in the folder for temporary files.
    pub folder: Option<PathBuf>,
    /// How large one may grow.
    pub megabytes: u32,
    /// How many are kept; the oldest go first.
    pub files: u32,
    /// Calls that are recorded without being asked for. The first rule that fits is the one that counts.
    pub rules: Vec<RecordRule>,
}

/// Which calls: all that it says must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RecordRule {
    /// The caller's or the callee's user part; with a `*` at its end, what begins so.
    pub user: Option<String>,
    /// The domain of that party.
    pub domain: Option<String>,
    /// Where the call comes from.
    pub source: Vec<Cidr>,
    /// How many calls, from the start or the reload that brought the rule.
    pub calls: Option<u32>,
    /// How many of a hundred.
    pub percent: Option<u8>,
}

impl Default for Record {
    fn default() -> Record {
        Record { folder: None, megabytes: 100, files: 100, rules: Vec::new() }
    }
}

/// `split`, `shared` or `one-port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayMode {
    /// A port pair for each party.
    #[default]
    Split,
    /// One pair for both.
    Shared,
    /// All calls on the same few ports, for containers: at least one for each thread.
    OnePort,
}
