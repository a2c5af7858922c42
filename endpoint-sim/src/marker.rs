//! What a packet says of itself, in the first bytes of its tone.
//!
//! ```text
//!  "PMRK"  number:32  heard count:32  length:8 name  length:8 name heard   … µ-law tone up to 160 bytes
//! ```

use proto::g711::Law;

const MAGIC: &[u8; 4] = b"PMRK";
/// 20 ms of G.711.
pub(crate) const FRAME: usize = 160;
/// Longest name that is carried; longer ones are cut.
const MAX_NAME: usize = 60;

/// The marker of one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Who sends.
    pub(crate) name: String,
    /// Which packet this is.
    pub(crate) number: u32,
    /// Whom the sender hears; "" for nobody.
    pub(crate) hears: String,
    /// How many packets of it the sender has heard.
    pub(crate) heard: u32,
}

/// A frame of tone that begins with the marker.
pub(crate) fn write(marker: &Marker) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME);
    frame.extend_from_slice(MAGIC);
    frame.extend(marker.number.to_be_bytes());
    frame.extend(marker.heard.to_be_bytes());
    for name in [&marker.name, &marker.hears] {
        let name = &name.as_bytes()[..name.len().min(MAX_NAME)];
        frame.push(name.len() as u8);
        frame.extend_from_slice(name);
    }
    let first = marker.number.wrapping_mul(FRAME as u32);
    let marked = frame.len() as u32;
    frame.extend((marked..FRAME as u32).map(|n| Law::Mu.encode(tone(first.wrapping_add(n)))));
    frame
}

/// The marker of a frame, if it has one.
pub(crate) fn read(payload: &[u8]) -> Option<Marker> {
    let rest = payload.strip_prefix(MAGIC)?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let (heard, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = read_name(rest)?;
    let (hears, _) = read_name(rest)?;
    Some(Marker { name, number: u32::from_be_bytes(*number), hears, heard: u32::from_be_bytes(*heard) })
}

fn read_name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    Some((String::from_utf8_lossy(name).into_owned(), rest))
}

/// 400 Hz at 8000 samples a second.
fn tone(sample: u32) -> i16 {
    let phase = f64::from(sample % 20) / 20.0;
    ((phase * std::f64::consts::TAU).sin() * 8000.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_from_its_frame() {
        let marker = Marker { name: "alice@x".into(), number: 7, hears: "bob@x".into(), heard: 5 };
        let frame = write(&marker);
        assert_eq!((frame.len(), read(&frame)), (FRAME, Some(marker)));
    }

    #[test]
    fn other_media_has_no_marker() {
        assert_eq!(read(&[0xff; 160]), None);
        assert_eq!(read(b"PMRK\0\0\0\x01\0\0\0\x01\x20abc"), None);
    }
}
