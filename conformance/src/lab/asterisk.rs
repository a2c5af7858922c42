//! Asterisk in the laboratory, from Debian's sid in a folder of its own (`conformance/peers/asterisk`): made once, kept
//! between runs, and skipped with one loud line where it can't be had.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{IMPOSSIBLE, Lab, PATIENCE, Process, peer, skipped};

/// An Asterisk that runs in a host of the lab. Dropping it ends it.
pub struct Asterisk {
    process: Process,
    folder: PathBuf,
}

/// The folder it is unpacked in. The first to ask waits some minutes for it.
pub fn root() -> Option<&'static str> {
    static ROOT: OnceLock<Option<String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let made = Command::new(peer("asterisk/setup")).output().expect("setup is part of the source");
        let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        match made.status.code() {
            Some(0) => Some(String::from_utf8_lossy(&made.stdout).trim().to_owned()),
            Some(IMPOSSIBLE) => {
                skipped(&why);
                None
            }
            _ => panic!("asterisk/setup failed: {why}"),
        }
    });
    root.as_deref()
}

impl Lab {
    /// Starts an Asterisk at this address of a host, with these additions to `pjsip.conf` and `extensions.conf` (see
    /// `run-asterisk` for what is there anyway).
    pub fn asterisk(&self, host: &str, ip: &str, pjsip: &str, extensions: &str) -> Option<Asterisk> {
        let root = root()?;
        let folder = self.scratch().join(format!("asterisk-{host}"));
        std::fs::create_dir_all(&folder).expect("the scratch folder is ours");
        for (name, text) in [("pjsip.more", pjsip), ("extensions.more", extensions)] {
            std::fs::write(folder.join(name), text).expect("the scratch folder is ours");
        }
        let run = peer("asterisk/run-asterisk");
        let mut process = self.spawn(host, &[&run, ip, root, &folder.to_string_lossy()]);
        process.wait_for_port("asterisk", 5060, PATIENCE);
        Some(Asterisk { process, folder })
    }
}

impl Asterisk {
    /// What its console says to a command.
    pub fn console(&self, command: &str) -> String {
        let socket = self.folder.join("run/asterisk.ctl");
        let deadline = Instant::now() + PATIENCE;
        let mut console = loop {
            match UnixStream::connect(&socket) {
                Ok(console) => break console,
                Err(error) => {
                    assert!(Instant::now() < deadline, "{}: {error}\n{}", socket.display(), self.said())
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        console.write_all(format!("cli quit after {command}\0").as_bytes()).expect("it listens");
        let mut said = Vec::new();
        let _ = console.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until its console answers a command with this text.
    pub fn comes_to(&self, command: &str, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let said = self.console(command);
            if said.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{command}: never {text:?}:\n{said}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its log so far.
    pub fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log/full")).unwrap_or_default();
        self.process.output() + &log
    }
}
