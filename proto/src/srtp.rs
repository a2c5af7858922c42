//! RTP and RTCP under keys: RFC 3711 (AES in counter mode with HMAC-SHA1) and RFC 7714 (AES-GCM).
//!
//! ```text
//!  SRTP, AES-CM    header │ encrypted payload │ tag                     tag over header, payload and roll-over counter
//!  SRTP, GCM       header │ encrypted payload and tag
//!  SRTCP, AES-CM   8 bytes │ encrypted rest │ E, index │ tag
//!  SRTCP, GCM      8 bytes │ encrypted rest and tag │ E, index
//! ```
//!
//! A [`Sender`] and a [`Receiver`] each hold one direction under one [`Master`] key, and follow every SSRC's roll-over
//! counter and replay window. They change packets in place and allocate only when a new SSRC begins. The key derivation
//! rate is 0, and there is no master key identifier: [`sdes`] refuses what asks for either.

pub mod fingerprint;
mod index;
mod keys;
mod receive;
pub mod sdes;
mod send;
#[cfg(test)]
mod tests;

pub use receive::Receiver;
pub use send::Sender;

/// The most bytes protection adds to a packet: a GCM tag and SRTCP's index.
pub const MAX_GROWTH: usize = 20;

/// SSRCs that one direction follows; a party can open no more, and packets of one more are refused, and counted where packets
/// without keys are.
const MAX_STREAMS: usize = 256;

/// Cipher and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES_CM_128_HMAC_SHA1_80.
    Aes128CmSha1_80,
    /// AES_CM_128_HMAC_SHA1_32: RTP's tag has 32 bits, RTCP's 80 (RFC 4568 §6.2.2).
    Aes128CmSha1_32,
    /// AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM.
    AeadAes256Gcm,
}

impl Profile {
    /// All there are, strongest first.
    pub const ALL: [Profile; 4] =
        [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80, Profile::Aes128CmSha1_32];

    /// As `a=crypto` names it (RFC 4568 §6.2, RFC 7714 §14.2).
    pub fn name(self) -> &'static str {
        match self {
            Profile::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Profile::Aes128CmSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Bytes of the master key.
    pub fn key_len(self) -> usize {
        if self == Profile::AeadAes256Gcm { 32 } else { 16 }
    }

    /// Bytes of the master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => 14,
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 12,
        }
    }
}

/// Master key and salt of one direction. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Master {
    profile: Profile,
    bytes: [u8; 46],
}

impl Master {
    /// Key ‖ salt; `None` when the length is not the profile's.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Option<Master> {
        let mut bytes = [0; 46];
        let len = profile.key_len() + profile.salt_len();
        (key_and_salt.len() == len).then(|| bytes[..len].copy_from_slice(key_and_salt))?;
        Some(Master { profile, bytes })
    }

    /// Ours and theirs, of what a DTLS handshake exported (RFC 5764 §4.2): client's key, server's key, client's salt,
    /// server's salt. `client`: we were that.
    pub fn exported(profile: Profile, material: &[u8], client: bool) -> Option<[Master; 2]> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let of = |n: usize| {
            let (key_at, salt_at) = (n * key, 2 * key + n * salt);
            let (key, salt) = (material.get(key_at..key_at + key)?, material.get(salt_at..salt_at + salt)?);
            Master::new(profile, &[key, salt].concat())
        };
        let [clients, servers] = [of(0)?, of(1)?];
        Some(if client { [clients, servers] } else { [servers, clients] })
    }

    /// A new one.
    pub fn draw(profile: Profile, dice: &mut crate::node::Dice) -> Master {
        let mut bytes: [u8; 46] = dice.bytes();
        bytes[profile.key_len() + profile.salt_len()..].fill(0);
        Master { profile, bytes }
    }

    /// What it is for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len()]
    }

    fn salt(&self) -> &[u8] {
        &self.bytes[self.profile.key_len()..][..self.profile.salt_len()]
    }

    fn key_and_salt(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len() + self.profile.salt_len()]
    }
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Master({})", self.profile.name())
    }
}

/// Where one SSRC stands in one direction: the newest index of its packets and of its reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The SSRC.
    pub ssrc: u32,
    /// Roll-over counter and sequence number.
    pub packet: Option<u64>,
    /// SRTCP's index.
    pub report: Option<u64>,
}

fn positions(
    streams: &index::PerSsrc<index::Seen>,
    reports: impl Iterator<Item = (u32, u64)>,
) -> Vec<Position> {
    let mut out: Vec<Position> =
        streams.all().map(|(ssrc, seen)| Position { ssrc, packet: seen.newest(), report: None }).collect();
    for (ssrc, report) in reports {
        match out.iter_mut().find(|at| at.ssrc == ssrc) {
            Some(at) => at.report = Some(report),
            None => out.push(Position { ssrc, packet: None, report: Some(report) }),
        }
    }
    out
}

/// Why a packet was neither protected nor opened. It may have been changed: it is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too short, or its header's lengths don't fit.
    Malformed,
    /// The buffer has no room for the tag.
    NoRoom,
    /// The tag is wrong: another key, or somebody else's packet.
    Forged,
    /// Its index was seen before, or lies behind the window. When sending: the index would be used twice.
    Replayed,
    /// SRTCP that says it is not encrypted, which nobody agreed to.
    Unencrypted,
    /// More SSRCs than one direction follows.
    TooManyStreams,
    /// All indices under this key are used up (RFC 3711 §9.2).
    Exhausted,
}

fn ssrc_at(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Where the encrypted part of an RTP packet begins, its SSRC and its sequence number.
fn read_rtp(packet: &[u8]) -> Result<(usize, u32, u16), Refused> {
    let rtp = crate::rtp::Rtp(packet);
    let header =
        rtp.header_len().filter(|&len| packet.len() >= 12 && len <= packet.len() && packet[0] >> 6 == 2);
    header.map(|len| (len, rtp.ssrc(), rtp.sequence())).ok_or(Refused::Malformed)
}
