//! Connections we make, from the listener's own address. Over TLS the far end has to prove who it is before a byte of SIP
//! is sent (RFC 5922 §7.3).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proto::node::{Flow, SendError, Transport};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::accept::watch_over;
use super::{HANDSHAKE, Line, Streams, Tls, websocket};
use crate::tls::believed::{address, server_name};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

impl Streams {
    /// Brings a connection up.
    pub(super) async fn dial(&self, wanted: Flow) -> Result<Line, SendError> {
        // Nobody connects to a browser (RFC 7118 §5): a socket of a listener of ours that is gone is gone.
        let is_websocket = matches!(wanted.transport, Transport::Ws | Transport::Wss);
        if is_websocket && !self.is_a_phones {
            return Err(SendError::Closed);
        }
        let stream = connect(wanted).await?;
        watch_over(&stream);
        match timeout(HANDSHAKE, self.introduce(stream, wanted)).await {
            Ok(done) => done,
            Err(_) => Err(SendError::TimedOut),
        }
    }

    async fn introduce(&self, stream: TcpStream, wanted: Flow) -> Result<Line, SendError> {
        let refused = |why: String| {
            tracing::warn!(remote = %wanted.remote, why, "no WebSocket for SIP");
            SendError::Refused
        };
        let url = format!("{}://{}/", wanted.transport, wanted.remote);
        Ok(match wanted.transport {
            Transport::Tls => Line::Tls(Box::new(self.verify(stream, wanted).await?)),
            Transport::Ws => {
                let socket = websocket::connect(stream, &url).await.map_err(refused)?;
                Line::Ws(Box::new(socket), websocket::Spoken::Sip)
            }
            Transport::Wss => {
                let stream = self.verify(stream, wanted).await?;
                Line::Wss(Box::new(websocket::connect(stream, &url).await.map_err(refused)?))
            }
            Transport::Tcp | Transport::Udp => Line::Plain(stream),
        })
    }

    /// TLS with whom we connect to.
    async fn verify(&self, stream: TcpStream, wanted: Flow) -> Result<Tls, SendError> {
        let remote = wanted.remote;
        let domain = self.table().domain(&wanted);
        let host = domain.unwrap_or_else(|| remote.ip().to_string());
        let name = server_name(&host).unwrap_or_else(|| address(remote.ip()));
        let Some(config) = self.keys.client(&host) else {
            tracing::warn!(%remote, "no TLS: this process has no TLS listener");
            return Err(SendError::Tls);
        };
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => {
                self.table().proven(&wanted);
                Ok(stream.into())
            }
            Err(error) => {
                tracing::warn!(%remote, host, %error, "no TLS with whom we connect to");
                Err(SendError::Tls)
            }
        }
    }
}

async fn connect(flow: Flow) -> Result<TcpStream, SendError> {
    let connect = async {
        let socket = if flow.local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
        socket.connect(flow.remote).await
    };
    match timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(SendError::Refused),
        Ok(Err(_)) => Err(SendError::Unreachable),
        Err(_) => Err(SendError::TimedOut),
    }
}
