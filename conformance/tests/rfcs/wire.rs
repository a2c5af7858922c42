//! A process with sockets on loopback, and plain clients of it: for what a transport itself is to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use host::config::Settings;
use host::server::Server;
use host::tls::{believed, files};
use proto::node::Transport;

/// How long an answer on loopback may take before it counts as none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running Postern.
pub(crate) struct Process(Option<Server>);

impl Process {
    /// With this configuration; it asks nobody for credentials unless that says so.
    pub(crate) fn start(text: &str) -> Process {
        let text = format!("auth: {{ required: false }}\nlog: error\ndomains: [example.com]\n{text}");
        let settings = Settings::from_text(Path::new("test.yaml"), &text);
        let server = Server::start(&settings.unwrap_or_else(|error| panic!("{error}")));
        Process(Some(server.unwrap_or_else(|error| panic!("{error}"))))
    }

    /// Where it listens by this transport.
    pub(crate) fn at(&self, transport: Transport) -> SocketAddr {
        let handle = self.0.as_ref().expect("it runs").handle();
        let all = handle.listening();
        all.iter().find(|listener| listener.transport == transport).expect("a listener").addr
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Server::stop);
    }
}

/// A socket of somebody who waits for answers.
pub(crate) fn datagrams() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram.
pub(crate) fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("a datagram in time");
    bytes[..length].to_vec()
}

/// A connection of somebody who waits for answers.
pub(crate) fn stream(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One message without a body, as it comes by a stream.
pub(crate) fn next_message(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Certificates by an authority of the test's own, in a folder that goes with it.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) fn new(test: &str, names: &[&str]) -> Certificates {
        let folder = std::env::temp_dir().join(format!("postern-rfcs-{test}-{}", std::process::id()));
        let certificates = Certificates(folder);
        for name in names {
            let mut command = Command::new(conformance::lab::postern());
            command.args(["certificate", "--out"]).arg(&certificates.0).arg(name);
            assert!(command.output().unwrap().status.success(), "{name}");
        }
        certificates
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A TLS connection of somebody who shows the certificate of this name, or none.
    pub(crate) fn connect(
        &self,
        to: SocketAddr,
        server: &str,
        shown: Option<&str>,
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let file = |name: &str| self.0.join(name);
        let own = shown.map(|name| {
            files::certified(&file(&format!("{name}.pem")), &file(&format!("{name}.key"))).unwrap()
        });
        let config = believed::client(files::authorities(&file("ca.pem")).unwrap(), own, false).unwrap();
        let name = believed::server_name(server).unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        rustls::StreamOwned::new(connection, stream(to))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A WebSocket's kinds of frames (RFC 6455 §5.2).
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A browser's end of a WebSocket, frame by frame.
pub(crate) struct WebSocket(TcpStream);

/// What a WebSocket server says to a handshake with these header lines, first line first.
pub(crate) fn handshake(to: SocketAddr, more: &str) -> (TcpStream, String) {
    let mut stream = stream(to);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let said = next_message(&mut stream).expect("an answer");
    (stream, said)
}

impl WebSocket {
    /// One that speaks SIP.
    pub(crate) fn open(to: SocketAddr) -> WebSocket {
        let (stream, said) = handshake(to, "Sec-WebSocket-Protocol: sip\r\n");
        assert!(said.starts_with("HTTP/1.1 101"), "{said}");
        WebSocket(stream)
    }

    /// Sends a message in one frame.
    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        self.send_frame(0x80 | kind, payload);
    }

    /// Sends a frame that begins with this byte; clients mask what they send (§5.3).
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let length = u16::try_from(payload.len()).unwrap();
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).unwrap();
    }

    /// The next message: what kind of frame, and what was in it.
    pub(crate) fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame in time");
        assert_eq!(head[0] & 0x80, 0x80, "a message in one frame");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    /// The next message, which is SIP in text.
    pub(crate) fn read_text(&mut self) -> String {
        let (kind, payload) = self.read();
        assert_eq!(kind, TEXT, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }
}
