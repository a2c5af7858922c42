//! The new process's side: it reads what it can while the old one still carries media, and asks for the sockets last.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Estate, Offer, Remains, VERSION, inherited, wire};
use crate::admin::Ask;

/// How long the old process may take for each of its steps.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process before this one.
pub struct Predecessor {
    line: UnixStream,
    pid: u32,
    remains: Remains,
}

impl std::fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Predecessor({})", self.pid)
    }
}

impl Predecessor {
    /// Asks whoever runs behind this control socket to hand over; `None`: nobody does.
    pub fn meet(control: &Path) -> io::Result<Option<Predecessor>> {
        let mut line = match UnixStream::connect(control) {
            Ok(line) => line,
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        line.set_read_timeout(Some(PATIENCE))?;
        line.set_write_timeout(Some(PATIENCE))?;
        let mut words = serde_json::to_vec(&Ask::HandOver { version: VERSION })?;
        words.push(b'\n');
        io::Write::write_all(&mut line, &words)?;
        let offer: Offer = wire::receive::<Result<Offer, String>>(&line)?.map_err(io::Error::other)?;
        let mut bindings = Vec::new();
        for head in offer.bindings {
            let record = wire::bytes(&line, head.length)?;
            bindings.push((head.service, head.aor, record));
        }
        let listening = offer.listening.iter().filter_map(|words| words.parse().ok()).collect();
        let remains = Remains { listening, secret: offer.secret, identity: offer.identity, bindings };
        Ok(Some(Predecessor { line, pid: offer.pid, remains }))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has besides sockets and sessions.
    pub(crate) fn remains(&self) -> &Remains {
        &self.remains
    }

    /// Takes its sockets: from now on they are read by nobody until this process does.
    pub(crate) fn take(&self) -> io::Result<Vec<(u64, Vec<u8>)>> {
        wire::send(&self.line, &"sockets")?;
        let Estate { sockets, sessions } = wire::receive_estate(&self.line)?;
        inherited::leave(sockets);
        Ok(sessions)
    }

    /// All is well: it may end.
    pub fn dismiss(self) {
        let unused = inherited::close_rest();
        tracing::info!(pid = self.pid, unused, "taken over");
        if let Err(error) = wire::send(&self.line, &"done") {
            tracing::error!(%error, pid = self.pid, "the process before this one may still run: end it");
        }
    }
}
