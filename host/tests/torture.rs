//! The torture messages of RFC 4475 and RFC 5118 over real sockets, by UDP and by TCP: what each comes to on the wire.
//!
//! Everything well-formed is for whoever stands behind the proxy, and arrives there with its body byte for byte.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::config::Settings;
use host::server::Server;
use proto::node::Transport;
use proto::sip::Message;

use Verdict::{Answered, Closed, Forwarded, Ignored};

const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence has to last.
const MOMENT: Duration = Duration::from_secs(1);

/// What comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It reaches who stands behind.
    Forwarded,
    /// Its sender is answered.
    Answered(u16),
    /// Nobody hears anything.
    Ignored,
    /// The connection is closed.
    Closed,
}

struct Stage {
    server: Server,
    behind: UdpSocket,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

impl Stage {
    fn new() -> Stage {
        let behind = socket();
        behind.set_nonblocking(true).unwrap();
        let text = format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tcp:127.0.0.1:0\" }}]\n\
             auth: {{ required: false }}\nlog: error\ndomains: [services.example.com]\n\
             shield: {{ enabled: false }}\n\
             proxy: {{ anchor: never, routes: [{{ to: '*', via: 'udp:{}' }}] }}\n",
            behind.local_addr().unwrap()
        );
        let settings =
            Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
        let server = Server::start(&settings).unwrap_or_else(|error| panic!("{error}"));
        Stage { server, behind }
    }

    fn at(&self, transport: Transport) -> SocketAddr {
        self.server.handle().listening().iter().find(|at| at.transport == transport).unwrap().addr
    }

    /// A question about the proxy itself, answered when everything sent before it has been dealt with.
    fn asked_last(&self) {
        let (own, to) = (socket(), self.at(Transport::Udp));
        let at = own.local_addr().unwrap();
        let options = format!(
            "OPTIONS sip:services.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKm{at}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:m@m>;tag=1\r\nTo: <sip:services.example.com>\r\nCall-ID: m{at}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        own.send_to(options.as_bytes(), to).unwrap();
        let length = own.recv(&mut [0; 4096]).expect("the proxy answers what comes last");
        assert!(length > 0);
    }

    /// What has reached who stands behind by now, apart from what belongs to other messages.
    fn forwarded(&self, call_id: &str) -> Option<Message> {
        let mut buffer = [0; 65_535];
        std::iter::from_fn(|| self.behind.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()))
            .filter_map(|bytes| Message::parse(bytes.into()).ok())
            .find(|message| message.call_id() == call_id)
    }

    /// A message whose Route leads to a port of this machine leads to who stands behind.
    fn led_here(&self, bytes: &[u8]) -> Vec<u8> {
        let (port, there) = (b"127.0.0.1:5080", self.behind.local_addr().unwrap().to_string());
        match bytes.windows(port.len()).position(|window| window == port) {
            Some(at) => [&bytes[..at], there.as_bytes(), &bytes[at + port.len()..]].concat(),
            None => bytes.to_vec(),
        }
    }

    fn by_udp(&self, bytes: &[u8]) -> Verdict {
        let own = socket();
        own.send_to(bytes, self.at(Transport::Udp)).unwrap();
        self.asked_last();
        own.set_nonblocking(true).unwrap();
        self.verdict(bytes, || {
            let mut buffer = [0; 65_535];
            let heard = own.recv(&mut buffer).ok();
            heard.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    fn by_tcp(&self, bytes: &[u8]) -> Verdict {
        let mut own = TcpStream::connect(self.at(Transport::Tcp)).unwrap();
        own.write_all(bytes).unwrap();
        own.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let closed = std::cell::Cell::new(false);
        let verdict = self.verdict(bytes, || {
            let mut buffer = [0; 65_535];
            let length = own.read(&mut buffer);
            closed.set(closed.get() || matches!(length, Ok(0)));
            length
                .ok()
                .filter(|length| *length > 0)
                .map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
        });
        if verdict == Verdict::Ignored && closed.get() { Verdict::Closed } else { verdict }
    }

    /// The first thing anybody hears within a moment; a provisional answer says nothing yet.
    fn verdict(&self, bytes: &[u8], mut answer: impl FnMut() -> Option<String>) -> Verdict {
        let sent = Message::parse(bytes.to_vec().into()).ok();
        let until = Instant::now() + MOMENT;
        while Instant::now() < until {
            if let Some(sent) = &sent
                && let Some(there) = self.forwarded(sent.call_id())
            {
                assert_eq!(there.body(), sent.body(), "the body is as it was");
                assert_eq!(there.method(), sent.method());
                return Verdict::Forwarded;
            }
            let status = answer().and_then(|text| text.split(' ').nth(1)?.parse().ok());
            if let Some(status) = status.filter(|status| *status >= 200) {
                return Verdict::Answered(status);
            }
        }
        Verdict::Ignored
    }
}

fn vectors(rfc: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/vectors").join(rfc);
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

/// By UDP and by TCP. Where they differ, a stream has no end of its own: without Content-Length nobody can tell where the next
/// message begins (closed), and with one that is too large the rest may still come (ignored for now).
const VERDICTS: [(&str, Verdict, Verdict); 61] = [
    ("badaspec", Forwarded, Forwarded),
    ("badbranch", Forwarded, Forwarded),
    ("baddate", Forwarded, Forwarded),
    ("baddn", Forwarded, Forwarded),
    ("badinv01", Answered(400), Answered(400)),
    ("badvers", Answered(505), Answered(505)),
    // A response whose topmost Via is not ours.
    ("bcast", Ignored, Ignored),
    ("bext01", Answered(420), Answered(420)),
    ("bigcode", Ignored, Ignored),
    ("clerr", Answered(400), Ignored),
    ("cparam01", Forwarded, Forwarded),
    ("cparam02", Forwarded, Forwarded),
    ("dblreq", Forwarded, Forwarded),
    ("esc01", Forwarded, Forwarded),
    ("esc02", Forwarded, Forwarded),
    ("escnull", Forwarded, Forwarded),
    ("escruri", Answered(400), Answered(400)),
    ("insuf", Answered(400), Answered(400)),
    ("intmeth", Forwarded, Forwarded),
    // No branch and no tag: RFC 2543 alone allowed that.
    ("inv2543", Answered(400), Closed),
    ("invut", Forwarded, Forwarded),
    ("longreq", Forwarded, Forwarded),
    ("ltgtruri", Answered(400), Answered(400)),
    ("lwsdisp", Forwarded, Forwarded),
    ("lwsruri", Answered(400), Answered(400)),
    ("lwsstart", Answered(400), Answered(400)),
    ("mcl01", Answered(400), Closed),
    ("mismatch01", Answered(400), Answered(400)),
    ("mismatch02", Answered(400), Answered(400)),
    ("mpart01", Forwarded, Forwarded),
    ("multi01", Answered(400), Answered(400)),
    ("ncl", Answered(400), Closed),
    ("noreason", Ignored, Ignored),
    ("novelsc", Answered(416), Answered(416)),
    ("quotbal", Answered(400), Answered(400)),
    ("regaut01", Forwarded, Forwarded),
    ("regbadct", Forwarded, Forwarded),
    ("regescrt", Forwarded, Forwarded),
    ("scalar02", Answered(400), Answered(400)),
    ("scalarlg", Ignored, Ignored),
    ("sdp01", Forwarded, Forwarded),
    ("semiuri", Forwarded, Forwarded),
    ("transports", Forwarded, Forwarded),
    ("trws", Answered(400), Answered(400)),
    ("unkscm", Answered(416), Answered(416)),
    ("unksm2", Forwarded, Forwarded),
    ("unreason", Ignored, Ignored),
    // In a dialog that nobody knows.
    ("wsinv", Answered(481), Answered(481)),
    ("zeromf", Answered(483), Answered(483)),
    ("ipv4-mapped-ipv6", Forwarded, Forwarded),
    ("ipv6-bad", Answered(400), Answered(400)),
    ("ipv6-bug-abnf-3-colons", Forwarded, Forwarded),
    ("ipv6-correct-abnf-2-colons", Forwarded, Forwarded),
    ("ipv6-good", Forwarded, Forwarded),
    ("ipv6-in-sdp", Forwarded, Forwarded),
    // Both are BYEs in dialogs that nobody knows.
    ("mult-ip-in-header", Answered(481), Answered(481)),
    ("mult-ip-in-sdp", Forwarded, Forwarded),
    ("port-ambiguous", Forwarded, Forwarded),
    ("port-unambiguous", Forwarded, Forwarded),
    ("via-received-param-no-delim", Forwarded, Forwarded),
    ("via-received-param-with-delim", Answered(481), Answered(481)),
];

#[test]
fn every_torture_message_has_its_verdict_on_the_wire() {
    let vectors = [vectors("rfc4475"), vectors("rfc5118")].concat();
    let names: Vec<&str> = vectors.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, VERDICTS.map(|(name, ..)| name), "every message has a verdict");
    let all: Vec<_> = vectors.iter().zip(VERDICTS).collect();
    // Most of the time is waiting: for silence, and for servers to end.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = all.chunks(16).map(|part| scope.spawn(|| wrong_ones(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no verdict panics")).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What came to something else than expected, each on a stage of its own: some share a Call-ID.
fn wrong_ones(part: &[(&(String, Vec<u8>), (&str, Verdict, Verdict))]) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((name, bytes), (_, by_udp, by_tcp)) in part {
        for (transport, expected) in [(Transport::Udp, *by_udp), (Transport::Tcp, *by_tcp)] {
            let stage = Stage::new();
            let bytes = stage.led_here(bytes);
            let seen = if transport == Transport::Udp { stage.by_udp(&bytes) } else { stage.by_tcp(&bytes) };
            if seen != expected {
                wrong.push(format!("{name} by {transport}: {seen:?}, expected {expected:?}"));
            }
        }
    }
    wrong
}
