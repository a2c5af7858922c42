//! A running process starts its own successor: the same binary as its file is now, with the same configuration, user and
//! environment, in the same service of systemd.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Handle;

/// How often it is asked how the successor does …
const LOOK: Duration = Duration::from_millis(20);
/// … and for how long.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts a successor, and waits until it has taken over; else says why it has not. Gives its process.
pub(crate) fn upgrade(handle: &Handle) -> Result<u32, String> {
    if std::process::id() == 1 {
        let words =
            "this process is the first of its container, which would end with it: start a new container";
        return Err(words.to_owned());
    }
    let binary = binary().map_err(|error| format!("the binary can't be found: {error}"))?;
    let arguments = ["run", "--take-over", "--config"];
    let mut child = Command::new(&binary)
        .args(arguments)
        .arg(handle.file())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{} can't be started: {error}", binary.display()))?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if handle.ending().has_succeeded() {
            return Ok(child.id());
        }
        if let Ok(Some(status)) = child.try_wait() {
            let words = format!("the new process ended ({status}), this one goes on: its log says why");
            tracing::error!(words, "upgrade");
            return Err(words);
        }
        std::thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("the new process did not take over within {} s and was ended", PATIENCE.as_secs()))
}

/// The file this process was started from, or the one that lies there now.
fn binary() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let name = path.to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(path))
}
