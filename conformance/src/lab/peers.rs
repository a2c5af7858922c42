//! The stage of systems 2 and 3: access server, STUN, reflector, SIP proxy and relay of one `postern` in public, and peers
//! (`postern endpoint peer`) in hosts of their own behind the laboratory's NATs.
//!
//! ```text
//!   hub   198.51.100.20:5070   access server, by TLS at port 443
//!                                                   198.51.100.10:3478, 203.0.113.10:3479   STUN
//!         198.51.100.20:5060   SIP proxy; relay     198.51.100.30:3479                      reflector
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::wire::{Packet, Wire};
use super::{Lab, PATIENCE, Process, comes_about, peer, postern};

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The access server.
    pub access: &'static str,
    /// Where it listens for TLS.
    pub tls: &'static str,
    /// The SIP proxy; its relay's media ports are at the same address.
    pub proxy: &'static str,
    /// The relay's own.
    relay: &'static str,
    /// The STUN server's two.
    pub stun: [&'static str; 2],
    /// The reflector.
    pub reflector: &'static str,
}

/// In IPv4.
pub const FOUR: Addresses = Addresses {
    access: "198.51.100.20:5070",
    tls: "198.51.100.20:443",
    proxy: "198.51.100.20:5060",
    relay: "198.51.100.20:5090",
    stun: ["198.51.100.10:3478", "203.0.113.10:3479"],
    reflector: "198.51.100.30:3479",
};
/// In IPv6.
pub const SIX: Addresses = Addresses {
    access: "[2001:db8::20]:5070",
    tls: "[2001:db8::20]:443",
    proxy: "[2001:db8::20]:5060",
    relay: "[2001:db8::20]:5090",
    stun: ["[2001:db8::10]:3478", "[2001:db8:0:1::10]:3479"],
    reflector: "[2001:db8::30]:3479",
};
/// How long the access server's word on somebody who says nothing more holds.
const LEASE: Duration = Duration::from_secs(75);
/// The domain of all.
pub const DOMAIN: &str = "peers.test";

/// The stage, with its services running.
pub struct Hub {
    /// The one process.
    pub postern: Process,
    at: Addresses,
    reflects: bool,
    config: PathBuf,
    /// The laboratory itself.
    pub lab: Lab,
}

impl Hub {
    /// Builds the stage around the parties (`-s home:symmetric:alice -p bob=203.0.113.20`). Whoever is named in a pair of
    /// buddies has an account, whose password is `pw-` and the name.
    pub fn up(parties: &str, buddies: &[(&str, &str)]) -> Option<Hub> {
        Hub::with(parties, buddies, "", FOUR)
    }

    /// As [`Hub::up`], without a reflector: what arrives has come by a path that was open.
    pub fn without_reflector(parties: &str, buddies: &[(&str, &str)]) -> Option<Hub> {
        Hub::build(parties, buddies, "", FOUR, false)
    }

    /// As [`Hub::up`], with more accounts, and with the servers at other addresses.
    pub fn with(parties: &str, buddies: &[(&str, &str)], others: &str, at: Addresses) -> Option<Hub> {
        Hub::build(parties, buddies, others, at, true)
    }

    fn build(
        parties: &str,
        buddies: &[(&str, &str)],
        others: &str,
        at: Addresses,
        reflects: bool,
    ) -> Option<Hub> {
        let addresses = [at.access, at.stun[0], at.stun[1], at.reflector].map(|at| ip_of(at).to_string());
        let lab = Lab::up(&format!("-p hub={} {parties}", addresses.join(",")))?;
        let folder = lab.scratch().display().to_string();
        let names = ["certificate", "--out", &folder, "hub", &ip_of(at.tls).to_string()];
        let made = Command::new(postern()).args(names).output();
        assert!(made.is_ok_and(|made| made.status.success()), "no certificate");
        let postern = lab.service("hub", &config(buddies, others, at, reflects));
        let config = lab.scratch().join("hub.yaml");
        Some(Hub { postern, at, reflects, config, lab })
    }

    /// Starts the peer `user` in a host. It stays for so many seconds, or until it is told to leave.
    pub fn peer(&self, host: &str, user: &str, seconds: u32, more: &[&str]) -> Online {
        let (password, seconds) = (format!("pw-{user}"), seconds.to_string());
        let access = format!("udp:{}", self.at.access);
        let mut argv = vec![postern(), "endpoint", "peer", "--json", "--seconds", &seconds];
        argv.extend(["--user", user, "--password", &password, "--domain", DOMAIN]);
        let authority = self.lab.scratch().join("ca.pem");
        argv.extend(["--tls", self.at.tls, "--ca", authority.to_str().expect("a path in words")]);
        argv.extend(["--access", &access, "--stun", self.at.stun[0]]);
        if self.reflects {
            argv.extend(["--reflector", self.at.reflector]);
        }
        argv.extend(more);
        Online { process: self.lab.spawn(host, &argv), name: format!("{user}@{DOMAIN}") }
    }

    /// Starts a plain phone, a baresip, in a host of its own for so many seconds.
    pub fn baresip(&self, user: &str, seconds: u32, more: &[&str]) -> Process {
        let (bsip, seconds) = (peer("bsip"), seconds.to_string());
        let folder = self.lab.scratch().join(format!("baresip-{user}"));
        let proxy = self.at.proxy.rsplit_once(':').map_or(self.at.proxy, |(ip, _)| ip);
        let mut argv = vec![&*bsip, user, "--proxy", proxy, "--domain", DOMAIN, "--time", &seconds];
        argv.extend(["--dir", folder.to_str().expect("a path in words")]);
        argv.extend(more);
        self.lab.spawn(user, &argv)
    }

    /// Waits until so many phones and peers are registered at the proxy.
    pub fn until_registered(&self, count: u64) {
        let path = self.config.to_string_lossy();
        let mut status = String::new();
        let are_there = comes_about(PATIENCE, || {
            let mut asked = self.lab.spawn("hub", &[postern(), "status", "--json", "-c", &path]);
            asked.wait(PATIENCE);
            status = asked.output();
            asked.report()["registered"]["proxy"] == count
        });
        assert!(are_there, "not {count} are registered: {status}");
    }

    /// Waits until so many peers are logged in.
    pub fn until_online(&self, count: u64) {
        let mut online = 0;
        let are_there = comes_about(PATIENCE, || {
            online = self.lab.of_lanes("hub", &self.config, "online");
            online == count
        });
        assert!(are_there, "{online} are online, never {count}");
    }
}

/// A peer that runs.
pub struct Online {
    process: Process,
    name: String,
}

impl Online {
    /// Its address of record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until a call of its has come to something: its media takes a path, or nobody answered.
    pub fn has_called(&mut self) {
        self.process.wait_for(" s  call with ", PATIENCE);
    }

    /// Waits until the last word on its call is that media goes directly.
    pub fn talks_directly(&mut self) {
        self.says_last("call with ", "talked directly", PATIENCE, |line| {
            line.ends_with("media goes directly")
        });
    }

    /// Waits until it knows by which path a buddy is met.
    pub fn meets(&mut self, buddy: &str) {
        self.process.wait_for(&format!(" s  {buddy}@{DOMAIN} is online"), PATIENCE);
    }

    /// Waits until a buddy is met by the direct path.
    pub fn meets_directly(&mut self, buddy: &str) {
        let what = format!("met {buddy} directly");
        self.says_last(&of(buddy), &what, PATIENCE, |line| line.contains(" is online, directly"));
    }

    /// Waits until a buddy that it has met is offline: once nobody answers, or the lease of one that is met by others' help is over.
    pub fn misses(&mut self, buddy: &str) {
        let what = format!("missed {buddy}");
        self.says_last(&of(buddy), &what, LEASE + PATIENCE, |line| line.ends_with(" is offline"));
    }

    /// Waits until the last line it says of something is such, for then it has done this.
    fn says_last(&mut self, of: &str, what: &str, patience: Duration, fits: impl Fn(&str) -> bool) {
        let begins = format!(" s  {of}");
        self.process.wait_until(what, patience, |said| {
            said.lines().rev().find(|line| line.contains(&begins)).is_some_and(&fits)
        });
    }

    /// Has it leave, as Ctrl-C does.
    pub fn leave(&mut self) {
        self.process.terminate();
    }

    /// Ends it as a power cut would: it tells nobody.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// What it saw, once it has left.
    pub fn report(mut self) -> Value {
        self.process.wait(PATIENCE);
        self.process.document()
    }
}

/// How its lines about a buddy begin.
fn of(buddy: &str) -> String {
    format!("{buddy}@{DOMAIN} is ")
}

/// The IP of an `IP:PORT`.
pub fn ip_of(address: &str) -> std::net::IpAddr {
    address.parse::<SocketAddr>().unwrap_or_else(|_| panic!("{address} is no IP:PORT")).ip()
}

/// A step of a story: what it is called, and how its packet is recognised.
pub type Step<'a> = (&'a str, &'a dyn Fn(&Packet) -> bool);

/// Finds packets in this order, each after the one before it; panics with everything that was seen when one is missing.
pub fn in_order<'a>(wire: &'a Wire, steps: &[Step<'_>]) -> Vec<&'a Packet> {
    let (mut found, mut rest) = (Vec::new(), &wire.packets[..]);
    for (name, fits) in steps {
        let at = rest.iter().position(fits).unwrap_or_else(|| panic!("no {name:?}\n{}", told(wire)));
        found.push(&rest[at]);
        rest = &rest[at + 1..];
    }
    found
}

/// Every packet on a line.
pub fn told(wire: &Wire) -> String {
    let began = wire.packets.first().map_or(Duration::ZERO, |packet| packet.at);
    let line = |packet: &Packet| {
        let at = (packet.at - began).as_secs_f64();
        format!("{at:8.3} {:<6} {} → {}  {}\n", packet.host, packet.from, packet.to, title(&packet.payload))
    };
    wire.packets.iter().map(line).collect()
}

/// What a packet is, in a few words.
fn title(payload: &[u8]) -> String {
    let inside = if payload.starts_with(&proto::peer::ticket::MAGIC) { payload.get(44..) } else { None };
    match (inside, proto::stun::Message::parse(payload)) {
        (Some(inside), _) => format!("to be reflected: {}", title(inside)),
        (_, Some(stun)) => format!("STUN {:?} {}", stun.class(), stun.username().unwrap_or_default()),
        _ if payload.first() == Some(&0x80) => "RTP".to_owned(),
        _ => String::from_utf8_lossy(payload).lines().next().unwrap_or_default().to_owned(),
    }
}

fn config(buddies: &[(&str, &str)], others: &str, at: Addresses, reflects: bool) -> String {
    let mut names: Vec<&str> = buddies.iter().flat_map(|(one, other)| [*one, *other]).collect();
    names.extend(others.split_whitespace());
    names.sort_unstable();
    names.dedup();
    let users: String = names.iter().map(|u| format!("  - {{ name: {u}, password: pw-{u} }}\n")).collect();
    let pairs: Vec<String> = buddies.iter().map(|(one, other)| format!("[{one}, {other}]")).collect();
    let Addresses { access, tls, proxy, relay, stun: [one, other], reflector } = at;
    let reflector =
        if reflects { format!("reflector: {{ address: \"udp:{reflector}\" }}\n") } else { String::new() };
    format!(
        "domains: [{DOMAIN}]\nusers:\n{users}listeners: [{{ address: \"udp:{proxy}\", anchor: always }}]\nproxy: {{}}\n\
         relay: {{ address: \"udp:{relay}\", ports: 20000-20999 }}\n{reflector}\
         tls: {{ certificates: [{{ certificate: hub.pem, key: hub.key }}] }}\n\
         access: {{ address: \"udp:{access}\", tls: \"tls:{tls}\", stun: [\"{one}\", \"{other}\"], buddies: [{}] }}\n",
        pairs.join(", "),
    )
}
