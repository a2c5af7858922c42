//! Media on the direct path of two peers: each RTP or RTCP packet ends with a tag under the pair's key.
//!
//! ```text
//!  packet as the phone made it | tag (8) = keyed BLAKE3 over purpose, sender's address of record, packet
//! ```
//!
//! A packet whose tag holds is the buddy's wherever it comes from: a party whose NAT has bound anew is heard with its first
//! packet, and nobody else ever. That it may be played says nothing of where to answer to: whoever repeats a packet it
//! has seen is asked by a check first, which only the buddy can answer.

/// Bytes a tag takes.
pub const TAG: usize = 8;

const PURPOSE: &[u8] = b"postern peer media\0";

/// A packet and its tag.
pub fn seal(key: &[u8; 32], sender: &str, packet: &[u8]) -> Vec<u8> {
    [packet, &tag(key, sender, packet)].concat()
}

/// The packet without its tag; `None`: `sender` did not make it.
pub fn open<'p>(key: &[u8; 32], sender: &str, sealed: &'p [u8]) -> Option<&'p [u8]> {
    let (packet, said) = sealed.split_last_chunk::<TAG>()?;
    constant_time_eq::constant_time_eq(said, &tag(key, sender, packet)).then_some(packet)
}

fn tag(key: &[u8; 32], sender: &str, packet: &[u8]) -> [u8; TAG] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(PURPOSE).update(&(sender.len() as u64).to_be_bytes()).update(sender.as_bytes());
    let mut tag = [0; TAG];
    hasher.update(packet).finalize_xof().fill(&mut tag);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_its_senders_alone_and_whole() {
        let sealed = seal(&[1; 32], "e1@example.com", b"packet");
        assert_eq!(open(&[1; 32], "e1@example.com", &sealed), Some(&b"packet"[..]));
        assert_eq!(open(&[2; 32], "e1@example.com", &sealed), None, "another pair");
        assert_eq!(open(&[1; 32], "e2@example.com", &sealed), None, "sent back to its sender");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&[1; 32], "e1@example.com", &changed), None, "byte {at}");
        }
        assert_eq!(open(&[1; 32], "e1@example.com", b"short"), None);
    }
}
