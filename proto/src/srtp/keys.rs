//! Session keys, derived from a master key (RFC 3711 §4.3, RFC 7714 §11), and the ciphers they are for.

use aes::{Aes128Enc, Aes256Enc};
use aes_gcm::aead::{AeadInOut, inout::InOutBuf};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};
use ctr::Ctr128BE;
use ctr::cipher::{InnerIvInit, StreamCipher, StreamCipherCoreWrapper};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{Master, Profile, Refused};

/// Bytes of a GCM tag.
pub(super) const GCM_TAG: usize = 16;

/// Which of the two protocols keys are for; the first of its three labels (RFC 3711 §4.3.1, §4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Rtp = 0,
    Rtcp = 3,
}

/// The cipher of one protocol in one direction.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all streams use the largest: it lies where its stream does"
)]
pub(super) enum Cipher {
    CounterMode { aes: Aes128Enc, salt: [u8; 14], hmac: Hmac<Sha1>, tag: usize },
    Gcm128 { gcm: Box<Aes128Gcm>, salt: [u8; 12] },
    Gcm256 { gcm: Box<Aes256Gcm>, salt: [u8; 12] },
}

impl Cipher {
    pub(super) fn new(master: &Master, of: Of) -> Cipher {
        let label = of as u8;
        match master.profile() {
            Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => {
                let short = master.profile() == Profile::Aes128CmSha1_32 && of == Of::Rtp;
                let hmac = <Hmac<Sha1> as KeyInit>::new_from_slice(&derive::<20>(master, label + 1));
                Cipher::CounterMode {
                    aes: Aes128Enc::new(&derive::<16>(master, label).into()),
                    salt: derive(master, label + 2),
                    hmac: hmac.expect("HMAC takes keys of any length"),
                    tag: if short { 4 } else { 10 },
                }
            }
            Profile::AeadAes128Gcm => Cipher::gcm_128(&derive(master, label), derive(master, label + 2)),
            Profile::AeadAes256Gcm => Cipher::gcm_256(&derive(master, label), derive(master, label + 2)),
        }
    }

    pub(super) fn gcm_128(key: &[u8; 16], salt: [u8; 12]) -> Cipher {
        Cipher::Gcm128 { gcm: Box::new(Aes128Gcm::new(key.into())), salt }
    }

    pub(super) fn gcm_256(key: &[u8; 32], salt: [u8; 12]) -> Cipher {
        Cipher::Gcm256 { gcm: Box::new(Aes256Gcm::new(key.into())), salt }
    }

    /// Counter mode both ways (RFC 3711 §4.1.1). GCM has [`Cipher::seal`] and [`Cipher::open`].
    pub(super) fn stream(aes: &Aes128Enc, salt: &[u8; 14], ssrc: u32, index: u64, data: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(salt);
        exclusive_or(&mut iv[4..8], &ssrc.to_be_bytes());
        exclusive_or(&mut iv[8..14], &index.to_be_bytes()[2..]);
        counter_mode(aes, &iv, data);
    }

    /// Encrypts in place and gives the tag.
    pub(super) fn seal(
        &self,
        ssrc: u32,
        index: u64,
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; GCM_TAG], Refused> {
        let data = InOutBuf::from(data);
        let tag = match self {
            Cipher::Gcm128 { gcm, salt } => gcm.encrypt_inout_detached(&nonce(salt, ssrc, index), aad, data),
            Cipher::Gcm256 { gcm, salt } => gcm.encrypt_inout_detached(&nonce(salt, ssrc, index), aad, data),
            Cipher::CounterMode { .. } => return Err(Refused::Malformed),
        };
        tag.map(Into::into).map_err(|_| Refused::Malformed)
    }

    /// Checks the tag, then decrypts in place.
    pub(super) fn open(
        &self,
        ssrc: u32,
        index: u64,
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Refused> {
        let data = InOutBuf::from(data);
        let tag: [u8; GCM_TAG] = tag.try_into().map_err(|_| Refused::Malformed)?;
        let tag = Tag::from(tag);
        let opened = match self {
            Cipher::Gcm128 { gcm, salt } => {
                gcm.decrypt_inout_detached(&nonce(salt, ssrc, index), aad, data, &tag)
            }
            Cipher::Gcm256 { gcm, salt } => {
                gcm.decrypt_inout_detached(&nonce(salt, ssrc, index), aad, data, &tag)
            }
            Cipher::CounterMode { .. } => return Err(Refused::Malformed),
        };
        opened.map_err(|_| Refused::Forged)
    }
}

/// HMAC-SHA1 over two parts, to be cut to the tag's length.
pub(super) fn authenticate(hmac: &Hmac<Sha1>, first: &[u8], second: &[u8]) -> [u8; 20] {
    let mut hmac = hmac.clone();
    hmac.update(first);
    hmac.update(second);
    hmac.finalize().into_bytes().into()
}

/// RFC 7714 §8.1, §9.1: SSRC and index (48 bits for RTP, 31 for RTCP), under the salt.
fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce<aes_gcm::aes::cipher::consts::U12> {
    let mut nonce = *salt;
    exclusive_or(&mut nonce[2..6], &ssrc.to_be_bytes());
    exclusive_or(&mut nonce[6..], &index.to_be_bytes()[2..]);
    nonce.into()
}

/// RFC 3711 §4.3.3 with a derivation rate of 0. A salt of 12 bytes is padded with zeros on the right (RFC 7714 §11).
pub(super) fn derive<const N: usize>(master: &Master, label: u8) -> [u8; N] {
    let mut iv = [0; 16];
    iv[..master.salt().len()].copy_from_slice(master.salt());
    iv[7] ^= label;
    let mut out = [0; N];
    if let Ok(key) = <&[u8; 32]>::try_from(master.key()) {
        counter_mode(&Aes256Enc::new(key.into()), &iv, &mut out);
    } else if let Ok(key) = <&[u8; 16]>::try_from(master.key()) {
        counter_mode(&Aes128Enc::new(key.into()), &iv, &mut out);
    }
    out
}

fn exclusive_or(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

/// AES in counter mode over `data`, which is far shorter than the 2^16 blocks that would overflow into the index.
fn counter_mode<A>(aes: &A, iv: &[u8; 16], data: &mut [u8])
where
    A: ctr::cipher::BlockCipherEncrypt + ctr::cipher::BlockSizeUser<BlockSize = ctr::cipher::consts::U16>,
{
    let core = ctr::CtrCore::inner_iv_init(aes, iv.into());
    let mut stream: Ctr128BE<&A> = StreamCipherCoreWrapper::from_core(core);
    stream.apply_keystream(data);
}
