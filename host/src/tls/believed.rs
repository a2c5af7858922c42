//! Whom we believe to be a SIP domain (RFC 5922): the certificate must come from an authority we know, and name the
//! domain we meant to reach, as a `sip:` URI or, when it has none, as a DNS name. A wildcard names no SIP domain (§7.2).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// How we meet whom we connect to: by these authorities, showing this certificate when we are asked for one.
pub fn client(
    roots: RootCertStore,
    own: Option<CertifiedKey>,
    wildcards: bool,
) -> Result<ClientConfig, String> {
    let provider = super::provider();
    let domain = Domain { roots, wildcards, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(domain));
    Ok(match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    })
}

/// The domains a certificate is for (RFC 5922 §7.1), lower case: those of its `sip:` URIs, else its DNS names.
pub fn domains(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let by_uri: Vec<String> = certificate.valid_uri_names().filter_map(of_sip_uri).collect();
    match by_uri.is_empty() {
        true => certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
        false => by_uri,
    }
}

/// A URI with a user part names a person, not a domain.
fn of_sip_uri(uri: &str) -> Option<String> {
    let (scheme, domain) = uri.split_once(':')?;
    let whole = !domain.is_empty() && !domain.contains(['@', ';', '?']);
    (scheme.eq_ignore_ascii_case("sip") && whole).then(|| domain.to_ascii_lowercase())
}

/// Verifies servers.
#[derive(Debug)]
struct Domain {
    roots: RootCertStore,
    wildcards: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Domain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        self.is_for(end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Domain {
    fn is_for(&self, certificate: &CertificateDer<'_>, wanted: &ServerName<'_>) -> Result<(), Error> {
        let names = domains(certificate);
        let is_for = match wanted {
            ServerName::DnsName(name) => {
                let name = name.as_ref().to_ascii_lowercase();
                names.iter().any(|held| *held == name || self.wildcards && covers(held, &name))
            }
            // The configuration or a URI says an address: the certificate must say it, too.
            other => webpki::EndEntityCert::try_from(certificate)
                .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(other).is_ok()),
        };
        let stranger = || Stranger { wanted: wanted.to_str().into_owned(), names };
        if is_for { Ok(()) } else { Err(CertificateError::Other(OtherError(Arc::new(stranger()))).into()) }
    }
}

/// `*.example.org` covers `sip.example.org`, and nothing with more or fewer labels.
fn covers(held: &str, name: &str) -> bool {
    let rest = name.split_once('.').map(|(_, rest)| rest);
    held.strip_prefix("*.").is_some_and(|domain| Some(domain) == rest)
}

/// A certificate of somebody else.
#[derive(Debug)]
struct Stranger {
    wanted: String,
    names: Vec<String>,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no domain".to_owned() } else { self.names.join(", ") };
        write!(f, "its certificate is for {names}, not for {}", self.wanted)?;
        match self.names.iter().any(|held| covers(held, &self.wanted)) {
            true => {
                f.write_str("; a wildcard names no SIP domain (RFC 5922): `tls.wildcards: true` takes it")
            }
            false => Ok(()),
        }
    }
}

impl std::error::Error for Stranger {}

/// What a connection to `host` must prove: a name or an address.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    match proto::node::literal(host) {
        Some(ip) => Some(address(ip)),
        None => ServerName::try_from(host.to_owned()).ok(),
    }
}

/// The same for an address.
pub fn address(ip: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(ip.into())
}
