//! A client of the ng protocol: what Kamailio or OpenSIPS would say to their rtpengine.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

/// Speaks to one server.
pub struct Client {
    socket: UdpSocket,
    cookie: u32,
}

impl Client {
    /// To a server on this machine.
    pub fn to(server: &str) -> Client {
        let server: SocketAddr = server.parse().unwrap_or_else(|_| panic!("{server} is no IP:PORT"));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        socket.connect(server).expect("loopback is there");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout above zero");
        Client { socket, cookie: 0 }
    }

    /// Sends a command, again when nothing comes back, and returns the answer.
    pub fn command(&mut self, entries: &[(&str, Value<'static>)]) -> Dict<'static> {
        self.cookie += 1;
        let dict = entries.iter().fold(Dict::default(), |dict, (key, value)| dict.with(*key, value.clone()));
        let mut bytes = format!("{}_{} ", std::process::id(), self.cookie).into_bytes();
        bencode::write(&Value::Dict(dict), &mut bytes);
        let mut buffer = vec![0; 65_535];
        for _ in 0..20 {
            let _ = self.socket.send(&bytes);
            // Nobody listens yet: that is told at once.
            let received = self.socket.recv(&mut buffer).inspect_err(|error| {
                if error.kind() == std::io::ErrorKind::ConnectionRefused {
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            if let Ok(size) = received {
                let space = buffer[..size].iter().position(|byte| *byte == b' ').expect("a cookie");
                let value = bencode::read(&buffer[space + 1..size]).expect("bencoding");
                return value.as_dict().expect("a dictionary").owned();
            }
        }
        panic!("no answer to {entries:?}")
    }

    /// Waits until the server answers a ping.
    pub fn wait(&mut self) {
        let answer = self.command(&[("command", text("ping"))]);
        assert_eq!(answer.text("result"), Some("pong"));
    }
}

/// A string.
pub fn text(text: &str) -> Value<'static> {
    Value::text(text)
}

/// A list of strings.
pub fn list(words: &[&str]) -> Value<'static> {
    Value::List(words.iter().map(|word| text(word)).collect())
}

/// A description with its ports masked: `P` in an m= line that is not rejected, `P` or `P+1` in `a=rtcp`, else `?`.
pub fn masked(sdp: &str) -> String {
    let mut media = 0u32;
    let mut line = |line: &str| {
        if let Some(rest) = line.strip_prefix("m=") {
            let words: Vec<&str> = rest.splitn(3, ' ').collect();
            let port = words.get(1).copied().unwrap_or_default();
            let (number, count) =
                port.split_once('/').map_or((port, String::new()), |(n, c)| (n, format!("/{c}")));
            media = number.parse().unwrap_or(0);
            let shown = if media == 0 { "0" } else { "P" };
            return format!("m={} {shown}{count} {}", words[0], words.get(2).copied().unwrap_or_default());
        }
        if let Some(rest) = line.strip_prefix("a=rtcp:") {
            let (number, more) =
                rest.split_once(' ').map_or((rest, String::new()), |(n, m)| (n, format!(" {m}")));
            let shown = match number.parse::<u32>() {
                Ok(port) if port == media => "P",
                Ok(port) if port == media + 1 => "P+1",
                _ => "?",
            };
            return format!("a=rtcp:{shown}{more}");
        }
        line.to_owned()
    };
    sdp.lines().map(|l| line(l) + "\n").collect()
}
