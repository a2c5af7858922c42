//! A recording as sound: stereo, the caller left, the callee right, from the G.711 packets in it. Each packet is put where
//! its timestamp says, counted from when its source was first heard, so that loss is silence and lateness is none.

use std::collections::HashMap;
use std::time::Duration;

use proto::g711::Law;
use proto::rtp::{Packet, Rtp, classify};

use super::pcapng;

const RATE: u64 = 8000;
/// Longest sound that is made: a source whose clock jumps must not fill the memory.
const LONGEST: usize = RATE as usize * 3600 * 6;

/// Why there is no sound.
#[derive(Debug, PartialEq, Eq)]
pub enum Mute {
    /// The file is no recording of ours.
    NotARecording,
    /// Nothing in it is G.711.
    NoG711,
}

/// Makes the WAV file of a recording.
pub fn of_recording(bytes: &[u8]) -> Result<Vec<u8>, Mute> {
    let packets = pcapng::read(bytes).ok_or(Mute::NotARecording)?;
    let began = packets.iter().map(|packet| packet.at).min().unwrap_or_default();
    let mut sound: [Vec<i16>; 2] = Default::default();
    let mut sources: HashMap<(u32, u32), Source> = HashMap::new();
    for packet in &packets {
        let Some((rtp, law)) = g711(packet.datagram) else { continue };
        let payload = rtp.payload();
        let side = packet.interface.min(1);
        let new = || Source { first: rtp.timestamp(), at: samples(packet.at - began) };
        let source = sources.entry((side, rtp.ssrc())).or_insert_with(new);
        let Some(start) = source.place(rtp.timestamp()) else { continue };
        let channel = &mut sound[side as usize];
        if channel.len() < start + payload.len() {
            channel.resize(start + payload.len(), 0);
        }
        channel[start..start + payload.len()]
            .iter_mut()
            .zip(payload)
            .for_each(|(to, byte)| *to = law.decode(*byte));
    }
    match sound.iter().all(Vec::is_empty) {
        true => Err(Mute::NoG711),
        false => Ok(stereo(sound)),
    }
}

/// Where a source's clock began.
struct Source {
    first: u32,
    at: usize,
}

impl Source {
    /// The sample a timestamp means.
    fn place(&self, timestamp: u32) -> Option<usize> {
        let ahead = i64::from(timestamp.wrapping_sub(self.first) as i32);
        let at = usize::try_from(self.at as i64 + ahead).ok()?;
        (at < LONGEST).then_some(at)
    }
}

fn g711(datagram: &[u8]) -> Option<(Rtp<'_>, Law)> {
    let Packet::Rtp(rtp) = classify(datagram) else { return None };
    match rtp.payload_type() {
        0 => Some((rtp, Law::Mu)),
        8 => Some((rtp, Law::A)),
        _ => None,
    }
}

fn samples(time: Duration) -> usize {
    (time.as_micros() as u64 * RATE / 1_000_000) as usize
}

fn stereo([left, right]: [Vec<i16>; 2]) -> Vec<u8> {
    let frames = left.len().max(right.len());
    let size = frames as u32 * 4;
    let mut out = Vec::with_capacity(frames * 4 + 44);
    out.extend(b"RIFF");
    out.extend((size + 36).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend([1, 0, 2, 0]);
    out.extend((RATE as u32).to_le_bytes());
    out.extend((RATE as u32 * 4).to_le_bytes());
    out.extend([4, 0, 16, 0]);
    out.extend(b"data");
    out.extend(size.to_le_bytes());
    for at in 0..frames {
        for channel in [&left, &right] {
            out.extend(channel.get(at).copied().unwrap_or(0).to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn rtp(payload_type: u8, ssrc: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type, 0, 0];
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0, 0, 0, ssrc]);
        packet.extend(payload);
        packet
    }

    fn recording(packets: &[(u32, u64, Vec<u8>)]) -> Vec<u8> {
        let mut file = Vec::new();
        pcapng::head(&mut file, &["caller", "callee"], "");
        for (interface, millis, datagram) in packets {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + millis);
            let [from, to] = ["198.51.100.1:1", "203.0.113.1:2"].map(|text| text.parse().unwrap());
            pcapng::packet(&mut file, *interface, at, from, to, datagram);
        }
        file
    }

    fn frame(wav: &[u8], at: usize) -> [i16; 2] {
        let sample = |n: usize| i16::from_le_bytes([wav[44 + 4 * at + n], wav[45 + 4 * at + n]]);
        [sample(0), sample(2)]
    }

    #[test]
    fn the_caller_is_left_the_callee_right_and_each_stands_where_it_was_heard() {
        let file = recording(&[
            (0, 0, rtp(0, 1, 5000, &[0x80; 160])),
            (1, 10, rtp(8, 2, 77, &[0xaa; 160])),
            // 5160 is lost, 5320 comes before its time.
            (0, 30, rtp(0, 1, 5320, &[0x80; 160])),
            (0, 40, rtp(101, 1, 5480, &[1, 2, 3, 4])),
        ]);
        let wav = of_recording(&file).unwrap();
        assert_eq!(&wav[..4], b"RIFF");
        assert_eq!(wav.len(), 44 + 480 * 4);
        assert_eq!(frame(&wav, 0), [32124, 0]);
        assert_eq!(frame(&wav, 80), [32124, 32256]);
        assert_eq!(frame(&wav, 239), [0, 32256]);
        assert_eq!([frame(&wav, 319), frame(&wav, 320)], [[0, 0], [32124, 0]]);
    }

    #[test]
    fn what_has_no_g711_makes_no_sound() {
        assert_eq!(of_recording(&recording(&[(0, 0, rtp(18, 1, 0, &[0; 20]))])), Err(Mute::NoG711));
        assert_eq!(of_recording(b"nothing"), Err(Mute::NotARecording));
    }

    #[test]
    fn a_clock_that_jumps_far_fills_no_memory() {
        let file =
            recording(&[(0, 0, rtp(0, 1, 0, &[0x80; 160])), (0, 20, rtp(0, 1, 0x7000_0000, &[0x80; 160]))]);
        assert_eq!(of_recording(&file).unwrap().len(), 44 + 160 * 4);
    }
}
