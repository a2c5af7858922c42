//! Two domains on the laboratory's internet, each with its own proxy, and the relay and redirect server they share:
//! the stage of most scenarios, every service a process and a host of its own.
//!
//! ```text
//!   p1        198.51.100.21   serves one.test: alice, carol        relay     198.51.100.30
//!   p2        198.51.100.22   serves two.test: bob, dave           redirect  198.51.100.40
//! ```

use std::net::{IpAddr, SocketAddr};

use super::phone::{Dialog, Phone, Voice, audio_at};
use super::story::Message;
use super::{Lab, PATIENCE, Process, postern};

/// Where P1 listens.
pub const P1: &str = "198.51.100.21";
/// Where P2 listens.
pub const P2: &str = "198.51.100.22";
/// Where the relay listens, and where its media ports are.
pub const RELAY: &str = "198.51.100.30";
/// Where the redirect server listens.
pub const REDIRECT: &str = "198.51.100.40";

const NODE_KEY: &str = "node-key: laboratory-key-0123456789abcdef\n";

/// The stage, with its services running.
pub struct TwoDomains {
    /// The proxy of one.test.
    pub p1: Process,
    /// The proxy of two.test.
    pub p2: Process,
    /// The relay of both.
    pub relay: Process,
    /// The redirect server of both.
    pub redirect: Process,
    /// The laboratory itself.
    pub lab: Lab,
}

impl TwoDomains {
    /// Builds the stage around the parties: `-s home:symmetric:alice -p bob=203.0.113.10`.
    pub fn up(parties: &str) -> Option<TwoDomains> {
        TwoDomains::with(parties, "", "")
    }

    /// As [`TwoDomains::up`], with both proxies listening for WebSocket at port 8080 besides.
    pub fn of_browsers(parties: &str) -> Option<TwoDomains> {
        TwoDomains::listening(parties, "", "", &|own| format!("  - address: ws:{own}:8080\n"))
    }

    /// As [`TwoDomains::up`], with more lines for the `proxy:` of both proxies and for the `relay:` section.
    pub fn with(parties: &str, proxy: &str, relay: &str) -> Option<TwoDomains> {
        TwoDomains::listening(parties, proxy, relay, &|_| String::new())
    }

    fn listening(
        parties: &str,
        proxy: &str,
        relay: &str,
        listeners: &dyn Fn(&str) -> String,
    ) -> Option<TwoDomains> {
        let services = format!("-p p1={P1} -p p2={P2} -p relay={RELAY} -p redirect={REDIRECT}");
        let lab = Lab::up(&format!("{services} {parties}"))?;
        let ports = if relay.contains("ports:") { "" } else { "  ports: 20000-20999\n" };
        let redirect =
            lab.service("redirect", &format!("redirect:\n  address: udp:{REDIRECT}:5060\n{NODE_KEY}"));
        let relay = format!("relay:\n  address: udp:{RELAY}:5060\n{ports}{}{NODE_KEY}", indented(relay));
        let relay = lab.service("relay", &relay);
        let service = |name: &str, own: &str, config: String| {
            let listeners = format!("listeners:\n{}", listeners(own));
            lab.service(name, &config.replacen("listeners:\n", &listeners, 1))
        };
        let p1 = service("p1", P1, proxy_config(P1, P2, "one.test", &["alice", "carol"], proxy));
        let p2 = service("p2", P2, proxy_config(P2, P1, "two.test", &["bob", "dave"], proxy));
        Some(TwoDomains { p1, p2, relay, redirect, lab })
    }

    /// A registered phone of one.test (through P1) or two.test (through P2) at `local`, an `IP:PORT` of host `user`.
    pub fn phone(&self, user: &str, local: &str) -> Phone {
        let (domain, proxy) =
            if matches!(user, "alice" | "carol") { ("one.test", P1) } else { ("two.test", P2) };
        let mut phone = Phone::new(&self.lab, user, local, user, domain, &format!("{proxy}:5060"));
        let answer = phone.register(300);
        assert!(answer.is("200 REGISTER"), "{user} could not register: {}", answer.0);
        phone
    }

    /// Waits until the relay has every port back.
    pub fn nothing_stays_lent(&self) {
        self.lab.nothing_stays_lent("relay", &self.lab.scratch().join("relay.yaml"));
    }

    /// A voice at an address of a host.
    pub fn voice(&self, host: &str, address: &str, ssrc: u32) -> Voice {
        Voice::new(self.lab.udp(host, address), ssrc)
    }
}

fn proxy_config(own: &str, other: &str, domain: &str, users: &[&str], more: &str) -> String {
    let users: String = users.iter().map(|u| format!("  - {{ name: {u}, password: pw-{u} }}\n")).collect();
    let services =
        format!("  relays: [udp:{RELAY}:5060]\n  redirect: udp:{REDIRECT}:5060\n  siblings: [{other}]\n");
    format!(
        "listeners:\n  - address: udp:{own}:5060\n  - address: tcp:{own}:5060\ndomains: [{domain}]\nusers:\n{users}proxy:\n{services}{}{NODE_KEY}",
        indented(more)
    )
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

impl Lab {
    /// Runs `postern` in a host with this configuration, and waits until it listens.
    pub fn service(&self, host: &str, config: &str) -> Process {
        let control =
            format!("control: {}\nlog: debug\n", self.scratch().join(format!("{host}.sock")).display());
        let path = self.write(&format!("{host}.yaml"), &format!("{config}{control}"));
        let mut process = self.spawn(host, &[postern(), "run", "-c", &path.to_string_lossy()]);
        process.wait_for("ready: listening", PATIENCE);
        process
    }
}

/// A call that stands: both sides' dialogs, and what each was told about the other's media.
pub struct Call {
    /// The caller's side.
    pub caller: Dialog,
    /// The callee's side.
    pub callee: Dialog,
    /// The INVITE as the callee received it.
    pub invite: Message,
    /// The 200 as the caller received it.
    pub ok: Message,
}

impl Call {
    /// A calls B, each offering PCMU at its own address.
    pub fn place(a: &mut Phone, b: &mut Phone, a_media: SocketAddr, b_media: SocketAddr) -> Call {
        Call::offering(a, b, &audio_at(a_media), &audio_at(b_media))
    }

    /// A calls B with these session descriptions.
    pub fn offering(a: &mut Phone, b: &mut Phone, offer: &str, answer: &str) -> Call {
        let mut caller = a.invite(&format!("{}@{}", b.user, b.domain), offer);
        let invite = b.expect("INVITE");
        let callee = b.accept(&invite, answer);
        let ok = a.expect_where("200 to its INVITE", |m| {
            m.is("200 INVITE") || m.is("4xx INVITE") || m.is("5xx INVITE")
        });
        assert!(ok.is("200 INVITE"), "the call was refused: {}", ok.0);
        a.confirm(&mut caller, &ok, "");
        b.expect("ACK");
        Call { caller, callee, invite, ok }
    }

    /// A sends a re-INVITE, B answers it. Returns the offer as B got it and the answer as A got it.
    pub fn renegotiate(
        &mut self,
        a: &mut Phone,
        b: &mut Phone,
        offer: &str,
        answer: &str,
    ) -> (Message, Message) {
        a.ask(&mut self.caller, "INVITE", offer, "");
        let invite = b.expect("INVITE");
        b.ok(&invite, answer);
        let ok = a.expect("200 INVITE");
        a.ask(&mut self.caller, "ACK", "", "");
        b.expect("ACK");
        (invite, ok)
    }

    /// B hangs up.
    pub fn hung_up(&mut self, a: &mut Phone, b: &mut Phone) {
        b.ask(&mut self.callee, "BYE", "", "");
        let bye = a.expect("BYE");
        a.ok(&bye, "");
        b.expect("200 BYE");
    }

    /// A hangs up.
    pub fn hang_up(&mut self, a: &mut Phone, b: &mut Phone) {
        a.ask(&mut self.caller, "BYE", "", "");
        let bye = b.expect("BYE");
        b.ok(&bye, "");
        a.expect("200 BYE");
    }
}

/// The address of a message's first stream; it must have one.
pub fn told(message: &Message) -> SocketAddr {
    message.audio().unwrap_or_else(|| panic!("no media address in {}", message.0))
}

/// An address as text.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no IP address"))
}
