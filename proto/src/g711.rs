//! G.711: a sample of sixteen bits as one byte and back, by either law (ITU-T G.711, tables 1a and 2a).

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// PCMU.
    Mu,
    /// PCMA.
    A,
}

/// Samples in a second.
pub const RATE: u32 = 8000;

impl Law {
    /// What a byte means.
    pub fn decode(self, byte: u8) -> i16 {
        match self {
            Law::Mu => mu_law(byte),
            Law::A => a_law(byte),
        }
    }

    /// The byte nearest to a sample.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => to_mu_law(sample),
            Law::A => to_a_law(sample),
        }
    }
}

fn mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((i16::from(byte & 0x0f)) << 3) + 0x84) << ((byte & 0x70) >> 4);
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

fn a_law(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let mantissa = i16::from(byte & 0x0f) << 4;
    let magnitude = match (byte & 0x70) >> 4 {
        0 => mantissa + 8,
        exponent => (mantissa + 0x108) << (exponent - 1),
    };
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

fn to_mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs().min(32_635) + 132;
    let exponent = 8 - magnitude.leading_zeros().clamp(1, 8) as u8;
    let mantissa = (magnitude >> (exponent + 3)) as u8 & 0x0f;
    !(sign | exponent << 4 | mantissa)
}

fn to_a_law(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, !sample as u16) } else { (0x80, sample as u16) };
    let exponent = 8 - magnitude.leading_zeros().clamp(1, 8) as u8;
    let mantissa = (magnitude >> (exponent.max(1) + 3)) as u8 & 0x0f;
    (sign | exponent << 4 | mantissa) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_laws_are_those_of_the_tables() {
        assert_eq!(
            [0x00, 0x80, 0xff, 0x7f, 0xf0].map(|byte| Law::Mu.decode(byte)),
            [-32124, 32124, 0, 0, 120]
        );
        assert_eq!(
            [0xd5, 0x55, 0xaa, 0x2a, 0xd4].map(|byte| Law::A.decode(byte)),
            [8, -8, 32256, -32256, 24]
        );
    }

    #[test]
    fn mu_law_is_that_of_g_711() {
        assert_eq!(
            [0, -1, 32_000, -32_000, 1000].map(|sample| Law::Mu.encode(sample)),
            [0xff, 0x7f, 0x80, 0x00, 0xce]
        );
    }

    #[test]
    fn what_was_decoded_is_encoded_as_it_was() {
        for byte in 0..=255 {
            assert_eq!(Law::A.encode(Law::A.decode(byte)), byte);
            // µ-law has two zeros.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(Law::Mu.encode(Law::Mu.decode(byte)), expected);
        }
    }

    #[test]
    fn every_sample_is_met_within_half_a_step_of_its_segment() {
        for sample in i16::MIN..=i16::MAX {
            for law in [Law::Mu, Law::A] {
                let error = (i32::from(law.decode(law.encode(sample))) - i32::from(sample)).abs();
                let step = (i32::from(sample).abs() + 132) / 16;
                assert!(error <= step / 2 + 8 || sample.unsigned_abs() > 32_124, "{law:?} {sample} {error}");
            }
        }
    }
}
