//! Programs that run beside the test, inside its laboratory host.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that ends with the value.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Option<Running> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Running(child)),
            Err(error) if std::env::var_os("POSTERN_REQUIRE_LAB").is_some() => panic!("{program}: {error}"),
            Err(error) => {
                eprintln!("SKIPPED: {program} does not start: {error} (conformance/deps installs it)");
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Kamailio's children end with their parent only when that is asked to end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The configuration of a relay that takes commands at `ng`.
pub(crate) fn relay(networks: &str, ports: &str, ng: &str) -> String {
    format!("networks:\n{networks}relay:\n  address: udp:127.0.0.1:5090\n  ports: {ports}\n  ng: {ng}\n")
}

/// Kamailio with this configuration of the repository and its `rtpengine` module.
pub(crate) fn kamailio(config: &str) -> Option<Running> {
    let folder = std::env::temp_dir();
    let running = folder.join(format!("kamailio-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&running);
    let config = format!("{}/{config}", env!("CARGO_MANIFEST_DIR"));
    let running = running.to_string_lossy();
    let kamailio = Running::start(
        "kamailio",
        &[
            "-f",
            &config,
            "-A",
            "WITH_RTPENGINE",
            "-DD",
            "-E",
            "-m",
            "32",
            "-M",
            "4",
            "-w",
            &running,
            "-Y",
            &running,
        ],
    )?;
    Some(kamailio)
}

/// Waits until somebody listens at Kamailio's address.
pub(crate) fn listening() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::UdpSocket::bind("127.0.0.1:5060").is_ok() {
        assert!(Instant::now() < deadline, "kamailio does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}
