//! Certificates, and whom we believe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Certificates, and whom we believe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// What TLS and WSS listeners show, chosen by the name a client asks for; the first when it asks for none. The first
    /// is also what we show to servers that ask.
    pub certificates: Vec<Certificate>,
    /// Authorities of the servers we connect to; none: those of this machine.
    pub authorities: Option<PathBuf>,
    /// Authorities of the clients that connect to us.
    pub client_authorities: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// Whether `*.example.org` in a server's certificate counts for `sip.example.org`. RFC 5922 says no.
    pub wildcards: bool,
}

/// What a listener does otherwise; what is not said is as in the file's `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenerTls {
    /// What it shows.
    pub certificates: Vec<Certificate>,
    /// Authorities of its clients.
    pub client_authorities: Option<PathBuf>,
    /// Whether its clients show a certificate.
    pub client_certificates: Option<ClientCertificates>,
}

/// What we show to a trunk, and how it proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RouteTls {
    /// The certificate we show; none: the first of the file's `tls`.
    pub certificate: Option<Certificate>,
    /// Authorities of its certificate; none: as the file's `tls` says.
    pub authorities: Option<PathBuf>,
}

/// A certificate and its key, as PEM files (relative to the configuration).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    /// The certificate, and its issuers after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `none`, `optional` or `required`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They may show one, which must be good.
    Optional,
    /// They must show one.
    Required,
}
