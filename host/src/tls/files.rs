//! Certificates, keys and authorities as PEM files. What is wrong with one is said with its name and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which.
    pub file: PathBuf,
    /// What was seen, and what was expected.
    pub why: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for FileError {}

const NEEDS_CHAIN: &str = "name a PEM file with the certificate first and its issuers after it (fullchain.pem); \
    `postern certificate` makes one to try TLS out";
const NEEDS_KEY: &str = "name a PEM file with the private key of that certificate, not encrypted";
const NEEDS_AUTHORITIES: &str = "name a PEM file with the certificates of the authorities";

/// A certificate with its chain, and its key.
pub fn certified(chain: &Path, key: &Path) -> Result<CertifiedKey, FileError> {
    let certificates = certificates(chain, NEEDS_CHAIN)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| FileError {
        file: key.to_owned(),
        why: format!("no private key in it: {}", words(&error)),
        remedy: NEEDS_KEY,
    })?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|error| FileError {
        file: key.to_owned(),
        why: format!("its key can't be used: {error}; expected RSA, ECDSA (P-256, P-384) or Ed25519"),
        remedy: NEEDS_KEY,
    })?;
    let certified = CertifiedKey::new(certificates, signing);
    certified.keys_match().map_err(|error| FileError {
        file: key.to_owned(),
        why: format!("not the key of the certificate in {}: {error}", chain.display()),
        remedy: NEEDS_KEY,
    })?;
    webpki::EndEntityCert::try_from(&certified.cert[0]).map_err(|error| FileError {
        file: chain.to_owned(),
        why: format!("its first certificate can't be used: {error:?}"),
        remedy: NEEDS_CHAIN,
    })?;
    Ok(certified)
}

/// Authorities from a file.
pub fn authorities(file: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, NEEDS_AUTHORITIES)? {
        roots.add(certificate).map_err(|error| FileError {
            file: file.to_owned(),
            why: format!("a certificate in it is no authority's: {error}"),
            remedy: NEEDS_AUTHORITIES,
        })?;
    }
    Ok(roots)
}

/// The authorities this machine believes. None at all is no error: only connections to strangers fail then.
pub fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates(file: &Path, remedy: &'static str) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |why: String| FileError { file: file.to_owned(), why, remedy };
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(words(&error)))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(words(&error)))?;
    if all.is_empty() { Err(wrong("no certificate in it; expected PEM".into())) } else { Ok(all) }
}

fn words(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => format!("cannot be read: {error}"),
        Error::NoItemsFound => "nothing of the kind is there; expected PEM".into(),
        other => format!("not PEM: {other:?}"),
    }
}
