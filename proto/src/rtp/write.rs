//! Writing RTP packets: what an endpoint needs, and no more (RFC 3550 §5.1, without CSRCs, extension and padding).

/// The fields of a fixed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Payload type, 0–127 (the eighth bit is ignored).
    pub payload_type: u8,
    /// Marker bit: first packet of a talkspurt (RFC 3551 §4.1).
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, in the payload's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

/// A packet: this header, then the payload.
pub fn write(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + payload.len());
    out.push(0x80);
    out.push(u8::from(header.marker) << 7 | header.payload_type & 0x7f);
    out.extend(header.sequence.to_be_bytes());
    out.extend(header.timestamp.to_be_bytes());
    out.extend(header.ssrc.to_be_bytes());
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, classify};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            payload_type in 0u8..64, marker: bool, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = write(Header { payload_type, marker, sequence, timestamp, ssrc }, &payload);
            let Packet::Rtp(rtp) = classify(&bytes) else { panic!("not RTP") };
            prop_assert_eq!((rtp.payload_type(), rtp.marker()), (payload_type, marker));
            prop_assert_eq!((rtp.sequence(), rtp.timestamp(), rtp.ssrc()), (sequence, timestamp, ssrc));
            prop_assert_eq!(rtp.payload(), &payload[..]);
        }
    }
}
