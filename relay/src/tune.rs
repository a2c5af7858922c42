//! What can be played to a party: a WAV file, mono at 8000 Hz, of 16-bit PCM or of G.711.
//!
//! ```text
//!  "RIFF" size:32  "WAVE"  { id:4×8 size:32 … padded to two bytes }*      all numbers little-endian
//!  "fmt " tag:16 channels:16 rate:32 bytes a second:32 bytes a frame:16 bits:16 [ … the tag once more, at 24, behind 0xfffe ]
//!  "data" the samples
//! ```

use std::sync::Arc;
use std::time::Duration;

use proto::g711::{Law, RATE};

/// Sound, in samples of 16 bits. A clone is the same sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tune(Arc<[i16]>);

impl Tune {
    /// Reads a file. A size that nobody filled in, as programs leave it that write into a pipe, means all that follows.
    pub(crate) fn read(file: &[u8]) -> Result<Tune, &'static str> {
        let mut rest = file.strip_prefix(b"RIFF").and_then(|file| file.get(4..)).ok_or(NOT_WAV)?;
        rest = rest.strip_prefix(b"WAVE").ok_or(NOT_WAV)?;
        let mut format = None;
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d] = [head[4], head[5], head[6], head[7]];
            let size = u32::from_le_bytes([a, b, c, d]) as usize;
            let chunk = body.get(..size).unwrap_or(body);
            match &head[..4] {
                b"fmt " => format = Some(Format::read(chunk)?),
                b"data" => {
                    let samples = format.ok_or(NOT_WAV)?.samples(if size == 0 { body } else { chunk });
                    return if samples.is_empty() { Err(EMPTY) } else { Ok(Tune(samples)) };
                }
                _ => {}
            }
            rest = body.get(size + size % 2..).unwrap_or_default();
        }
        Err(if format.is_some() { EMPTY } else { NOT_WAV })
    }

    /// Its samples.
    pub(crate) fn samples(&self) -> &[i16] {
        &self.0
    }

    /// How long it is.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.0.len() as u64 * 1000 / u64::from(RATE))
    }
}

/// How samples are written.
#[derive(Clone, Copy)]
enum Format {
    Linear,
    G711(Law),
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Format, &'static str> {
        let word = |at: usize| chunk.get(at..at + 2).map(|word| u16::from_le_bytes([word[0], word[1]]));
        let (Some(tag), Some(channels), Some(rate), Some(high), Some(bits)) =
            (word(0), word(2), word(4), word(6), word(14))
        else {
            return Err(NOT_WAV);
        };
        if channels != 1 {
            return Err(NOT_MONO);
        }
        if u32::from(rate) != RATE || high != 0 {
            return Err(NOT_8000);
        }
        let tag = if tag == EXTENSIBLE { word(24).unwrap_or(tag) } else { tag };
        match (tag, bits) {
            (1, 16) => Ok(Format::Linear),
            (6, 8) => Ok(Format::G711(Law::A)),
            (7, 8) => Ok(Format::G711(Law::Mu)),
            _ => Err(NOT_PCM),
        }
    }

    fn samples(self, data: &[u8]) -> Arc<[i16]> {
        match self {
            Format::Linear => {
                data.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
            }
            Format::G711(law) => data.iter().map(|byte| law.decode(*byte)).collect(),
        }
    }
}

const EXTENSIBLE: u16 = 0xfffe;

const NOT_WAV: &str =
    "The media is no WAV file (expected: RIFF/WAVE, mono, 8000 Hz, 16-bit PCM or G.711): convert it";
const NOT_MONO: &str = "The WAV file has more than one channel (expected: mono): convert it";
const NOT_8000: &str = "The WAV file has another sample rate (expected: 8000 Hz): convert it";
const NOT_PCM: &str = "The WAV file has another encoding (expected: 16-bit PCM or G.711): convert it";
const EMPTY: &str = "The WAV file holds no sound";

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(tag: u16, channels: u16, rate: u32, bits: u16, size: Option<u32>, data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend([tag.to_le_bytes(), channels.to_le_bytes()].concat());
        file.extend([rate.to_le_bytes(), rate.to_le_bytes()].concat());
        file.extend([2u16.to_le_bytes(), bits.to_le_bytes()].concat());
        file.extend(b"data");
        file.extend(size.unwrap_or(data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn three_encodings_are_read_behind_other_chunks() {
        let read = |tag, bits, data: &[u8]| {
            Tune::read(&wav(tag, 1, 8000, bits, None, data)).map(|tune| tune.samples().to_vec())
        };
        assert_eq!(read(1, 16, &[1, 0, 0xff, 0xff]), Ok(vec![1, -1]));
        assert_eq!(read(7, 8, &[0x80, 0xff]), Ok(vec![32124, 0]));
        assert_eq!(read(6, 8, &[0xaa, 0xd5]), Ok(vec![32256, 8]));
        assert_eq!(Tune::read(&wav(7, 1, 8000, 8, None, &[0; 801])).unwrap().duration().as_millis(), 100);
    }

    #[test]
    fn a_size_nobody_filled_in_means_all_there_is() {
        for size in [0, u32::MAX, 9999] {
            assert_eq!(
                Tune::read(&wav(7, 1, 8000, 8, Some(size), &[0; 5])).map(|tune| tune.samples().len()),
                Ok(5)
            );
        }
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        let table = [
            (wav(1, 2, 8000, 16, None, &[0; 4]), NOT_MONO),
            (wav(1, 1, 44_100, 16, None, &[0; 4]), NOT_8000),
            (wav(1, 1, 8000 + 0x1_0000, 16, None, &[0; 4]), NOT_8000),
            (wav(1, 1, 8000, 24, None, &[0; 4]), NOT_PCM),
            (wav(3, 1, 8000, 32, None, &[0; 4]), NOT_PCM),
            (wav(7, 1, 8000, 8, None, &[]), EMPTY),
            (b"ID3\x04\0\0\0\0\0\0\0\0".to_vec(), NOT_WAV),
            (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0\0\0".to_vec(), NOT_WAV),
        ];
        for (file, words) in table {
            assert_eq!(Tune::read(&file), Err(words));
        }
        let whole = wav(7, 1, 8000, 8, None, &[0; 5]);
        (0..whole.len()).for_each(|end| drop(Tune::read(&whole[..end])));
    }
}
