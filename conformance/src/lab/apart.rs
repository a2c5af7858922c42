//! Every service a process of its own, all in one lab host with many addresses, and the test inside with them: so it has
//! ordinary sockets of every kind, may kill processes and read their memory, and its ports never clash with anybody's.
//!
//! ```no_run
//! # use conformance::lab::apart::Apart;
//! # fn a_proxy_that_dies() {
//! let Some(stage) = Apart::inside("a_proxy_that_dies") else { return };
//! let mut p1 = stage.p1(&["alice", "bob"]);
//! p1.kill();
//! p1.restart();
//! # }
//! ```

use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::domains::{P1, P2, REDIRECT, RELAY};
use super::phone::Phone;
use super::{Lab, postern};

/// Where honest phones are.
pub const HOME: &str = "203.0.113.10";
/// Where those they call are.
pub const OFFICE: &str = "203.0.113.11";
/// Whoever means harm.
pub const STRANGER: &str = "203.0.113.66";
/// Whom they mean to harm.
pub const VICTIM: &str = "203.0.113.77";
/// The key our nodes share, as it stands in their configurations.
pub const NODE_KEY: &str = "laboratory-key-0123456789abcdef";

const FOLDER: &str = "POSTERN_TEST_INSIDE";
const BINARY: &str = "POSTERN_TEST_BINARY";
/// No test of this kind takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The stage, seen from inside.
pub struct Apart {
    folder: PathBuf,
}

impl Apart {
    /// Outside: runs the test of this name once more inside a lab, panics as it does, and returns `None`; so it does,
    /// loudly, where no lab can be had. Inside: the stage.
    pub fn inside(test: &str) -> Option<Apart> {
        if let Some(folder) = std::env::var_os(FOLDER) {
            return Some(Apart { folder: folder.into() });
        }
        let lab = Lab::up(&format!(
            "-p here={}",
            [P1, P2, RELAY, REDIRECT, HOME, OFFICE, STRANGER, VICTIM].join(",")
        ))?;
        let (folder, binary) =
            (format!("{FOLDER}={}", lab.scratch().display()), format!("{BINARY}={}", postern()));
        let own = std::env::current_exe().expect("a test has a path");
        let again = ["env", &folder, &binary, &own.to_string_lossy(), test, "--exact", "--nocapture"];
        let (status, output) = lab.run("here", &again, PATIENCE);
        assert!(status.success() && output.contains("1 passed"), "inside the lab:\n{output}");
        None
    }

    /// Where this test may write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The proxy of one.test, which serves these users; their passwords are `pw-` and the name.
    pub fn p1(&self, users: &[&str]) -> Service {
        self.service("p1", &proxy(P1, P2, "one.test", users))
    }

    /// The proxy of two.test.
    pub fn p2(&self, users: &[&str]) -> Service {
        self.service("p2", &proxy(P2, P1, "two.test", users))
    }

    /// The relay of both.
    pub fn relay(&self) -> Service {
        self.service("relay", &format!("relay:\n  address: udp:{RELAY}:5060\n  ports: 20000-20999\n"))
    }

    /// The redirect server of both.
    pub fn redirect(&self) -> Service {
        self.service("redirect", &format!("redirect:\n  address: udp:{REDIRECT}:5060\n"))
    }

    /// A postern with this configuration, under this name.
    pub fn service(&self, name: &str, config: &str) -> Service {
        let path = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        let (store, control) = (path("redb"), path("sock"));
        let common = format!(
            "node-key: {NODE_KEY}\nstore: {}\ncontrol: {}\nlog: warn\n",
            store.display(),
            control.display()
        );
        std::fs::write(path("yaml"), format!("{config}{common}")).expect("the scratch folder is ours");
        let child = run(&path("yaml"), &path("log"));
        Service { name: name.into(), config: path("yaml"), log: path("log"), control, child }
    }

    /// A phone of one.test that has registered.
    pub fn phone(&self, user: &str, local: &str) -> Phone {
        registered(user, local, "one.test", P1)
    }

    /// A phone of two.test that has registered.
    pub fn phone_of_two(&self, user: &str, local: &str) -> Phone {
        registered(user, local, "two.test", P2)
    }
}

fn registered(user: &str, local: &str, domain: &str, proxy: &str) -> Phone {
    let mut phone = Phone::at(udp(local), user, domain, &format!("{proxy}:5060"));
    let answer = phone.register(3600);
    assert!(answer.is("200 REGISTER"), "{user} could not register: {}", answer.0);
    phone
}

/// A socket at an `IP:PORT` of the stage.
pub fn udp(address: &str) -> UdpSocket {
    UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn proxy(own: &str, other: &str, domain: &str, users: &[&str]) -> String {
    let users: String = users.iter().map(|u| format!("  - {{ name: {u}, password: pw-{u} }}\n")).collect();
    format!(
        "listeners:\n  - address: udp:{own}:5060\n  - address: tcp:{own}:5060\ndomains: [{domain}]\nusers:\n{users}proxy:\n  \
         relays: [udp:{RELAY}:5060]\n  redirect: udp:{REDIRECT}:5060\n  siblings: [{other}]\n"
    )
}

/// A `postern` that runs. Dropping it ends it.
pub struct Service {
    name: String,
    config: PathBuf,
    log: PathBuf,
    /// Its control socket.
    pub control: PathBuf,
    child: Child,
}

impl Service {
    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours, and it ran");
        self.child.wait().expect("it is ours");
    }

    /// Stops it where it is, or has it go on: what is sent to it meanwhile waits in its sockets.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "{} can't be told {signal}", self.name);
    }

    /// Starts it again, by the same configuration and store.
    pub fn restart(&mut self) {
        self.child = run(&self.config, &self.log);
    }

    /// What another `postern` command says to it, by its configuration; it must succeed.
    pub fn tell(&self, words: &[&str]) -> String {
        let asked = Command::new(binary()).args(words).arg("-c").arg(&self.config).output();
        let asked = asked.expect("the binary is there");
        assert!(asked.status.success(), "postern {words:?} to {}: {asked:?}\n{}", self.name, self.said());
        String::from_utf8_lossy(&asked.stdout).into_owned()
    }

    /// What `postern status --json` says.
    pub fn status(&self) -> serde_json::Value {
        let asked = Command::new(binary()).args(["status", "--json", "-c"]).arg(&self.config).output();
        let asked = asked.expect("the binary is there");
        assert!(asked.status.success(), "postern status of {}: {asked:?}\n{}", self.name, self.said());
        serde_json::from_slice(&asked.stdout).expect("postern status prints JSON")
    }

    /// One number of its lanes, summed.
    pub fn count(&self, what: &str) -> u64 {
        let status = self.status();
        let lanes = status["lanes"].as_array().unwrap_or_else(|| panic!("no lanes in {status}"));
        lanes.iter().map(|lane| lane[what].as_u64().unwrap_or_else(|| panic!("no {what} in {status}"))).sum()
    }

    /// Waits until a number of its lanes is what it should be.
    pub fn comes_to(&self, what: &str, wanted: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let count = self.count(what);
            if count == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{}: {count} {what} instead of {wanted}: {}",
                self.name,
                self.status()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("{} is not there any more:\n{}", self.name, self.said()))
    }

    /// Its log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let last: Vec<_> = said.lines().rev().take(20).collect();
            eprintln!("the last words of {}, newest first: {last:#?}", self.name);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `postern` under test, inside the stage.
pub fn binary() -> PathBuf {
    std::env::var_os(BINARY).expect("set outside").into()
}

/// Starts a `postern` and waits until it is ready.
fn run(config: &Path, log: &Path) -> Child {
    let output = File::create(log).expect("the scratch folder is ours");
    let mut child = Command::new(binary())
        .args(["run", "-c"])
        .arg(config)
        .stdin(Stdio::null())
        .stderr(output.try_clone().expect("a file handle can be copied"))
        .stdout(output)
        .spawn()
        .expect("the binary is there");
    let deadline = Instant::now() + Duration::from_secs(15);
    while !std::fs::read_to_string(log).is_ok_and(|said| said.contains("ready: ")) {
        let running = matches!(child.try_wait(), Ok(None));
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(running && Instant::now() < deadline, "{} does not start:\n{}", config.display(), said());
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}
