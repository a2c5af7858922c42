//! A crowd that logs in at an access server in a process of its own, over loopback: load for whoever watches that process.
//!
//! ```text
//! logins COUNT              prints the server's configuration, with so many accounts
//! logins COUNT ADDRESS      everybody logs in there once, 50 at a time; whoever is told of it answers
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "load needs sockets and threads")]

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use conformance::crowd::{DOMAIN, buddies, name, password, proven, request};
use proto::sip::{Message, Name, reply};

const UNDER_WAY: usize = 50;
/// How long an answer is waited for, and how often what was lost is sent again.
const PATIENCE: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 10;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let count = words.first().and_then(|text| text.parse().ok()).expect("usage: logins COUNT [ADDRESS]");
    match words.get(1) {
        None => print!("{}", configuration(count)),
        Some(server) => log_in_all(count, server),
    }
}

fn configuration(count: usize) -> String {
    let users = (0..count).map(|n| format!("  - {{ name: {}, password: {} }}\n", name(n), password(n)));
    let pairs = buddies(count).map(|(one, other)| format!("    - [{one}, {other}]\n"));
    format!(
        "log: warn\nshield: {{ enabled: false }}\ndomains: [{DOMAIN}]\nusers:\n{}access:\n  address: udp:127.0.0.1:5070\n  buddies:\n{}",
        users.collect::<String>(),
        pairs.collect::<String>()
    )
}

fn log_in_all(count: usize, server: &str) {
    std::thread::scope(|scope| {
        for first in 0..UNDER_WAY {
            scope.spawn(move || {
                let phone = Phone::new(server);
                (first..count).step_by(UNDER_WAY).for_each(|number| phone.log_in(number));
            });
        }
    });
}

/// Where some of the crowd are, one after the other.
struct Phone(UdpSocket);

impl Phone {
    fn new(server: &str) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        socket.connect(server).expect("an address");
        Phone(socket)
    }

    fn log_in(&self, number: usize) {
        let request = request(number);
        let challenged = self.ask(&request);
        let challenge = challenged.text(Name::WwwAuthenticate).expect("a challenge");
        let response = self.ask(&proven(&request, number, challenge, 1));
        assert_eq!(response.status(), Some(200), "{} is not let in", name(number));
    }

    /// What is answered to a request; of what else comes meanwhile, requests get a 200.
    fn ask(&self, request: &Message) -> Message {
        let mut buffer = vec![0; 65_536];
        for _ in 0..ATTEMPTS {
            self.send(request);
            while let Ok(size) = self.0.recv(&mut buffer) {
                let Ok(message) = Message::parse(Bytes::copy_from_slice(&buffer[..size])) else { continue };
                if message.is_request() {
                    self.send(&reply(&message, 200, "told").finish());
                } else if branch(&message) == branch(request) {
                    return message;
                }
            }
        }
        panic!("the server says nothing");
    }

    fn send(&self, message: &Message) {
        let _ = self.0.send(message.bytes());
    }
}

fn branch(message: &Message) -> &str {
    message.via().expect("a Via").branch()
}
