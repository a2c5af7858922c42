//! The table of streams, byte for byte as `forward.bpf.c` has it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use proto::node::SocketId;
use proto::offload::{Carried, Rule};
use proto::rtp::Progress;

/// Bytes of `struct ends`.
pub(super) const KEY: usize = 36;
/// Bytes of `struct flow`.
pub(super) const FLOW: usize = 104;

/// `struct ends`: where from, where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u8; KEY]);

impl Key {
    pub(super) fn new(from: SocketAddr, to: SocketAddr) -> Key {
        let octets = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut bytes = [0; KEY];
        bytes[..16].copy_from_slice(&octets(from.ip()));
        bytes[16..32].copy_from_slice(&octets(to.ip()));
        bytes[32..34].copy_from_slice(&from.port().to_be_bytes());
        bytes[34..].copy_from_slice(&to.port().to_be_bytes());
        Key(bytes)
    }
}

/// Bytes of `struct port`.
pub(super) const PORT: usize = 20;
/// Bytes of `struct gate`.
pub(super) const GATE: usize = 40;

/// `struct port`: where a carried stream comes in.
pub(super) fn port(key: &Key) -> [u8; PORT] {
    let mut port = [0; PORT];
    port[..16].copy_from_slice(&key.0[16..32]);
    port[16..18].copy_from_slice(&key.0[34..]);
    port
}

/// Of a `struct gate`: packets that were too many.
pub(super) fn dropped(gate: &[u8; GATE]) -> u64 {
    u64::from_ne_bytes(gate[32..].try_into().expect("the last eight"))
}

/// `struct flow`: what the kernel is told of a stream, and what it counts.
#[derive(Clone, Debug)]
pub(super) struct Flow(pub(super) [u8; FLOW]);

const WAY: usize = 36;
const SSRC: usize = 40;
const CLOCK: usize = 44;
const PAYLOAD_TYPE: usize = 48;
const BURST: usize = 52;
const TIMESTAMP: usize = 56;
const PACKETS: usize = 64;
const BYTES: usize = 72;
const HEARD: usize = 80;
const HIGHEST: usize = 88;
const JITTER: usize = 96;

impl Flow {
    /// `way`: the number of its way out.
    pub(super) fn new(rule: &Rule, way: u32) -> Flow {
        let mut flow = Flow([0; FLOW]);
        flow.0[..KEY].copy_from_slice(&Key::new(rule.via, rule.to).0);
        flow.set_u32(WAY, way);
        flow.0[SSRC..SSRC + 4].copy_from_slice(&rule.ssrc.to_be_bytes());
        flow.set_u32(CLOCK, rule.clock.unwrap_or(0));
        flow.set_u32(PAYLOAD_TYPE, rule.payload_type.into());
        flow.set_u32(TIMESTAMP, rule.progress.timestamp);
        flow.0[HIGHEST..HIGHEST + 8].copy_from_slice(&rule.progress.highest.to_ne_bytes());
        flow.0[JITTER..JITTER + 8].copy_from_slice(&rule.progress.jitter.to_ne_bytes());
        flow
    }

    pub(super) fn way(&self) -> u32 {
        self.u32(WAY)
    }

    pub(super) fn packets(&self) -> u64 {
        self.u64(PACKETS)
    }

    pub(super) fn carried(&self, socket: SocketId, over: bool) -> Carried {
        Carried {
            socket,
            packets: self.packets(),
            bytes: self.u64(BYTES),
            heard: self.heard(),
            progress: Progress {
                highest: self.u64(HIGHEST),
                timestamp: self.u32(TIMESTAMP),
                jitter: self.u64(JITTER),
            },
            burst: self.u32(BURST).try_into().unwrap_or(u16::MAX),
            over,
        }
    }

    /// The kernel reads the same clock as `Instant` does.
    fn heard(&self) -> Option<Instant> {
        let heard = Duration::from_nanos(self.u64(HEARD));
        let clock = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
        let ago = clock.saturating_sub(heard);
        (!heard.is_zero()).then(|| Instant::now().checked_sub(ago)).flatten()
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(bytes)
    }
}
