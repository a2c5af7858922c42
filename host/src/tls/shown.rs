//! What we show to who connects to us: a certificate by the name they ask for (SNI, RFC 6066 §3), and whether they have
//! to show one themselves.

use std::sync::Arc;

use rustls::pki_types::{DnsName, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// Whether who connects to us shows a certificate.
#[derive(Debug)]
pub enum Clients {
    /// They are not asked.
    Anonymous,
    /// They may; one they show must be by one of these authorities.
    Asked(RootCertStore),
    /// They must.
    Required(RootCertStore),
}

/// How a listener meets who connects.
pub fn server(certificates: Vec<Arc<CertifiedKey>>, clients: Clients) -> Result<ServerConfig, String> {
    let verifier = match clients {
        Clients::Anonymous => WebPkiClientVerifier::no_client_auth(),
        Clients::Asked(roots) => verifier(roots, true)?,
        Clients::Required(roots) => verifier(roots, false)?,
    };
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(ByName(certificates)));
    // Phones stay connected for days, so tickets for a quick return are worth little; and to simple programs, such as
    // sipsak, they look like an answer that is then not there.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(roots: RootCertStore, anonymous_too: bool) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
    let builder = if anonymous_too { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| error.to_string())
}

/// Chooses by the name that is asked for; the first when none fits, so that phones that know only an address get in.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.0.iter().find(|held| holds(held, name)));
        named.or(self.0.first()).cloned()
    }
}

fn holds(held: &CertifiedKey, name: &str) -> bool {
    let Some(Ok(certificate)) = held.cert.first().map(webpki::EndEntityCert::try_from) else { return false };
    let Ok(name) = DnsName::try_from(name) else { return false };
    certificate.verify_is_valid_for_subject_name(&ServerName::DnsName(name)).is_ok()
}
