//! What a phone saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Serialize;

/// A phone's experience so far. Counters of media are of its last call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Its address of record.
    pub name: String,
    /// Whether it is registered now.
    pub registered: bool,
    /// Flows it is registered by (RFC 5626).
    pub flows: usize,
    /// How often a flow that stood has failed.
    pub flow_failures: u32,
    /// Final status of the last REGISTER.
    pub register_status: Option<u16>,
    /// Final status of the last INVITE that made, or should have made, a call.
    pub call_status: Option<u16>,
    /// INVITE to first 18x, in milliseconds.
    pub ringing_ms: Option<u64>,
    /// INVITE to 200.
    pub setup_ms: Option<u64>,
    /// Whether a call was answered.
    pub answered: bool,
    /// Who ended the last call.
    pub ended_by: Option<EndedBy>,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received, from anybody.
    pub received: u64,
    /// Packets that never came, by sequence numbers.
    pub lost: u64,
    /// Packets that came late.
    pub reordered: u64,
    /// Longest time without a packet while the call could be heard, in milliseconds.
    pub largest_gap_ms: u64,
    /// Where media came from.
    pub sources: BTreeSet<SocketAddr>,
    /// Whose markers were heard, and how often.
    pub heard: BTreeMap<String, u64>,
    /// RTP packets without a marker: another make of phone.
    pub unmarked: u64,
    /// Datagrams that our keys did not open.
    pub unopened: u64,
    /// How many of our packets the other side says it heard (by its markers, or its RTCP).
    pub heard_of_us: u64,
    /// We heard the other side, and it says it heard us.
    pub audio_both_ways: bool,
    /// Digits heard.
    pub digits: String,
    /// RTCP packets sent.
    pub rtcp_sent: u64,
    /// RTCP packets received.
    pub rtcp_received: u64,
    /// Changes of the session (hold, resume, move) that the other side took.
    pub changes: u32,
    /// Changes that the other side asked for.
    pub changes_asked: u32,
    /// Answers of other branches of a forked call, ended at once.
    pub extra_answers: u32,
    /// How a transfer we asked for went.
    pub transfer_status: Option<u16>,
    /// Calls whose other party was replaced by another one (RFC 3891).
    pub replaced: u32,
    /// Calls refused because one was up.
    pub busy: u32,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// This phone.
    Us,
    /// The other side.
    Them,
    /// It was never answered, or could not go on.
    Failure,
}

impl Report {
    /// Whether marked media of `name` was heard and nobody else's.
    pub fn heard_only(&self, name: &str) -> bool {
        self.heard.len() == 1 && self.heard.contains_key(name)
    }

    /// Forgets the media of an earlier call.
    pub(crate) fn begin_call(&mut self) {
        let kept = std::mem::take(self);
        *self = Report {
            name: kept.name,
            registered: kept.registered,
            flows: kept.flows,
            flow_failures: kept.flow_failures,
            register_status: kept.register_status,
            extra_answers: kept.extra_answers,
            transfer_status: kept.transfer_status,
            replaced: kept.replaced,
            busy: kept.busy,
            ..Report::default()
        };
    }
}
