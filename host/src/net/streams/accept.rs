//! Connections that come in: counted before anything is read, and given little time for their handshakes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::node::{Flow, FlowId, Input, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{HANDSHAKE, Line, Streams, Tls, websocket};
use crate::tls::believed;

/// A silent connection is asked whether it is still there after this long …
const PROBE_AFTER: Duration = Duration::from_secs(120);
/// … so often …
const PROBES: u32 = 4;
/// … this far apart: a peer that is gone without a word is noticed, and its binding with it.
const PROBE_EVERY: Duration = Duration::from_secs(15);

impl Streams {
    /// Takes in connections at a listener until the runtime ends.
    pub async fn serve(self, listener: TcpListener, transport: Transport, local: SocketAddr) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    self.accepted(stream, Flow { transport, local, remote, id: FlowId(0) });
                }
                // Out of files, mostly: give the others time to end.
                Err(error) => {
                    tracing::warn!(%error, %local, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn accepted(&self, stream: TcpStream, path: Flow) {
        let remote = path.remote;
        if self.takes_commands(&path) {
            if !self.lets_command(&path) {
                return;
            }
        } else if self.guard.as_ref().is_some_and(|tables| tables.shuts_out(Instant::now(), remote.ip())) {
            return;
        }
        if !self.table().has_room(remote.ip()) {
            tracing::debug!(%remote, "too many connections; this one is closed");
            return;
        }
        let (flow, waiting) = self.table().add(path);
        let streams = self.clone();
        tokio::spawn(async move {
            match timeout(HANDSHAKE, streams.shake_hands(stream, flow)).await {
                Ok(Ok(line)) => return streams.carry(line, flow, waiting).await,
                Ok(Err(why)) => tracing::debug!(%remote, transport = %flow.transport, why, "no connection"),
                Err(_) => tracing::debug!(%remote, transport = %flow.transport, "no connection: too slow"),
            }
            streams.table().remove(flow.id);
        });
    }

    async fn shake_hands(&self, stream: TcpStream, flow: Flow) -> Result<Line, String> {
        watch_over(&stream);
        let (origins, ng) = (self.keys.origins(flow.local), self.takes_commands(&flow));
        Ok(match flow.transport {
            Transport::Tls => Line::Tls(Box::new(self.encrypt(stream, flow).await?)),
            Transport::Ws => {
                let (socket, spoken) = websocket::accept(stream, &origins, ng).await?;
                Line::Ws(Box::new(socket), spoken)
            }
            Transport::Wss => {
                let stream = self.encrypt(stream, flow).await?;
                Line::Wss(Box::new(websocket::accept(stream, &origins, false).await?.0))
            }
            Transport::Tcp | Transport::Udp => Line::Plain(stream),
        })
    }

    /// TLS with who connects; a certificate that was shown and verified is made known to the services.
    async fn encrypt(&self, stream: TcpStream, flow: Flow) -> Result<Tls, String> {
        let config = self.keys.server(flow.local).ok_or("no certificate for this listener")?;
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| error.to_string())?;
        if let Some([shown, ..]) = stream.get_ref().1.peer_certificates() {
            let domains: Arc<[String]> = believed::domains(shown).into();
            self.table().proved(flow.id, domains.clone());
            self.tell(flow, &Input::Proven { flow, domains });
        }
        Ok(stream.into())
    }
}

/// No waiting for more to send, and a look now and then at whether anybody is still there.
pub(super) fn watch_over(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let probes =
        socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
}
