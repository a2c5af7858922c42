//! The smallest stage: one `postern` that is proxy and relay for everybody, at 198.51.100.20, domain sbc.test.

use std::process::Command;

use super::phone::{Phone, Voice};
use super::story::Message;
use super::{Lab, PATIENCE, Process, comes_about, peer, postern};

/// Where it listens, and where its media ports are.
pub const SBC: &str = "198.51.100.20";

/// Where that of [`Sbc::of_both_families`] listens besides.
pub const SBC6: &str = "2001:db8::20";

/// Who may register; the password is `pw-` and the name.
const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "pbx"];

/// The stage, with its service running.
pub struct Sbc {
    /// The one process.
    pub postern: Process,
    /// The laboratory itself.
    pub lab: Lab,
}

impl Sbc {
    /// Builds the stage around the parties: `-s home:symmetric:alice -p bob=203.0.113.10`.
    pub fn up(parties: &str) -> Option<Sbc> {
        Sbc::with(parties, "proxy: {}\n", "")
    }

    /// As [`Sbc::up`], with its own `proxy:` section and more lines for the `relay:` section.
    pub fn with(parties: &str, proxy: &str, relay: &str) -> Option<Sbc> {
        let lab = Lab::up(&format!("-p sbc={SBC} {parties}"))?;
        let postern = lab.service("sbc", &config(proxy, relay));
        Some(Sbc { postern, lab })
    }

    /// As [`Sbc::up`], in IPv4 and IPv6, with every call by the relay and more lines for the `relay:` section.
    pub fn of_both_families(parties: &str, relay: &str) -> Option<Sbc> {
        let lab = Lab::up(&format!("-p sbc={SBC},{SBC6} {parties}"))?;
        let networks = format!(
            "networks:\n  four: {{ bind: {SBC}, cidr: [0.0.0.0/0] }}\n  six: {{ bind: \"{SBC6}\", cidr: [\"::/0\"] }}\n"
        );
        let listeners = format!(
            "listeners:\n  - {{ address: \"udp:[{SBC6}]:5060\", network: six }}\n  - {{ address: \"udp:{SBC}:5060\", network: four }}\n"
        );
        let both = format!("networks: [four, six]\n{relay}");
        let config = config("proxy: { anchor: always }\n", &both);
        let (_, rest) = config.split_once("domains:").expect("every configuration has some");
        let postern = lab.service("sbc", &format!("{networks}{listeners}domains:{rest}"));
        Some(Sbc { postern, lab })
    }

    /// As [`Sbc::up`], with TLS at port 5061 and secure WebSocket at port 8443 besides, and its own `proxy:` section. The
    /// authority of its certificate is [`Sbc::authority`].
    pub fn secure(parties: &str, proxy: &str) -> Option<Sbc> {
        let lab = Lab::up(&format!("-p sbc={SBC} {parties}"))?;
        let folder = lab.scratch().display().to_string();
        let made = Command::new(postern()).args(["certificate", "--out", &folder, "sbc.test", SBC]).output();
        assert!(made.is_ok_and(|made| made.status.success()), "no certificate");
        let listeners = format!("listeners:\n  - address: tls:{SBC}:5061\n  - address: wss:{SBC}:8443\n");
        let shown = "tls: { certificates: [{ certificate: sbc.test.pem, key: sbc.test.key }] }\n";
        let config = config(proxy, "").replacen("listeners:\n", &listeners, 1) + shown;
        let postern = lab.service("sbc", &config);
        Some(Sbc { postern, lab })
    }

    /// Who signed the certificate of [`Sbc::secure`], as a file.
    pub fn authority(&self) -> String {
        self.lab.scratch().join("ca.pem").display().to_string()
    }

    /// Power fails, and the next process starts with the same file.
    pub fn killed_and_started(&mut self) {
        self.postern.kill();
        let file = self.lab.scratch().join("sbc.yaml");
        self.postern = self.lab.spawn("sbc", &[postern(), "run", "-c", &file.to_string_lossy()]);
        self.postern.wait_for("ready: listening", PATIENCE);
    }

    /// A registered phone at `local`, an `IP:PORT` of host `user`.
    pub fn phone(&self, user: &str, local: &str) -> Phone {
        let mut phone = self.stranger(user, local);
        let answer = phone.register(300);
        assert!(answer.is("200 REGISTER"), "{user} could not register: {}", answer.0);
        phone
    }

    /// A phone that has not registered.
    pub fn stranger(&self, host: &str, local: &str) -> Phone {
        let proxy = if local.starts_with('[') { format!("[{SBC6}]:5060") } else { format!("{SBC}:5060") };
        Phone::new(&self.lab, host, local, host, "sbc.test", &proxy)
    }

    /// Waits until the relay has every port back.
    pub fn nothing_stays_lent(&self) {
        self.lab.nothing_stays_lent("sbc", &self.lab.scratch().join("sbc.yaml"));
    }

    /// A voice at an address of a host.
    pub fn voice(&self, host: &str, address: &str, ssrc: u32) -> Voice {
        Voice::new(self.lab.udp(host, address), ssrc)
    }

    /// Starts a baresip of host `user` for so many seconds.
    pub fn baresip(&self, user: &str, seconds: u32, more: &[&str]) -> Process {
        let (bsip, seconds) = (peer("bsip"), seconds.to_string());
        let folder = self.lab.scratch().join(format!("baresip-{user}"));
        let folder = folder.to_string_lossy();
        let fixed = [
            bsip.as_str(),
            user,
            "--proxy",
            SBC,
            "--domain",
            "sbc.test",
            "--time",
            &seconds,
            "--dir",
            &folder,
        ];
        self.lab.spawn(user, &[&fixed[..], more].concat())
    }
}

impl Sbc {
    /// Waits until the baresip of this host has registered.
    pub fn registered(&self, user: &str) {
        self.lab.baresip_registered(user);
    }

    /// Waits until a call of the baresip of this host is up.
    pub fn established(&self, user: &str) {
        self.lab.baresip_established(user);
    }
}

impl Lab {
    /// Waits until the baresip that keeps its folder as `baresip-USER` has registered.
    pub fn baresip_registered(&self, user: &str) {
        // "alice@sbc.test: {0/UDP/v4} 200 OK (postern) [1 binding]"
        self.baresip_says(user, " binding");
    }

    /// Waits until a call of this baresip is up.
    pub fn baresip_established(&self, user: &str) {
        self.baresip_says(user, "Call established");
    }

    fn baresip_says(&self, user: &str, words: &str) {
        let log = self.scratch().join(format!("baresip-{user}/log"));
        let says = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(words));
        assert!(comes_about(PATIENCE, says), "{user} never says {words:?}: {}", log.display());
    }
}

/// Runs a baresip's process to its end and returns its report.
pub fn report_of(mut baresip: Process) -> serde_json::Value {
    baresip.wait(PATIENCE);
    baresip.report()
}

/// Whether an answer to an INVITE is final.
pub fn is_final(message: &Message) -> bool {
    message.status().is_some_and(|status| status >= 200)
        && message.header("CSeq").is_some_and(|c| c.ends_with("INVITE"))
}

fn config(proxy: &str, relay: &str) -> String {
    let users: String = USERS.iter().map(|u| format!("  - {{ name: {u}, password: pw-{u} }}\n")).collect();
    let ports = if relay.contains("ports:") { "" } else { "  ports: 20000-20999\n" };
    let relay: String = relay.lines().map(|line| format!("  {line}\n")).collect();
    let listeners = format!("listeners:\n  - address: udp:{SBC}:5060\n  - address: tcp:{SBC}:5060\n");
    format!(
        "{listeners}domains: [sbc.test]\nusers:\n{users}{proxy}relay:\n  address: udp:{SBC}:5090\n{ports}{relay}"
    )
}
