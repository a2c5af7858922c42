//! Tokens: a few bytes of state, MACed, that travel in the user part of our Record-Route and Contact URIs, so that a
//! restarted proxy, or another with the key, routes what belongs to a dialog it does not remember.
//!
//! ```text
//!  base64url of:  | time, 4 bytes | payload, 0–24 bytes | MAC, 8 bytes |      at most 36 bytes, 48 characters
//!                   seconds since                         keyed BLAKE3 over purpose, time and payload
//!                   the epoch
//! ```
//!
//! Anybody can read a token; only who has a key can make one. 64 bits of MAC are enough for what must be guessed
//! online, one request a guess.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;

/// How long a token may serve: as long as a call may.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The longest payload.
pub const MAX_PAYLOAD: usize = 24;

/// The keys tokens are made and checked with: the first makes, all check. At least one.
#[derive(Clone)]
pub struct Keys(pub Vec<[u8; 32]>);

/// What was in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// When it was made, in seconds since the epoch.
    pub made: u64,
    /// What was sealed.
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// As [`Keys::seal_for`], for whoever holds it.
    ///
    /// # Panics
    /// When there is no key or the payload is longer: both are mistakes of the caller, never of the wire.
    pub fn seal(&self, purpose: u8, unix_now: u64, payload: &[u8]) -> String {
        self.seal_for(purpose, unix_now, &[], payload)
    }

    /// Seals up to 24 bytes (purpose separates kinds of tokens): time, payload, a 64-bit MAC (keyed BLAKE3), as at
    /// most 48 characters of `[A-Za-z0-9_-]`. It opens only beside the same `bound`, which costs no room in it: a
    /// token made for one dialog is nothing in another.
    ///
    /// # Panics
    /// When there is no key or the payload is longer: both are mistakes of the caller, never of the wire.
    pub fn seal_for(&self, purpose: u8, unix_now: u64, bound: &[&str], payload: &[u8]) -> String {
        assert!(payload.len() <= MAX_PAYLOAD, "a token holds {MAX_PAYLOAD} bytes, not {}", payload.len());
        let mut token = Vec::with_capacity(TIME_LEN + MAX_PAYLOAD + MAC_LEN);
        token.extend((unix_now as u32).to_be_bytes());
        token.extend(payload);
        let mac = mac(self.newest(), purpose, bound, &token);
        token.extend(mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The payload of a token that is whole, ours, of this purpose and not older than [`LIFE`]. One that seems to come
    /// from the future is taken (the wall clock was set back, or a sibling's is ahead): its MAC shows it is ours.
    pub fn open(&self, purpose: u8, unix_now: u64, token: &str) -> Option<Vec<u8>> {
        self.open_for(purpose, unix_now, &[], token).map(|opened| opened.payload)
    }

    /// As [`Keys::open`], for a token of [`Keys::seal_for`], with the time it was made at.
    pub fn open_for(&self, purpose: u8, unix_now: u64, bound: &[&str], token: &str) -> Option<Opened> {
        if token.len() > MAX_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (sealed, tag) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        let (time, payload) = sealed.split_first_chunk::<TIME_LEN>()?;
        let ours = self.0.iter().any(|key| constant_time_eq(&mac(key, purpose, bound, sealed), tag));
        let made = u64::from(u32::from_be_bytes(*time));
        let fresh = unix_now.saturating_sub(made) <= LIFE.as_secs();
        (ours && fresh).then(|| Opened { made, payload: payload.to_vec() })
    }

    /// 16 bytes derived from a label and data with the newest key: for identifiers both of us can work out again.
    ///
    /// # Panics
    /// When there is no key.
    pub fn derive(&self, label: &str, data: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(self.newest());
        hasher
            .update(DERIVE)
            .update(&(label.len() as u64).to_be_bytes())
            .update(label.as_bytes())
            .update(data);
        truncated(&hasher)
    }

    fn newest(&self) -> &[u8; 32] {
        self.0.first().expect("a node is given at least one token key")
    }
}

fn mac(key: &[u8; 32], purpose: u8, bound: &[&str], sealed: &[u8]) -> [u8; MAC_LEN] {
    let mut covered = Vec::with_capacity(256);
    covered.extend_from_slice(SEAL);
    covered.push(purpose);
    for part in bound {
        covered.extend_from_slice(&(part.len() as u64).to_be_bytes());
        covered.extend_from_slice(part.as_bytes());
    }
    // What is bound always comes with its length, and what is sealed ends with it: one can't pass for the other.
    covered.extend_from_slice(sealed);
    covered.extend_from_slice(&(sealed.len() as u64).to_be_bytes());
    let hash = blake3::keyed_hash(key, &covered);
    hash.as_bytes().first_chunk().copied().expect("8 of 32 bytes")
}

fn truncated<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut out = [0; N];
    hasher.finalize_xof().fill(&mut out);
    out
}

const TIME_LEN: usize = 4;
const MAC_LEN: usize = 8;
const MAX_CHARS: usize = (TIME_LEN + MAX_PAYLOAD + MAC_LEN) * 4 / 3;
/// What separates the two uses of one key.
const SEAL: &[u8] = b"postern token\0";
const DERIVE: &[u8] = b"postern derive\0";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600;

    fn keys(first: u8) -> Keys {
        Keys(vec![[first; 32]])
    }

    #[test]
    fn the_longest_payload_fits_48_characters_of_a_sip_user_part() {
        let token = keys(1).seal(0, NOW, &[0xff; 24]);
        assert_eq!(token.len(), 48);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn serves_as_long_as_a_call_may_and_not_a_second_longer() {
        let token = keys(1).seal(3, NOW, b"payload");
        assert_eq!(keys(1).open(3, NOW + 86_400, &token), Some(b"payload".to_vec()));
        assert_eq!(keys(1).open(3, NOW + 86_401, &token), None);
    }

    #[test]
    fn a_clock_set_back_does_not_end_calls() {
        let token = keys(1).seal(3, NOW, b"payload");
        assert!(keys(1).open(3, NOW - 7200, &token).is_some());
    }

    #[test]
    fn a_token_of_another_purpose_or_key_is_nothing() {
        let token = keys(1).seal(3, NOW, b"payload");
        assert_eq!(keys(1).open(4, NOW, &token), None);
        assert_eq!(keys(2).open(3, NOW, &token), None);
    }

    #[test]
    fn a_token_for_one_thing_is_nothing_beside_another() {
        let token = keys(1).seal_for(3, NOW, &["call", "tag"], b"payload");
        let open = |bound: &[&str]| keys(1).open_for(3, NOW + 5, bound, &token);
        assert_eq!(open(&["call", "tag"]), Some(Opened { made: NOW, payload: b"payload".to_vec() }));
        for other in [&["call", "tags"][..], &["callt", "ag"], &["call"], &[]] {
            assert_eq!(open(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_retired_key_still_checks_and_no_longer_makes() {
        let old = keys(1).seal(3, NOW, b"payload");
        let rolled = Keys(vec![[2; 32], [1; 32]]);
        assert_eq!(rolled.open(3, NOW, &old), Some(b"payload".to_vec()));
        assert_eq!(keys(1).open(3, NOW, &rolled.seal(3, NOW, b"payload")), None);
    }

    #[test]
    fn no_single_changed_character_passes() {
        let token = keys(1).seal(3, NOW, b"payload of a token");
        for at in 0..token.len() {
            for other in ["A", "Q", "-", "=", "!"] {
                let mut forged = token.clone();
                forged.replace_range(at..=at, other);
                assert!(forged == token || keys(1).open(3, NOW, &forged).is_none(), "{forged}");
            }
        }
    }

    #[test]
    fn derives_the_same_from_the_same_and_nothing_else() {
        assert_eq!(keys(1).derive("tag", b"x"), keys(1).derive("tag", b"x"));
        assert_ne!(keys(1).derive("tag", b"x"), keys(1).derive("ta", b"gx"));
        assert_ne!(keys(1).derive("tag", b"x"), keys(2).derive("tag", b"x"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(payload in proptest::collection::vec(any::<u8>(), 0..=24), purpose: u8) {
            let token = keys(1).seal(purpose, NOW, &payload);
            prop_assert!(token.len() <= 48);
            prop_assert_eq!(keys(1).open(purpose, NOW, &token), Some(payload));
        }

        #[test]
        fn nothing_made_up_opens(token in "[A-Za-z0-9_-]{0,60}|.{0,60}") {
            prop_assert_eq!(keys(1).open(0, NOW, &token), None);
        }
    }
}
