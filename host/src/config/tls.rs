//! The `tls` parts of the configuration: every file they name is read and tried before anything is used. A file with a
//! fault is an error at the key that names it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::cidr::Cidr;
use proto::node::Transport;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Settings;
use super::check::Context;
use super::errors::ConfigError;
use super::schema::{Certificate, ClientCertificates, File, Listener, Ng, RouteTls, Tls};
use super::trunks::lower::next_hop;
use super::values::SipAddress;
use crate::tls::files::{self, FileError};
use crate::tls::shown::Clients;
use crate::tls::{Credentials, believed, shown};

/// What the certificates of a configuration came to.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// By the listener's address as it is written.
    servers: Vec<(SipAddress, Arc<ServerConfig>)>,
    client: Option<Arc<ClientConfig>>,
    peers: BTreeMap<String, Arc<ClientConfig>>,
}

/// Reads them. The files join [`Settings::sources`], so that a renewed certificate is noticed.
pub(super) fn read(settings: &mut Settings, context: &Context<'_>) -> Result<Read, ConfigError> {
    let mut reader = Reader { context, sources: Vec::new() };
    let read = reader.read(&settings.file);
    settings.sources.extend(reader.sources);
    read
}

/// What the sockets need, for listeners where they are.
pub fn lower(settings: &Settings) -> Credentials {
    let listeners = || settings.file.listeners.iter();
    let origins = listeners().filter(|listener| !listener.origins.is_empty());
    Credentials {
        servers: listeners()
            .filter_map(|l| Some((l.address.addr, server_of(settings, l)?)))
            .chain(access(settings))
            .collect(),
        packets: settings.file.access.iter().filter_map(|own| own.tls).map(place).collect(),
        client: settings.tls.client.clone(),
        peers: settings.tls.peers.clone(),
        origins: origins.map(|l| (l.address.addr, l.origins.clone().into())).collect(),
        commanders: settings
            .file
            .relay
            .iter()
            .filter_map(|relay| relay.ng.as_ref())
            .flat_map(commanders)
            .collect(),
    }
}

fn place(address: SipAddress) -> (Transport, SocketAddr) {
    (address.transport, address.addr)
}

/// What an access server shows.
fn access(settings: &Settings) -> Option<(SocketAddr, Arc<ServerConfig>)> {
    let at = settings.file.access.as_ref()?.tls?;
    let server = settings.tls.servers.iter().find(|(address, _)| *address == at);
    server.map(|(_, server)| (at.addr, server.clone()))
}

fn commanders(ng: &Ng) -> impl Iterator<Item = ((Transport, SocketAddr), Arc<[Cidr]>)> + '_ {
    let allow: Arc<[Cidr]> = ng.allow.iter().map(|range| range.0).collect();
    ng.listen.iter().map(move |address| ((address.transport, address.addr), allow.clone()))
}

/// A wildcard has become several listeners by now, and a port 0 has become one: they know their address as written.
fn server_of(settings: &Settings, listener: &Listener) -> Option<Arc<ServerConfig>> {
    let written = listener.written.unwrap_or(listener.address);
    settings.tls.servers.iter().find(|(address, _)| *address == written).map(|(_, server)| server.clone())
}

/// Whether connections that come in here are encrypted.
fn is_secure(listener: &Listener) -> bool {
    matches!(listener.address.transport, Transport::Tls | Transport::Wss)
}

struct Reader<'a> {
    context: &'a Context<'a>,
    sources: Vec<PathBuf>,
}

impl Reader<'_> {
    fn read(&mut self, file: &File) -> Result<Read, ConfigError> {
        let mut read = Read::default();
        for (index, listener) in file.listeners.iter().enumerate().filter(|(_, l)| is_secure(l)) {
            let server = self.server(&format!("listeners.{index}"), listener, &file.tls)?;
            read.servers.push((listener.address, Arc::new(server)));
        }
        let by_tls = file.access.as_ref().and_then(|access| access.tls);
        if let Some(address) = by_tls.filter(|address| address.transport == Transport::Tls) {
            let as_listener = Listener::at(address);
            let server = self.server("access", &as_listener, &file.tls)?;
            read.servers.push((address, Arc::new(server)));
        }
        let towards = own_certificates(file);
        if !read.servers.is_empty() || !towards.is_empty() {
            let towards_all = RouteTls::default();
            read.client = Some(self.client("tls", &towards_all, &file.tls)?);
        }
        let mut said: BTreeMap<&str, (&str, &RouteTls)> = BTreeMap::new();
        for (at, own, hosts) in &towards {
            let client = self.client(at, own, &file.tls)?;
            for host in hosts {
                let (first, before) = *said.entry(host).or_insert((at, own));
                if before != *own {
                    return Err(self.contradiction(host, first, at));
                }
                read.peers.insert(host.clone(), client.clone());
            }
        }
        Ok(read)
    }

    /// Who connects to a host knows its name and nothing of what for.
    fn contradiction(&self, host: &str, first: &str, second: &str) -> ConfigError {
        let what = format!("{host} is shown one certificate by `{first}` and another one here");
        self.context.error(
            second,
            what,
            "say the same in both, or give one of them another name of that server",
        )
    }

    fn server(&mut self, at: &str, listener: &Listener, all: &Tls) -> Result<ServerConfig, ConfigError> {
        let own = &listener.tls;
        let (at_certificates, listed) = match own.certificates.is_empty() {
            true => ("tls.certificates".to_owned(), &all.certificates),
            false => (format!("{at}.tls.certificates"), &own.certificates),
        };
        if listed.is_empty() {
            let what = format!("{} has no certificate to show", listener.address);
            let remedy = "add `tls: { certificates: [{ certificate: FILE, key: FILE }] }`; `postern certificate NAME` makes one to try out";
            return Err(self.context.error(&format!("{at}.address"), what, remedy));
        }
        let mut certificates = Vec::new();
        for (index, certificate) in listed.iter().enumerate() {
            certificates.push(Arc::new(self.certified(&format!("{at_certificates}.{index}"), certificate)?));
        }
        let clients = self.clients(at, listener, all)?;
        let why = |why: String| self.context.error(at, why, "use other certificates");
        shown::server(certificates, clients).map_err(why)
    }

    fn clients(&mut self, at: &str, listener: &Listener, all: &Tls) -> Result<Clients, ConfigError> {
        let own = &listener.tls;
        let wanted = own.client_certificates.unwrap_or(all.client_certificates);
        if wanted == ClientCertificates::None {
            return Ok(Clients::Anonymous);
        }
        let (at_file, file) = match &own.client_authorities {
            Some(file) => (format!("{at}.tls.client-authorities"), Some(file)),
            None => ("tls.client-authorities".to_owned(), all.client_authorities.as_ref()),
        };
        let Some(file) = file else {
            let what = "clients are to show certificates, but nobody says by which authorities";
            return Err(self.context.error(at, what, "add `client-authorities: FILE` (PEM)"));
        };
        let roots = self.authorities(&at_file, file)?;
        Ok(match wanted {
            ClientCertificates::Required => Clients::Required(roots),
            _ => Clients::Asked(roots),
        })
    }

    fn client(&mut self, at: &str, own: &RouteTls, all: &Tls) -> Result<Arc<ClientConfig>, ConfigError> {
        let roots = match (&own.authorities, &all.authorities) {
            (Some(file), _) => self.authorities(&format!("{at}.authorities"), file)?,
            (None, Some(file)) => self.authorities("tls.authorities", file)?,
            (None, None) => files::system_authorities(),
        };
        let shown = match (&own.certificate, all.certificates.first()) {
            (Some(certificate), _) => Some(self.certified(&format!("{at}.certificate"), certificate)?),
            (None, Some(first)) => Some(self.certified("tls.certificates.0", first)?),
            (None, None) => None,
        };
        let why = |why: String| self.context.error(at, why, "use other certificates");
        believed::client(roots, shown, all.wildcards).map(Arc::new).map_err(why)
    }

    fn certified(&mut self, at: &str, listed: &Certificate) -> Result<CertifiedKey, ConfigError> {
        let (certificate, key) = (self.path(&listed.certificate), self.path(&listed.key));
        files::certified(&certificate, &key).map_err(|error| self.wrong(at, &error))
    }

    fn authorities(&mut self, at: &str, file: &Path) -> Result<RootCertStore, ConfigError> {
        let file = self.path(file);
        files::authorities(&file).map_err(|error| self.wrong(at, &error))
    }

    fn wrong(&self, at: &str, error: &FileError) -> ConfigError {
        self.context.error(at, error.to_string(), error.remedy)
    }

    /// Where a file is, seen from the configuration's folder.
    fn path(&mut self, file: &Path) -> PathBuf {
        let path = self.context.path.parent().unwrap_or(Path::new("")).join(file);
        self.sources.push(path.clone());
        path
    }
}

/// The trunks and routes with certificates of their own: where those stand in the file, and what their servers have to
/// prove, their names or addresses.
fn own_certificates(file: &File) -> Vec<(String, &RouteTls, Vec<String>)> {
    let host = |to: &str| next_hop(to, None).map(|hop| hop.host.to_ascii_lowercase());
    let trunks = file.trunks.iter().filter_map(|(name, trunk)| {
        let hosts = trunk.servers.0.iter().filter_map(|server| host(&server.to)).collect();
        Some((format!("trunks.{name}.tls"), trunk.tls.as_ref()?, hosts))
    });
    let routes = file.proxy.iter().flat_map(|proxy| &proxy.routes).enumerate();
    let routes = routes.filter_map(|(index, route)| {
        let hosts = route.via.iter().filter_map(|via| host(via)).collect();
        Some((format!("proxy.routes.{index}.tls"), route.tls.as_ref()?, hosts))
    });
    trunks.chain(routes).collect()
}
