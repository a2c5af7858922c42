//! What this machine gives, held against what a configuration asks of it: open files, and ports that are nobody else's.
//!
//! What can't work is an error before anything starts ([`files`]); what works until the machine is busy is a warning,
//! told at the start, by `postern check` and by `postern status` ([`warnings`]).

mod owner;
mod ports;
mod presence;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proto::node::Transport;

pub use self::owner::owner;
pub use self::ports::taken;
pub use self::presence::Clocks;
use crate::config::Settings;

/// Files a process has open besides its sockets, and those of one lane: rings, bells, the store, the log.
const OWN: u64 = 64;
const OF_A_LANE: u64 = 8;
/// Connections a process with stream listeners must have room for …
const SOME_CONNECTIONS: u64 = 256;
/// … and takes in at most.
const MOST_CONNECTIONS: u64 = crate::net::streams::MOST as u64;

/// Open files a configuration may come to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Files {
    /// Media ports, in all networks.
    ports: u64,
    networks: u64,
    /// Everything but ports and connections.
    own: u64,
    connections: u64,
}

impl Files {
    fn of(settings: &Settings) -> Files {
        let file = &settings.file;
        let lanes = file.proxy.as_ref().map_or(0, |proxy| u64::from(proxy.lanes.max(1)));
        let threads = file.relay.as_ref().map_or(0, |relay| u64::from(relay.threads.max(1)));
        let mirrors = file.reflector.as_ref().map_or(0, |reflector| u64::from(reflector.threads));
        let listeners = settings.addresses().len() as u64 * lanes.max(threads).max(mirrors).max(1);
        let networks = file.relay.as_ref().map_or(0, |relay| match relay.networks.len() {
            0 => file.networks.len() as u64,
            named => named as u64,
        });
        let count = file.relay.as_ref().map_or(0, |relay| u64::from(relay.ports.count()));
        let streams = settings.addresses().iter().any(|address| address.transport != Transport::Udp);
        Files {
            ports: count * networks,
            networks,
            own: OWN + OF_A_LANE * (lanes + threads + mirrors) + listeners,
            connections: if streams { MOST_CONNECTIONS } else { 0 },
        }
    }

    fn at_least(&self) -> u64 {
        self.ports + self.own + self.connections.min(SOME_CONNECTIONS)
    }

    fn at_most(&self) -> u64 {
        self.ports + self.own + self.connections
    }
}

/// Whether this process may have as many open files as its ports and listeners need; else what it lacks, and what to do.
pub fn files(settings: &Settings) -> Result<(), (String, String)> {
    lacks(Files::of(settings), hard_limit())
}

fn lacks(files: Files, hard: u64) -> Result<(), (String, String)> {
    let (needed, Files { ports, networks, .. }) = (files.at_least(), files);
    if needed <= hard {
        return Ok(());
    }
    let what = format!(
        "{needed} open files are needed ({ports} media ports in {networks} network(s), listeners, some connections); \
         this process may have {hard}"
    );
    let remedy = "raise the limit (LimitNOFILE= for systemd, ulimit -Hn, --ulimit nofile= for a container), or lend \
                  fewer ports (`relay.ports`)";
    Err((what, remedy.to_owned()))
}

/// What works until the machine is busy.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let range = settings.file.relay.as_ref().and_then(|relay| ports::given_away(relay.ports));
    let files = few_files(Files::of(settings), hard_limit());
    range.into_iter().chain(files).chain(presence::absent(settings)).collect()
}

fn few_files(files: Files, hard: u64) -> Option<String> {
    let (needed, for_connections) =
        (files.at_most(), hard.saturating_sub(files.at_most() - files.connections));
    (needed > hard).then(|| {
        format!(
            "this process may have {hard} open files, which is enough for {for_connections} connections at once and not \
             for {}: set LimitNOFILE={needed} or more",
            files.connections
        )
    })
}

/// As many open files as this process may have: each media port and each connection is one.
pub fn raise_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "the limit of open files could not be raised");
    }
}

fn hard_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: Files = Files { ports: 20_000, networks: 2, own: 100, connections: 50_000 };

    #[test]
    fn one_file_fewer_than_ports_and_listeners_need_is_an_error_with_the_figure() {
        assert_eq!(lacks(FILES, 20_356), Ok(()));
        let (what, remedy) = lacks(FILES, 20_355).unwrap_err();
        assert!(what.starts_with("20356 open files are needed (20000 media ports in 2 network(s)"), "{what}");
        assert!(what.ends_with("may have 20355") && remedy.contains("LimitNOFILE"), "{what} {remedy}");
    }

    #[test]
    fn files_for_fewer_connections_than_are_taken_in_are_a_warning() {
        assert_eq!(few_files(FILES, 70_100), None);
        let words = few_files(FILES, 70_099).unwrap();
        assert!(words.contains("enough for 49999 connections"), "{words}");
        assert!(words.contains("LimitNOFILE=70100"), "{words}");
    }
}
