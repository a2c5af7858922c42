//! The old process's side, and how it ends.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::sync::Notify;

use super::{
    BindingHead, Estate, Gift, Heirloom, Offer, Purpose, Remains, VERSION, inherited, systemd, wire,
};
use crate::server::Handle;

/// How long the new process may take to read its configuration and the store, and to start its threads.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is under way inside the process when SIP is read no more is done by then.
const SETTLES: Duration = Duration::from_millis(50);

/// How a process ends that has handed over, or tried to.
#[derive(Debug)]
pub enum Outcome {
    /// Another one goes on.
    Succeeded,
    /// The new one gave up when it had everything: these sessions wait to be served again, and the sockets are
    /// [`inherited`] already.
    TakenBack(Remains, Vec<(u64, Vec<u8>)>),
}

/// Whether the process ends, and why.
#[derive(Debug, Default)]
pub struct Ending {
    under_way: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
    bell: Notify,
    succeeded: AtomicBool,
}

impl Ending {
    /// Waits until there is one.
    pub async fn comes(&self) {
        self.bell.notified().await;
    }

    /// What it is.
    pub fn take(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    /// Whether another process goes on.
    pub fn has_succeeded(&self) -> bool {
        self.succeeded.load(Ordering::Acquire)
    }

    /// Whether somebody is taking over just now.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    fn set(&self, outcome: Outcome) {
        self.succeeded.store(matches!(outcome, Outcome::Succeeded), Ordering::Release);
        *self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(outcome);
        self.bell.notify_one();
    }
}

/// Hands everything over to whoever asks at the other end, unless it may not, or breaks off.
pub(crate) fn give(line: &UnixStream, handle: &Handle, version: u32) -> io::Result<()> {
    let other = getsockopt(line, sockopt::PeerCredentials)?;
    let own = nix::unistd::geteuid().as_raw();
    let refusal = if other.uid() != own && other.uid() != 0 {
        format!("user {} may not take over from user {own}", other.uid())
    } else if version != VERSION {
        format!("hand-over {version} is not spoken here, but {VERSION}: stop this one and start the other")
    } else if handle.ending().under_way.swap(true, Ordering::AcqRel) {
        "another process is taking over".to_owned()
    } else {
        tracing::info!(pid = other.pid(), "a new process takes over");
        let done = hand_over(line, handle, other.pid());
        handle.ending().under_way.store(false, Ordering::Release);
        return done;
    };
    wire::send(line, &Err::<Offer, String>(refusal))
}

fn hand_over(line: &UnixStream, handle: &Handle, heir: i32) -> io::Result<()> {
    line.set_read_timeout(Some(PATIENCE))?;
    line.set_write_timeout(Some(PATIENCE))?;
    handle.freeze();
    std::thread::sleep(SETTLES);
    handle.lend_store();
    let asked = offer(line, handle).and_then(|()| wire::receive::<String>(line));
    if let Err(error) = asked {
        tracing::warn!(%error, "the new process gave up: this one goes on");
        handle.thaw();
        return Err(error);
    }
    let estate = estate(handle.surrender(), handle.doors());
    let done = wire::send_estate(line, &estate).and_then(|()| wire::receive::<String>(line));
    match &done {
        Ok(_) => {
            systemd::tell(&format!("MAINPID={heir}"));
            handle.ending().set(Outcome::Succeeded);
        }
        Err(error) => {
            tracing::error!(%error, "the new process gave up: this one starts again");
            inherited::leave(estate.sockets);
            let bindings = handle.unstored_bindings();
            let named = |(service, aor, record): (&str, _, _)| (service.to_owned(), aor, record);
            let remains = Remains {
                listening: handle.listening(),
                secret: handle.secret(),
                identity: handle.identity(),
                bindings: bindings.into_iter().map(named).collect(),
            };
            handle.ending().set(Outcome::TakenBack(remains, estate.sessions));
        }
    }
    done.map(drop)
}

fn offer(mut line: &UnixStream, handle: &Handle) -> io::Result<()> {
    let records = handle.unstored_bindings();
    let heads = records.iter().map(|(service, aor, record)| BindingHead {
        service: (*service).to_owned(),
        aor: aor.clone(),
        length: record.len(),
    });
    let offer = Offer {
        version: VERSION,
        pid: std::process::id(),
        listening: handle.listening().iter().map(ToString::to_string).collect(),
        secret: handle.secret(),
        identity: handle.identity(),
        bindings: heads.collect(),
    };
    wire::send(line, &Ok::<Offer, String>(offer))?;
    records.iter().try_for_each(|(.., record)| io::Write::write_all(&mut line, record))
}

fn estate(gifts: Vec<Gift>, doors: Vec<std::net::TcpListener>) -> Estate {
    let mut estate = Estate::default();
    let mut put = |purpose, local: io::Result<_>, socket| {
        if let Ok(local) = local {
            estate.sockets.push(Heirloom { purpose, local, socket });
        }
    };
    for door in doors {
        put(Purpose::Streams, door.local_addr(), door.into());
    }
    for gift in gifts {
        for socket in gift.listeners {
            put(Purpose::Datagrams, socket.local_addr(), socket.into());
        }
        for socket in gift.media {
            put(Purpose::Media, socket.local_addr(), socket.into());
        }
        estate.sessions.extend(gift.sessions);
    }
    estate
}
