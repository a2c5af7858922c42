//! First-bytes demultiplexing of media (RFC 7983, RFC 5761), and views of the fixed headers.

/// What a datagram on a media port is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// STUN, known by first byte 0–3 and magic cookie.
    Stun,
    /// DTLS, first byte 20–63.
    Dtls,
    /// TURN channel data, first byte 64–79.
    Channel,
    /// RTP or SRTP.
    Rtp(Rtp<'a>),
    /// RTCP or SRTCP: payload type byte 192–223.
    Rtcp(&'a [u8]),
    /// None of these.
    Unknown,
}

/// The 12-byte fixed header (RFC 3550 §5.1) of a packet long enough for it and its CSRCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtp<'a>(pub &'a [u8]);

impl Rtp<'_> {
    /// Payload type, 0–127.
    pub fn payload_type(&self) -> u8 { todo!() }
    /// Marker bit.
    pub fn marker(&self) -> bool { todo!() }
    /// Sequence number.
    pub fn sequence(&self) -> u16 { todo!() }
    /// Timestamp, in the payload's clock.
    pub fn timestamp(&self) -> u32 { todo!() }
    /// Synchronization source.
    pub fn ssrc(&self) -> u32 { todo!() }
    /// Behind CSRCs and extension, padding included; empty when the lengths don't fit.
    pub fn payload(&self) -> &[u8] { todo!() }
}

/// Tells what a datagram is. No allocation, no copy.
pub fn classify(bytes: &[u8]) -> Packet<'_> { let _ = bytes; todo!() }
