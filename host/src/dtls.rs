//! Handshakes of DTLS-SRTP (RFC 5764) for the relay, by dimpl: it does no I/O and reads no clock, but it draws its keys from
//! the operating system, so it lives here and not in the relay.
//!
//! Nobody has to know the certificate beforehand, its hash stands in each description. It is kept like the other keys all
//! the same: a description that was read before a restart names it, and the handshake may come after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use proto::srtp::{Master, Profile, fingerprint};
use relay::dtls::{Handshake, Handshakes, Step};
use serde::{Deserialize, Serialize};

/// What fits through every path.
const MTU: usize = 1150;
/// The largest datagram a handshake makes is not larger than this.
const BUFFER: usize = 2048;
/// First repetition of a flight: a browser's own is 50 ms.
const REPEATS_AFTER: Duration = Duration::from_millis(250);

/// A certificate and its private key, both as DER.
#[derive(Clone, Deserialize, Serialize)]
pub struct Identity {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", fingerprint::of(&self.certificate))
    }
}

impl Identity {
    /// A new one.
    pub fn new() -> Result<Identity, String> {
        let words = |error: &dyn std::fmt::Display| format!("no certificate for DTLS-SRTP: {error}");
        let key = rcgen::KeyPair::generate().map_err(|error| words(&error))?;
        let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(|error| words(&error))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "postern");
        let certificate = params.self_signed(&key).map_err(|error| words(&error))?;
        Ok(Identity { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }
}

/// Our certificate, and how handshakes are made under it.
pub struct Maker {
    config: Arc<Config>,
    certificate: DtlsCertificate,
    fingerprint: String,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Maker({})", self.fingerprint)
    }
}

impl Maker {
    /// With a certificate of its own.
    pub fn new() -> Result<Maker, String> {
        Maker::with(Identity::new()?)
    }

    /// With this one.
    pub fn with(identity: Identity) -> Result<Maker, String> {
        // Who sends here is known by the session's description, so nobody is asked for a cookie first.
        let config = Config::builder()
            .mtu(MTU)
            .use_server_cookie(false)
            .flight_start_rto(REPEATS_AFTER)
            .build()
            .map_err(|error| format!("DTLS-SRTP can't be set up: {error}"))?;
        let Identity { certificate, private_key } = identity;
        let fingerprint = fingerprint::of(&certificate);
        let certificate = DtlsCertificate { certificate, private_key };
        Ok(Maker { config: Arc::new(config), certificate, fingerprint })
    }
}

impl Handshakes for Maker {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn begin(&self, now: Instant, active: bool) -> Box<dyn Handshake> {
        let (config, certificate) = (self.config.clone(), self.certificate.clone());
        // Who begins speaks 1.2, which everybody knows; who is asked answers in what he is asked for.
        let mut dtls = match active {
            true => Dtls::new_12(config, certificate, now),
            false => Dtls::new_auto(config, certificate, now),
        };
        dtls.set_active(active);
        let begun = dtls.handle_timeout(now).is_ok();
        Box::new(Shake { dtls, active, alive: begun, told: begun, wake: None, buffer: vec![0; BUFFER] })
    }
}

struct Shake {
    dtls: Dtls,
    active: bool,
    alive: bool,
    /// Its end needs no telling (any more).
    told: bool,
    wake: Option<Instant>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Shake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shake(active: {}, alive: {})", self.active, self.alive)
    }
}

impl Shake {
    fn check(&mut self, done: Result<(), dimpl::Error>) {
        if let Err(error) = done {
            tracing::debug!(%error, "a DTLS handshake ended");
            (self.alive, self.told) = (false, false);
        }
    }
}

impl Handshake for Shake {
    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        if self.alive {
            let done = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(datagram));
            self.check(done);
        }
    }

    fn wake(&mut self, now: Instant) {
        if self.alive {
            let done = self.dtls.handle_timeout(now);
            self.check(done);
        }
    }

    fn poll(&mut self) -> Option<Step> {
        while self.alive {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(bytes) => return Some(Step::Send(bytes.to_vec())),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::PeerCert(certificate) => return Some(Step::Peer(certificate.to_vec())),
                Output::KeyingMaterial(material, profile) => {
                    let keys = profile_of(profile)
                        .and_then(|profile| Master::exported(profile, &material, self.active));
                    match keys {
                        Some(keys) => return Some(Step::Keys(keys)),
                        None => (self.alive, self.told) = (false, false),
                    }
                }
                Output::CloseNotify => (self.alive, self.told) = (false, false),
                // The last of a round: told when it is another time than before.
                Output::Timeout(at) => {
                    return (self.wake.replace(at) != Some(at)).then_some(Step::WakeAt(at));
                }
                _ => {}
            }
        }
        (!std::mem::replace(&mut self.told, true)).then_some(Step::Over)
    }
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        _ => None,
    }
}
