//! Bad weather for every port: what no honest peer sends, in great amounts, from a seed, at a bounded pace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Datagrams between two pauses of a millisecond.
const BURST: usize = 20;

/// A small generator of numbers (xorshift64*): the same seed brings the same storm.
pub struct Dice(u64);

impl Dice {
    /// By a seed that isn't 0.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `end`, which isn't 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    /// A message with something wrong in it: cut off, bytes flipped, a piece twice, a header blown up, noise inside.
    pub fn mutated(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        for _ in 0..=self.below(3) {
            let (one, other) = (self.below(bytes.len().max(1)), self.below(bytes.len().max(1)));
            let (from, to) = (one.min(other), one.max(other));
            match self.below(6) {
                0 => bytes.truncate(to),
                1 => bytes[from..to].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55),
                2 => drop(bytes.splice(to..to, bytes[from..to].to_vec())),
                3 => {
                    drop(bytes.splice(from..from, format!("\r\nX-Huge: {}", "a".repeat(20_000)).into_bytes()))
                }
                4 => drop(bytes.splice(from..from, self.bytes(16))),
                _ => drop(bytes.drain(from..to)),
            }
            bytes.truncate(60_000);
        }
        bytes
    }

    /// What belongs on another port: STUN, RTP, RTCP, DTLS, or nothing at all.
    pub fn foreign(&mut self) -> Vec<u8> {
        let head: &[u8] = match self.below(6) {
            0 => &[0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42],
            1 => &[0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42],
            2 => &[0x80, 0x00],
            3 => &[0x80, 200, 0x00, 0x06],
            4 => &[22, 254, 253],
            _ => &[],
        };
        let more = self.below(180);
        [head.to_vec(), self.bytes(more)].concat()
    }
}

/// Every valid and invalid message of RFC 4475, and requests and responses as our own ports know them, addressed to
/// `target`.
pub fn messages(target: SocketAddr, source: SocketAddr) -> Vec<Vec<u8>> {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/rfc4475");
    let files = std::fs::read_dir(vectors).expect("the vectors are in the tree").flatten();
    let mut all: Vec<Vec<u8>> = files.filter_map(|file| std::fs::read(file.path()).ok()).collect();
    let methods = ["INVITE", "REGISTER", "OPTIONS", "BYE", "CANCEL", "ACK", "UPDATE", "SUBSCRIBE", "PRACK"];
    all.extend(methods.iter().map(|method| request(method, "a", target, source).into_bytes()));
    for status in [100, 180, 200, 302, 407, 503] {
        let lines =
            request("INVITE", "a", target, source).split_once("\r\n").map(|(_, rest)| rest.to_owned());
        all.push(format!("SIP/2.0 {status} X\r\n{}", lines.unwrap_or_default()).into_bytes());
    }
    all
}

/// A well-formed request without credentials, with an SDP and every header that our own nodes look at.
pub fn request(method: &str, unique: &str, target: SocketAddr, source: SocketAddr) -> String {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        source.ip()
    );
    format!(
        "{method} sip:bob@one.test SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{unique}{method};rport\r\n\
         Max-Forwards: 70\r\nRoute: <sip:{target};lr>\r\nFrom: <sip:alice@one.test>;tag={unique}\r\nTo: <sip:bob@one.test>\r\n\
         Call-ID: {unique}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@{source}>\r\nRecord-Route: <sip:x@{target};lr>\r\n\
         Expires: 60\r\nRelay-Call: {unique}\r\nNode-Auth: 1 AAAAAAAAAAAA\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// Sends so many datagrams, none faster than an honest network card would.
pub fn spray(socket: &UdpSocket, count: usize, mut next: impl FnMut(usize) -> (Vec<u8>, SocketAddr)) {
    let mut ignored = [0; 2048];
    let _ = socket.set_nonblocking(true);
    for number in 0..count {
        let (bytes, to) = next(number);
        let _ = socket.send_to(&bytes, to);
        if number % BURST == 0 {
            std::thread::sleep(Duration::from_millis(1));
            while socket.recv_from(&mut ignored).is_ok() {}
        }
    }
}

/// Connections that nobody wants: they say nothing, or a byte at a time, or never come to an end.
pub struct Loris {
    open: Vec<TcpStream>,
}

impl Loris {
    /// So many half-open ones to each that drip, and a few of every worse kind.
    pub fn new(target: SocketAddr, count: usize, dice: &mut Dice) -> Loris {
        let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(2)).expect("it listens");
        for kind in 0..6 {
            let stream = connect();
            let _ = stream.set_write_timeout(Some(Duration::from_millis(500)));
            misbehave(stream, kind, target, dice);
        }
        Loris { open: (0..count).map(|_| connect()).collect() }
    }

    /// Each second one says one byte more of a message.
    pub fn drip(&mut self, number: usize) {
        let message =
            b"INVITE sip:bob@one.test SIP/2.0\r\nVia: SIP/2.0/TCP 203.0.113.66;branch=z9hG4bK1\r\nX: ";
        let byte = *message.get(number).unwrap_or(&b'x');
        self.open.iter_mut().step_by(2).for_each(|stream| drop(stream.write(&[byte])));
    }
}

fn misbehave(mut stream: TcpStream, kind: usize, target: SocketAddr, dice: &mut Dice) {
    let own = stream.local_addr().expect("it is connected");
    let invite = request("INVITE", "tcp", target, own);
    let _ = match kind {
        0 => stream.write_all(&dice.bytes(5000)),
        // A head that never ends, and a body that never comes.
        1 => (0..200).try_for_each(|_| stream.write_all(format!("X: {}\r\n", "a".repeat(10_000)).as_bytes())),
        2 => stream.write_all(invite.replace("Content-Length: ", "Content-Length: 9").as_bytes()),
        3 => stream.write_all(&invite.as_bytes()[..invite.len() / 2]),
        4 => stream.write_all("\r\n".repeat(20_000).as_bytes()),
        _ => (0..40).try_for_each(|_| stream.write_all(&dice.mutated(invite.as_bytes()))),
    };
    // Given up without reading what was answered: the other end gets a reset.
    let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
    let _ = stream.read(&mut [0; 16]);
}

/// What else may come through a control socket: noise, a question without an end, and somebody who says nothing.
pub fn pester(control: &Path, dice: &mut Dice) -> UnixStream {
    let connect = || UnixStream::connect(control).expect("it listens");
    let _ = connect().write_all(&dice.bytes(2000));
    let _ = connect().write_all(b"{\"ask\":\"explain\",\"call\":42}\n");
    let mut endless = connect();
    let _ = endless.set_write_timeout(Some(Duration::from_millis(200)));
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until && endless.write_all(&[b'['; 65_536]).is_ok() {}
    connect()
}
