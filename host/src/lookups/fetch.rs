//! One HTTP GET (hyper, HTTP/1.1), over a connection that is kept for the next one. `https` is TLS with the system's authorities
//! (`SSL_CERT_FILE` names others). Redirections are not followed: where calls go is not a stranger's to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::locked;
use crate::tls;

/// The longest page that is read.
const LONGEST: usize = 64 * 1024;
/// Idle connections kept to one server.
const IDLE: usize = 8;

/// What came back.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why there is no page.
enum Failed {
    /// Not a word came back.
    Unanswered(String),
    /// What came back, or was to be asked, is no good.
    Useless(String),
}

type Sender = SendRequest<Empty<Bytes>>;

/// Connections that nobody uses right now, by scheme and server.
#[derive(Debug, Default)]
pub(super) struct Connections {
    idle: Mutex<HashMap<String, Vec<Sender>>>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Connections {
    /// Fetches a page. A kept connection that turns out to be closed is replaced, once.
    pub(super) async fn fetch(&self, url: &str, token: Option<&str>) -> Result<Page, String> {
        let place = Place::read(url)?;
        while let Some(mut kept) = self.take(&place.key) {
            if kept.ready().await.is_err() {
                continue;
            }
            match self.get(&place, kept, token).await {
                Err(Failed::Unanswered(_)) => {}
                Err(Failed::Useless(why)) => return Err(why),
                Ok(page) => return Ok(page),
            }
        }
        let fresh = self.connect(&place).await?;
        self.get(&place, fresh, token).await.map_err(|failed| match failed {
            Failed::Unanswered(why) | Failed::Useless(why) => why,
        })
    }

    async fn get(&self, place: &Place, mut sender: Sender, token: Option<&str>) -> Result<Page, Failed> {
        let request = Request::get(&place.path)
            .header("Host", &place.authority)
            .header("Accept", "application/json")
            .header("User-Agent", "postern");
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let useless = |why: String| Failed::Useless(why);
        let request =
            request.body(Empty::new()).map_err(|error| useless(format!("it can't be asked: {error}")))?;
        let response = sender.send_request(request).await;
        let response =
            response.map_err(|error| Failed::Unanswered(format!("the request failed: {error}")))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| useless(format!("its answer can't be read: {error}")))?.to_bytes();
        self.keep(&place.key, sender);
        Ok(Page { status, body })
    }

    async fn connect(&self, place: &Place) -> Result<Sender, String> {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
        let stream = stream.map_err(|error| format!("it can't be reached: {error}"))?;
        let _ = stream.set_nodelay(true);
        if !place.secure {
            return begin(stream).await;
        }
        let name =
            ServerName::try_from(place.host.clone()).map_err(|_| "its name can't be proven".to_owned())?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await;
        begin(stream.map_err(|error| format!("no TLS with it: {error}"))?).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(made) = self.tls.get() {
            return Ok(made.clone());
        }
        let made = believing(tls::files::system_authorities())?;
        Ok(self.tls.get_or_init(|| made).clone())
    }

    fn take(&self, key: &str) -> Option<Sender> {
        locked(&self.idle).get_mut(key)?.pop()
    }

    fn keep(&self, key: &str, sender: Sender) {
        let mut idle = locked(&self.idle);
        let kept = idle.entry(key.to_owned()).or_default();
        kept.retain(|other| !other.is_closed());
        if kept.len() < IDLE {
            kept.push(sender);
        }
    }
}

fn believing(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, String> {
    let begun = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|error| format!("no HTTP with it: {error}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Where a URL leads.
struct Place {
    /// Scheme and authority.
    key: String,
    secure: bool,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Place {
    fn read(url: &str) -> Result<Place, String> {
        let uri: hyper::Uri = url.parse().map_err(|error| format!("its URL can't be used: {error}"))?;
        let secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or("its URL names no server")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Place {
            key: format!("{secure} {authority}"),
            secure,
            authority: authority.as_str().to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
mod tests {
    use rustls::ServerConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate for `localhost` that answers one request by what was asked.
    async fn serve(listener: tokio::net::TcpListener, config: Arc<ServerConfig>) {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(config.clone()).accept(stream).await else { continue };
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..length]).replace("\r\n", "|");
            let page = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
            stream.write_all(page.as_bytes()).await.unwrap();
        }
    }

    #[test]
    fn a_page_comes_over_tls_from_who_proves_its_name_and_from_nobody_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
            let own = made.cert.der().clone();
            let server = ServerConfig::builder_with_provider(tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![own.clone()], key)
                .unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(serve(listener, Arc::new(server)));
            let mut roots = RootCertStore::empty();
            roots.add(own).unwrap();
            let connections = Connections::default();
            connections.tls.set(believing(roots).unwrap()).unwrap();
            let page =
                connections.fetch(&format!("https://localhost:{port}/v1?to=1"), Some("pass")).await.unwrap();
            let asked = String::from_utf8_lossy(&page.body).into_owned();
            assert!(asked.starts_with("GET /v1?to=1 HTTP/1.1|"), "{asked}");
            assert!(
                asked.contains("Bearer pass") && asked.contains(&format!("localhost:{port}|")),
                "{asked}"
            );
            let by_address = connections.fetch(&format!("https://127.0.0.1:{port}/"), None).await;
            assert!(by_address.unwrap_err().contains("no TLS with it"));
            let stranger = Connections::default();
            stranger.tls.set(believing(RootCertStore::empty()).unwrap()).unwrap();
            let refused = stranger.fetch(&format!("https://localhost:{port}/"), None).await;
            assert!(refused.unwrap_err().contains("no TLS with it"));
        });
    }
}
