//! A running process takes in a changed file. All that can fail comes first: the file is read and checked, new sockets are
//! opened. Then everything is swapped, and what is gone from the file closes when nothing needs it any more.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use proto::node::Transport;
use proxy::config::Standing;

use super::handle::switch_kernel;
use super::sockets::{open_tcp, open_udp};
use super::{Handle, StartError};
use crate::accounts::Accounts;
use crate::config::schema::{File, Listener as Wanted};
use crate::config::values::SipAddress;
use crate::config::{ConfigError, Settings, lower, shield, tls};
use crate::lanes::lane::Listener;
use crate::lanes::post::Seats;
use crate::lanes::seat::{Command, Configs};
use crate::net::outside::Errand;
use crate::{journal, memory, reload};

/// How often it is asked whether what is closing is still needed.
const LOOK: Duration = Duration::from_millis(500);

/// Sockets that were opened for a reload.
#[derive(Default)]
struct Opened {
    /// For a lane each.
    datagrams: Vec<(usize, Listener)>,
    streams: Vec<(Transport, SocketAddr, TcpListener)>,
}

impl Handle {
    /// Reads the configuration again, and swaps it in when it is right; a bad file, or a port that can't be had, changes
    /// nothing. The words name what stays as it was until the next start ([`reload::keep`]).
    pub fn reload(&self) -> Result<Vec<String>, ConfigError> {
        let read = Settings::load(&self.file).and_then(|settings| self.reconfigure(settings));
        match &read {
            Ok(left) => {
                tracing::info!(file = %self.file.display(), "configuration reloaded");
                left.iter().for_each(|words| tracing::warn!(words, "reload"));
            }
            Err(error) => tracing::error!(%error, "the configuration was not reloaded; the old one stays"),
        }
        memory::give_back();
        read
    }

    pub(super) fn running(&self) -> MutexGuard<'_, File> {
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn reconfigure(&self, mut settings: Settings) -> Result<Vec<String>, ConfigError> {
        if self.ending().is_under_way() {
            let what = "another process is taking over".to_owned();
            let remedy = "it reads the file itself".to_owned();
            return Err(ConfigError { file: self.file.clone(), place: None, what, remedy });
        }
        let mut running = self.running();
        settings.give_other_ports(&running);
        let left = reload::keep(&running, &mut settings.file);
        let opened = self.open(&running, &mut settings.file).map_err(|error| ConfigError {
            file: self.file.clone(),
            place: error.at.and_then(|at| settings.place_of(at)),
            what: error.what,
            remedy: error.remedy,
        })?;
        self.swap(&settings);
        self.listen(opened);
        let closing = settings.file.listeners.iter().filter(|wanted| wanted.standing == Standing::Closing);
        for SipAddress { transport, addr: local } in closing.map(|wanted| wanted.address) {
            self.belongings.doors.forget((transport, local));
            self.errand(Errand::Refuse { transport, local });
        }
        *running = settings.file;
        drop(running);
        self.close_by_and_by();
        Ok(left)
    }

    /// Everything but sockets.
    fn swap(&self, settings: &Settings) {
        let accounts = Arc::new(Accounts::new(lower::users(settings)));
        for tables in self.tables.values() {
            tables.reconfigure(&accounts, shield::policy(settings));
        }
        self.keyroom.swap(tls::lower(settings));
        self.history.rules().swap(lower::record_rules(settings));
        journal::show(settings.file.log);
        self.configure(settings);
        let mut kept = self.settings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.clone_from(settings);
        kept.forget_users();
    }

    fn configure(&self, settings: &Settings) {
        let configs = Configs {
            proxy: lower::proxy(settings, &self.keys).map(Arc::new),
            relay: lower::relay(settings, &self.keys),
        };
        switch_kernel(&self.kernel, settings);
        for mailbox in self.post.mailboxes() {
            mailbox.command(Command::Reconfigure(configs.clone()));
        }
    }

    /// Opens the sockets of listeners that have none; those that were opened close again when one can't be.
    fn open(&self, running: &File, wanted: &mut File) -> Result<Opened, StartError> {
        let mut opened = Opened::default();
        let Some(seats) = self.seats.as_ref().filter(|_| wanted.proxy.is_some()) else { return Ok(opened) };
        for (index, listener) in wanted.listeners.iter_mut().enumerate() {
            let before = running.listeners.get(index).map(|listener| listener.standing);
            if needs_a_socket(listener, before) {
                opened.add(listener, seats)?;
            }
        }
        let places = wanted.listeners.len();
        if places > usize::from(u8::MAX) + 1 {
            let what = format!("this process has listened on {places} addresses, and knows 256 at most");
            let remedy = "restart it: closed ones are forgotten then".into();
            return Err(StartError { what, remedy, at: None });
        }
        Ok(opened)
    }

    fn listen(&self, opened: Opened) {
        let Some(seats) = &self.seats else { return };
        for (lane, listener) in opened.datagrams {
            self.serve((Transport::Udp, listener.local), seats);
            self.post.mailbox(lane).command(Command::Listen(listener));
        }
        for (transport, local, listener) in opened.streams {
            self.serve((transport, local), seats);
            self.belongings.doors.keep((transport, local), &listener);
            self.errand(Errand::Listen { transport, local, listener });
        }
    }

    fn serve(&self, at: (Transport, SocketAddr), seats: &Seats) {
        if !self.post.serve(at, seats.clone()) {
            tracing::error!(local = %at.1, "too many addresses in the life of this process: restart it");
        }
    }

    pub(super) fn errand(&self, errand: Errand) {
        if let Some(outside) = self.outside.upgrade() {
            outside.leave(errand);
        }
    }

    /// Has a thread look after what is closing, unless one does.
    fn close_by_and_by(&self) {
        let closing = self.running().listeners.iter().any(|wanted| wanted.standing == Standing::Closing);
        if !closing || self.is_closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let handle: Weak<Handle> = self.own.clone();
        let body = move || {
            while handle.upgrade().is_some_and(|handle| handle.close_what_is_done()) {
                std::thread::sleep(LOOK);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("closing".into()).spawn(body) {
            self.is_closing.store(false, Ordering::Release);
            tracing::error!(%error, "nobody looks after listeners that are gone: they stay until the next reload");
        }
    }

    /// Closes what nothing needs any more; whether anything is left.
    fn close_what_is_done(&self) -> bool {
        let lanes = self.lanes();
        let mut running = self.running();
        let closing = running.listeners.iter().filter(|wanted| wanted.standing == Standing::Closing);
        let closing: Vec<SipAddress> = closing.map(|wanted| wanted.address).collect();
        let all_told = lanes.len() == self.post.mailboxes().count();
        // Who has not said so has not heard of it yet.
        let free = |address: &SipAddress| {
            let mut told = lanes.iter().flat_map(|lane| &lane.closing).filter(|told| told.0 == *address);
            all_told && told.clone().next().is_some() && told.all(|(_, needed_by)| *needed_by == 0)
        };
        let done: Vec<SipAddress> = closing.iter().copied().filter(free).collect();
        if !done.is_empty() {
            self.close(&mut running, &done);
        }
        let left = done.len() < closing.len();
        self.is_closing.store(left, Ordering::Release);
        left
    }

    fn close(&self, running: &mut File, done: &[SipAddress]) {
        reload::close(running, done);
        let mut settings = self.settings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        settings.file.clone_from(running);
        self.configure(&settings);
        for SipAddress { transport, addr: local } in done.iter().copied() {
            tracing::info!(%transport, %local, "closed: nothing needs it any more");
            self.post.leave((transport, local));
            match transport {
                Transport::Udp => {
                    self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Leave(local)));
                }
                _ => self.errand(Errand::Leave { transport, local }),
            }
        }
    }
}

/// A new one; one that was closed; and one that has taken in no connections for a while.
fn needs_a_socket(wanted: &Wanted, before: Option<Standing>) -> bool {
    wanted.standing == Standing::Open
        && match before {
            None | Some(Standing::Closed) => true,
            Some(Standing::Closing) => wanted.address.transport != Transport::Udp,
            Some(Standing::Open) => false,
        }
}

impl Opened {
    /// Opens one; a port 0 becomes the port that was given.
    fn add(&mut self, wanted: &mut Wanted, seats: &Seats) -> Result<(), StartError> {
        if wanted.address.transport == Transport::Udp {
            for (seat, (socket, local)) in seats.iter().zip(open_udp(wanted.address, seats.len())?) {
                wanted.address.addr = local;
                self.datagrams.push((seat.lane, Listener { socket, local, seats: seats.clone() }));
            }
            return Ok(());
        }
        let listener = open_tcp(wanted.address)?;
        wanted.address.addr = listener.local_addr().unwrap_or(wanted.address.addr);
        self.streams.push((wanted.address.transport, wanted.address.addr, listener));
        Ok(())
    }
}
