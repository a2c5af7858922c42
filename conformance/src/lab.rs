//! The NAT laboratory from Rust: real programs and real sockets in network namespaces, behind real NATs.
//!
//! ```no_run
//! use conformance::lab::Lab;
//! let Some(lab) = Lab::up("-p sbc=198.51.100.20 -s home:port-restricted:alice") else { return };
//! let recorder = lab.capture(&["sbc", "alice"]);
//! let socket = lab.udp("alice", "192.168.1.10:5060"); // an ordinary UdpSocket that lives in alice
//! socket.send_to(b"hello", "198.51.100.20:5060").unwrap();
//! assert_eq!(recorder.stop().at("sbc").len(), 1);
//! ```
//!
//! `conformance/lab/natlab` builds the lab and `natlab --help` explains its words. A lab ends when the [`Lab`] is
//! dropped, with everything that still runs in it. Where no lab can be had, [`Lab::up`] says so in one line and
//! returns `None`; with `POSTERN_REQUIRE_LAB=1` or `CI` set it panics instead.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub mod apart;
pub mod asterisk;
mod binary;
pub mod browser;
pub mod choir;
pub mod crew;
pub mod domains;
pub mod ng;
pub mod peers;
pub mod phone;
pub mod sbc;
pub mod storm;
pub mod story;
pub mod wire;

pub use self::binary::postern;

/// The exit code by which natlab says that this machine can't have a lab.
const IMPOSSIBLE: i32 = 77;

/// How long something that is sure to come may take on a machine that has other work. What is measured has times of its own.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again whether something has come about, but not most of the time; `false`: not in this time.
pub(crate) fn comes_about(patience: Duration, mut look: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let began = Instant::now();
        if look() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(began.elapsed().max(Duration::from_millis(20)));
    }
}

/// A laboratory that is up.
pub struct Lab {
    name: String,
    holder: Child,
    _held: Option<ChildStdin>,
    scratch: PathBuf,
    spawned: AtomicU32,
}

impl Lab {
    /// Builds the lab that `natlab up SPEC` describes (words separated by blanks), or says why there can be none.
    pub fn up(spec: &str) -> Option<Lab> {
        Lab::with_records(spec, &[])
    }

    /// As [`Lab::up`], with records for the name server that the spec's `--dns HOST` starts.
    pub fn with_records(spec: &str, records: &[&str]) -> Option<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = scratch_folder(&name);
        let mut holder = natlab(&name)
            .arg("hold")
            .args(spec.split_whitespace())
            .args(records.iter().flat_map(|record| ["--record", record]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| skipped(&format!("natlab does not start: {error}")))
            .ok()?;
        let held = holder.stdin.take();
        let mut state = String::new();
        let _ = BufReader::new(holder.stdout.take()?).read_line(&mut state);
        if state.is_empty() {
            refused(holder);
            return None;
        }
        Some(Lab { name, holder, _held: held, scratch, spawned: AtomicU32::new(0) })
    }

    /// A folder for this lab's configurations, logs and captures. It stays when the test panics.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Writes a file into the scratch folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.join(name);
        std::fs::write(&path, text).expect("the scratch folder is ours");
        path
    }

    /// Starts a program in a host. Its output goes to a log in the scratch folder; it ends with the value.
    pub fn spawn<S: AsRef<OsStr>>(&self, host: &str, argv: &[S]) -> Process {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let program = Path::new(argv[0].as_ref()).file_name().unwrap_or_default().to_string_lossy();
        let log = self.scratch.join(format!("{number}-{host}-{program}.log"));
        let output = File::create(&log).expect("the scratch folder is ours");
        let child = natlab(&self.name)
            .args(["exec", host, "--"])
            .args(argv)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file handle can be copied"))
            .stdout(output)
            .spawn()
            .expect("natlab started before");
        Process { child, log, what: format!("{program} in {host}") }
    }

    /// Runs a program in a host to its end and returns what it said.
    pub fn run<S: AsRef<OsStr>>(&self, host: &str, argv: &[S], patience: Duration) -> (ExitStatus, String) {
        let mut process = self.spawn(host, argv);
        let status = process.wait(patience);
        (status, process.output())
    }

    /// Media ports that the relay in this host's `postern` has lent, as `postern status` says.
    pub fn lent_ports(&self, host: &str, config: &Path) -> u64 {
        self.of_lanes(host, config, "ports")
    }

    /// Transactions of this host's `postern`, lingering ones too.
    pub fn transactions(&self, host: &str, config: &Path) -> u64 {
        self.of_lanes(host, config, "transactions")
    }

    /// One count of `postern status`, over all lanes.
    pub(crate) fn of_lanes(&self, host: &str, config: &Path, what: &str) -> u64 {
        let argv = [postern(), "status", "--json", "-c", &config.to_string_lossy()];
        let mut asked = self.spawn(host, &argv);
        let status = asked.wait(PATIENCE);
        assert!(status.success(), "postern status in {host}: {}", asked.output());
        let report = asked.report();
        let lanes = report["lanes"].as_array().unwrap_or_else(|| panic!("no lanes in {report}"));
        lanes.iter().filter_map(|lane| lane[what].as_u64()).sum()
    }

    /// Waits until nothing is lent any more: what was given back rests for a while.
    pub fn nothing_stays_lent(&self, host: &str, config: &Path) {
        let mut lent = 0;
        let is_back = comes_about(PATIENCE, || {
            lent = self.lent_ports(host, config);
            lent == 0
        });
        assert!(is_back, "{lent} ports stay lent in {host}");
    }

    /// A UDP socket that lives in a host.
    pub fn udp(&self, host: &str, address: &str) -> UdpSocket {
        let address: SocketAddr = address.parse().unwrap_or_else(|_| panic!("{address} is no IP:PORT"));
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let ended = natlab(&self.name)
            .args(["lend", host, &address.ip().to_string(), &address.port().to_string()])
            .stdin(OwnedFd::from(theirs))
            .output()
            .expect("natlab started before");
        assert!(
            ended.status.success(),
            "no socket {address} in {host}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
        UdpSocket::from(received_descriptor(&ours))
    }

    /// Makes a site's router forget every mapping; with an address, moves its WAN side there.
    pub fn rebind(&self, site: &str, address: Option<Ipv4Addr>) {
        let moved = address.map(|a| a.to_string());
        let more = moved.iter().flat_map(|a| ["--addr", a.as_str()]);
        self.command(&["rebind", site].into_iter().chain(more).collect::<Vec<_>>());
    }

    /// Changes a running site: `lab.set("home", "loss=5")`.
    pub fn set(&self, site: &str, option: &str) {
        self.command(&["set", site, option]);
    }

    /// Has a site's router drop what comes from this IPv4 address, or from one UDP port of it; its NAT stays as it is.
    pub fn deafen(&self, site: &str, source: &str) {
        let of = match source.split_once(':') {
            Some((ip, port)) => format!("ip saddr {ip} udp sport {port}"),
            None => format!("ip saddr {source}"),
        };
        self.nft(
            site,
            &format!(
                "add table ip deaf; add chain ip deaf come {{ type filter hook prerouting priority -500; }}; \
                 add rule ip deaf come iifname wan0 {of} drop"
            ),
        );
    }

    /// Lets in again whatever [`Lab::deafen`] kept out.
    pub fn undeafen(&self, site: &str) {
        self.nft(site, "delete table ip deaf");
    }

    fn nft(&self, site: &str, rules: &str) {
        let (ended, said) = self.run(&format!("r-{site}"), &["nft", rules], PATIENCE);
        assert!(ended.success(), "nft: {said}");
    }

    /// Captures everything at these hosts from now on.
    pub fn capture(&self, hosts: &[&str]) -> Recorder {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let folder = self.scratch.join(format!("{number}-capture"));
        let mut child = natlab(&self.name)
            .arg("capture")
            .arg(&folder)
            .args(hosts)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("natlab started before");
        let mut ready = String::new();
        let _ = BufReader::new(child.stdout.take().expect("it was piped")).read_line(&mut ready);
        assert_eq!(ready, "ready\n", "the capture at {hosts:?} did not start");
        let hosts = hosts.iter().map(|h| h.to_string()).collect();
        Recorder { process: Process { child, log: PathBuf::new(), what: "capture".into() }, folder, hosts }
    }

    fn command(&self, argv: &[&str]) {
        let ended = natlab(&self.name).args(argv).output().expect("natlab started before");
        assert!(ended.status.success(), "natlab {argv:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self._held = None; // its stdin ends, so it tears the lab down
        comes_about(Duration::from_secs(5), || !matches!(self.holder.try_wait(), Ok(None)));
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if std::thread::panicking() {
            let _ =
                writeln!(std::io::stderr(), "the laboratory's logs and captures: {}", self.scratch.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
    }
}

/// A program that runs in the lab. Dropping it ends it.
pub struct Process {
    child: Child,
    log: PathBuf,
    what: String,
}

impl Process {
    /// Its PID, the same inside and outside of the lab.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an operator would.
    pub fn terminate(&mut self) {
        if self.is_running() {
            let _ = Command::new("kill").arg(self.pid().to_string()).status();
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end, not longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        self.ended(patience)
            .unwrap_or_else(|| panic!("{} did not end in {patience:?}:\n{}", self.what, self.output()))
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        let mut text = Vec::new();
        let _ = File::open(&self.log).and_then(|mut file| file.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last line it printed that is a JSON object.
    pub fn report(&self) -> serde_json::Value {
        let output = self.output();
        let report = output
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok().filter(serde_json::Value::is_object));
        report.unwrap_or_else(|| panic!("{} printed no report:\n{output}", self.what))
    }

    /// The JSON it printed over several lines, among others that it said.
    pub fn document(&self) -> serde_json::Value {
        let output = self.output();
        // Only the outermost bracket stands at the beginning of a line.
        let begins = |opening| match output.starts_with(opening) {
            true => Some(0),
            false => output.rfind(&format!("\n{opening}")),
        };
        let at = ["[\n", "{\n"].into_iter().filter_map(begins).max().unwrap_or(output.len());
        let mut read = serde_json::Deserializer::from_str(&output[at..]).into_iter();
        let read = read.next().and_then(Result::ok);
        read.unwrap_or_else(|| panic!("{} printed no JSON:\n{output}", self.what))
    }

    /// Waits until its output contains a text.
    pub fn wait_for(&mut self, text: &str, patience: Duration) {
        self.wait_until(&format!("said {text:?}"), patience, |said| said.contains(text));
    }

    /// Waits until it has done something that its output tells.
    pub(crate) fn wait_until(&mut self, what: &str, patience: Duration, tells: impl Fn(&str) -> bool) {
        comes_about(patience, || {
            // What it says last is heard, too.
            let has_ended = !self.is_running();
            tells(&self.output()) || has_ended
        });
        let output = self.output();
        assert!(tells(&output), "{} never {what}:\n{output}", self.what);
    }

    /// Waits until it has bound this UDP port.
    pub fn wait_for_port(&mut self, program: &str, port: u16, patience: Duration) {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        // The name changes last on the way there: from then on its sockets are those of the host's namespace.
        let bound = || {
            let has = |table: &str| read(table).contains(&format!(":{port:04X} "));
            read("comm").trim() == program && ["net/udp", "net/udp6"].into_iter().any(has)
        };
        comes_about(patience, || bound() || !self.is_running());
        assert!(bound(), "{} never bound UDP {port}:\n{}", self.what, self.output());
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        comes_about(patience, || !self.is_running());
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        if self.ended(Duration::from_secs(2)).is_none() {
            self.kill();
        }
    }
}

/// A capture that is running.
pub struct Recorder {
    process: Process,
    folder: PathBuf,
    hosts: Vec<String>,
}

impl Recorder {
    /// Waits until it has captured such a packet.
    pub fn sees(&self, what: &str, fits: impl Fn(&wire::Packet) -> bool) {
        self.sees_times(1, what, fits);
    }

    /// Waits until it has captured so many of them.
    pub fn sees_times(&self, count: usize, what: &str, fits: impl Fn(&wire::Packet) -> bool) {
        let sees = comes_about(PATIENCE, || self.so_far().filter(&fits).len() >= count);
        assert!(sees, "not {count} times {what}\n{}", peers::told(&self.so_far()));
    }

    /// What it has captured by now.
    pub fn so_far(&self) -> wire::Wire {
        wire::Wire::read(&self.folder, &self.hosts)
    }

    /// Ends the capture and reads it.
    pub fn stop(mut self) -> wire::Wire {
        std::thread::sleep(Duration::from_millis(50)); // what was just sent is still on its way
        self.process.terminate();
        self.process.wait(PATIENCE);
        self.so_far()
    }
}

/// A program of `conformance/peers`.
pub fn peer(name: &str) -> String {
    format!("{}/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn natlab(name: &str) -> Command {
    let mut command = Command::new(format!("{}/lab/natlab", env!("CARGO_MANIFEST_DIR")));
    command.env("NATLAB", name);
    command
}

fn scratch_folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("postern-lab-{name}"));
    std::fs::create_dir_all(&folder).expect("temporary files can be written");
    folder
}

fn refused(holder: Child) {
    let ended = holder.wait_with_output().expect("natlab ends when it refuses");
    let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    assert_eq!(ended.status.code(), Some(IMPOSSIBLE), "the lab could not be built: {why}");
    skipped(&why);
}

/// One line past the test harness's capturing of output, or a panic where the lab is a must.
pub fn skipped(why: &str) {
    let required = ["POSTERN_REQUIRE_LAB", "CI"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0"));
    assert!(!required, "the laboratory is required here: {why}");
    let test = std::thread::current().name().unwrap_or("a laboratory test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

fn received_descriptor(from: &UnixStream) -> OwnedFd {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty())
        .expect("natlab lends a socket");
    let lent = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    lent.expect("natlab lends a socket")
}
