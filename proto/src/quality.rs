//! How a call sounds, from what its packets show: the E-model of ITU-T G.107, with everything that packets don't
//! show left at its default (R₀ − Iₛ = 93.2, A = 0).
//!
//! `R = 93.2 − Id(delay) − Ie,eff(codec, loss)`, and MOS from R by annex B.

use std::time::Duration;

/// What is known of one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// Share of packets lost, 0.0–1.0.
    pub loss: f64,
    /// Interarrival jitter: a receiver's buffer holds about twice that.
    pub jitter: Duration,
    /// Round trip of the path, if RTCP showed it.
    pub round_trip: Option<Duration>,
    /// How the codec takes it.
    pub codec: Codec,
}

/// A codec's equipment impairment and robustness to loss (ITU-T G.113, appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codec {
    /// Ie: impairment without loss.
    pub impairment: f64,
    /// Bpl: robustness to random loss.
    pub robustness: f64,
}

impl Codec {
    /// G.711 with packet loss concealment; also for codecs G.113 says nothing of.
    pub const G711: Codec = Codec { impairment: 0.0, robustness: 25.1 };
    /// G.729A with VAD.
    pub const G729: Codec = Codec { impairment: 11.0, robustness: 19.0 };
    /// G.723.1 at 6.3 kbit/s.
    pub const G723: Codec = Codec { impairment: 15.0, robustness: 16.1 };
    /// GSM 06.10 full rate.
    pub const GSM: Codec = Codec { impairment: 20.0, robustness: 43.0 };

    /// AMR at 12.2 kbit/s (GSM-EFR).
    pub const AMR: Codec = Codec { impairment: 5.0, robustness: 10.0 };

    /// By encoding name (RFC 3551, and the codecs' own payload formats).
    pub fn of_name(name: &str) -> Codec {
        match name {
            "GSM" => Codec::GSM,
            "G723" => Codec::G723,
            "G729" => Codec::G729,
            "AMR" => Codec::AMR,
            _ => Codec::G711,
        }
    }

    /// By static payload type (RFC 3551 §6).
    pub fn of_payload_type(payload_type: u8) -> Codec {
        match payload_type {
            3 => Codec::GSM,
            4 => Codec::G723,
            18 => Codec::G729,
            _ => Codec::G711,
        }
    }
}

/// Transmission rating factor R, 0–93.2.
pub fn rating(heard: Heard) -> f64 {
    let path = heard.round_trip.unwrap_or_default() / 2;
    let delay_ms = (path + heard.jitter * 2).as_secs_f64() * 1000.0;
    (93.2 - delay_impairment(delay_ms) - loss_impairment(heard.codec, heard.loss)).clamp(0.0, 93.2)
}

/// Mean opinion score in hundredths, 100–450 (G.107 annex B).
pub fn mos(heard: Heard) -> u16 {
    let r = rating(heard);
    let score = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6;
    (score.clamp(1.0, 4.5) * 100.0).round() as u16
}

/// Id, by the usual approximation of G.107's curve (Cole and Rosenbluth): a kink at 177.3 ms, where talk gets hard.
fn delay_impairment(ms: f64) -> f64 {
    0.024 * ms + 0.11 * (ms - 177.3).max(0.0)
}

/// Ie,eff for random loss (BurstR = 1), G.107 §7.
fn loss_impairment(codec: Codec, loss: f64) -> f64 {
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    codec.impairment + (95.0 - codec.impairment) * percent / (percent + codec.robustness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(loss: f64, one_way_ms: u64) -> Heard {
        Heard {
            loss,
            jitter: Duration::ZERO,
            round_trip: Some(Duration::from_millis(2 * one_way_ms)),
            codec: Codec::G711,
        }
    }

    #[test]
    fn a_perfect_line_scores_what_g107_says_for_its_defaults() {
        assert_eq!(rating(heard(0.0, 0)), 93.2);
        assert_eq!(mos(heard(0.0, 0)), 441);
    }

    #[test]
    fn g711_under_loss_scores_what_the_formula_gives_by_hand() {
        // 5 %: 95 · 5 / (5 + 25.1) = 15.78; R = 77.42; MOS = 3.92.
        assert!((rating(heard(0.05, 0)) - 77.42).abs() < 0.01);
        assert_eq!(mos(heard(0.05, 0)), 392);
    }

    #[test]
    fn delay_hurts_more_past_the_kink() {
        let before = rating(heard(0.0, 100)) - rating(heard(0.0, 170));
        let after = rating(heard(0.0, 200)) - rating(heard(0.0, 270));
        assert!((before - 0.024 * 70.0).abs() < 1e-6);
        assert!((after - 0.134 * 70.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_but_loss_is_the_worst_score() {
        assert_eq!(mos(heard(1.0, 5000)), 100);
        assert!(mos(Heard { codec: Codec::G729, ..heard(0.0, 0) }) < mos(heard(0.0, 0)));
    }

    proptest! {
        #[test]
        fn more_loss_or_more_delay_never_sounds_better(
            loss in 0.0f64..1.0, more in 0.0f64..1.0, delay in 0u64..1000, longer in 0u64..1000,
        ) {
            let worse = heard((loss + more).min(1.0), delay + longer);
            prop_assert!(rating(worse) <= rating(heard(loss, delay)));
            prop_assert!((100..=450).contains(&mos(worse)));
        }
    }
}
