//! What a relay and a path below it (the kernel, see `host`) say to one another: a latched stream is handed down, counted
//! and taken back. The relay decides; the path only carries, and knows nothing but its rules.
//!
//! ```text
//!   relay ── Begin(rule) ──▶ path        packets that fit the rule in everything go on, and are counted
//!         ── Count(sockets) ─▶           ◀── Carried, one for each
//!         ── End(socket) ────▶           ◀── Carried { over: true }: the last of it
//! ```
//! A path that can't (no privileges, no room, no route) answers `Begin` with `Carried { over: true }`.

use std::net::SocketAddr;
use std::time::Instant;

use crate::node::SocketId;
use crate::rtp::Progress;

/// What the relay wants of the path below it.
#[derive(Clone, Debug, PartialEq)]
pub enum Offload {
    /// Carry this stream.
    Begin(Rule),
    /// Say what was carried so far.
    Count(Vec<SocketId>),
    /// Carry it no more.
    End(SocketId),
}

/// One RTP stream in one direction. Packets that differ in anything are the relay's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The port it comes in by; what the rule is called.
    pub socket: SocketId,
    /// That port's address.
    pub here: SocketAddr,
    /// Where the party is latched.
    pub from: SocketAddr,
    /// The port it leaves by.
    pub via: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// The stream's source.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Its clock in Hz, if known.
    pub clock: Option<u32>,
    /// Where it stands.
    pub progress: Progress,
}

/// What a path has carried of one stream, since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried {
    /// The rule's name.
    pub socket: SocketId,
    /// Packets sent on.
    pub packets: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// When the last one came.
    pub heard: Option<Instant>,
    /// Where the stream stands now.
    pub progress: Progress,
    /// Most packets missing in a row.
    pub burst: u16,
    /// The rule is gone.
    pub over: bool,
}

impl Carried {
    /// Nothing, and nothing will be.
    pub fn refused(socket: SocketId) -> Carried {
        let progress = Progress { highest: 0, timestamp: 0, jitter: 0 };
        Carried { socket, packets: 0, bytes: 0, heard: None, progress, burst: 0, over: true }
    }
}
