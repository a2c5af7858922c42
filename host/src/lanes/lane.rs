//! A lane: one thread that owns services, the UDP listeners in front of them, and, for a relay, its media ports.
//!
//! Its round: wait for sockets, mailbox or deadline; read a batch; let the services handle it; send what they want in
//! batches. Time is read once a round. A message for another service on the same lane never leaves the thread. Media
//! takes the short way: [`MediaPath::turn`] asks the relay for each packet, and nothing else of this file is touched.

mod arriving;
mod doors;
mod leaving;
mod listening;
mod succeeded;
mod wishes;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use proto::event::Event;
use proto::lobby::{Arrival, Lobby};
use proto::node::{Input, Output};

use self::doors::Doors;
use self::leaving::Outgoing;
use super::mailbox::Mailbox;
use super::media::{self, MediaPath, Wait, epoll_timeout};
use super::mirror::Mirror;
use super::pace::Pace;
use super::post::{PostOffice, Seats};
use super::seat::{Command, LaneReport, Seat};
use crate::allocator::thread_cache;
use crate::capture::Recorder;
use crate::events::Ring;
use crate::kernel::Handed;
use crate::net::Outside;
use crate::net::batch::{Receiver, Sender};

/// Datagrams per system call.
const BATCH: usize = 32;
/// The largest datagram there is.
const DATAGRAM: usize = 65_535;
/// Batches read from one socket before the others get their turn.
const ROUNDS: usize = 4;
/// New requests that are served before the sockets are read again: twice what a busy lane lets gather.
const TURNS: usize = 24;
/// The same while a socket has more to read than was read.
const TURNS_BEHIND: usize = 1;
/// What a burst of work took goes back to the system after so long without any.
const REST: Duration = Duration::from_secs(36);
/// What the mailbox is called in epoll's answers.
const MAILBOX: u64 = u64::MAX;
/// Listeners that are read without asking first which of them has something.
const FEW: usize = 4;

/// A listener of this lane.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: UdpSocket,
    /// Its address.
    pub local: SocketAddr,
    /// Who is served behind it.
    pub seats: Seats,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    name: String,
    index: usize,
    seats: Vec<Seat>,
    listeners: Vec<Listener>,
    outgoing: Vec<Vec<Outgoing>>,
    epoll: Epoll,
    mailbox: Arc<Mailbox>,
    post: Arc<PostOffice>,
    outside: Arc<Outside>,
    ring: Arc<Ring>,
    receiver: Receiver,
    sender: Sender,
    /// Media ports, and the seat of the relay they belong to.
    media: Option<(usize, Box<dyn MediaPath>)>,
    /// What a reflector's packets pass through, and its seat.
    mirror: Option<(usize, Mirror)>,
    /// A listener has more than this round has read.
    behind: bool,
    /// Where new work waits, and the seat of the proxy or access server it is for.
    lobby: Option<(usize, Lobby)>,
    /// What this round still has to hand to services.
    inbox: VecDeque<(usize, Input)>,
    wanted: Vec<Output>,
    pace: Pace,
    /// Listeners are not read: another process is about to have them.
    frozen: bool,
    report: LaneReport,
    running: bool,
    /// When there will have been [`REST`]; `None`: that was used.
    rest: Option<Instant>,
    /// Where copies of recorded sessions go.
    recorder: Option<Recorder>,
    /// What the kernel carries of the relay here.
    handed: Option<Handed>,
    /// Media ports that are flooded.
    doors: Doors,
}

impl Lane {
    /// A lane that is ready to [`Lane::run`]. A relay among its seats gets a media path.
    pub fn new(
        name: String,
        index: usize,
        seats: Vec<Seat>,
        listeners: Vec<Listener>,
        post: Arc<PostOffice>,
        outside: Arc<Outside>,
        ring: Arc<Ring>,
    ) -> io::Result<Lane> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mailbox = post.mailbox(index).clone();
        epoll.add(&*mailbox, EpollEvent::new(EpollFlags::EPOLLIN, MAILBOX))?;
        for (number, listener) in listeners.iter().enumerate() {
            epoll.add(&listener.socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        }
        let with_media = seats.iter().position(Seat::has_media);
        let media = with_media.map(|seat| media::open(&epoll).map(|path| (seat, path)));
        Ok(Lane {
            name,
            index,
            media: media.transpose()?,
            mirror: seats.iter().position(Seat::reflects).map(|seat| (seat, Mirror::new())),
            lobby: seats
                .iter()
                .enumerate()
                .find_map(|(seat, there)| there.lobby().map(|before| (seat, Lobby::new(secret(), before)))),
            seats,
            outgoing: listeners.iter().map(|_| Vec::new()).collect(),
            listeners,
            epoll,
            mailbox,
            post,
            outside,
            ring,
            receiver: Receiver::new(BATCH, DATAGRAM),
            sender: Sender::new(BATCH),
            behind: false,
            inbox: VecDeque::new(),
            wanted: Vec::new(),
            pace: Pace::new(Instant::now()),
            frozen: false,
            report: LaneReport::default(),
            running: true,
            rest: Some(Instant::now() + REST),
            recorder: None,
            handed: None,
            doors: Doors::default(),
        })
    }

    /// The same with somewhere to leave recordings.
    pub fn recording(self, recorder: Option<Recorder>) -> Lane {
        Lane { recorder, ..self }
    }

    /// The same with a kernel that may carry media.
    pub fn handing_down(self, handed: Handed) -> Lane {
        Lane { handed: Some(handed), ..self }
    }

    /// Serves until told to stop, or until every phone here has done what it was to do. Gives the services back.
    pub fn run(mut self) -> Vec<Seat> {
        let _at_hand = thread_cache::open();
        // Services may want something right after their birth.
        for seat in 0..self.seats.len() {
            self.deliver(Instant::now(), seat, Input::Wake);
        }
        self.flush();
        while self.running {
            if let Err(error) = self.round() {
                tracing::error!(%error, lane = self.name, "a lane can't wait any more and ends");
                break;
            }
            self.running &= !self.seats.iter().all(Seat::is_done);
        }
        self.seats
    }

    fn round(&mut self) -> io::Result<()> {
        let wait = self.wait();
        let (asks, wait) = match self.media {
            Some(_) => (self.carry_media(wait)?, Some(Duration::ZERO)),
            None => (!self.read_gathered(), wait),
        };
        if asks {
            self.read_control(wait)?;
        }
        self.serve_waiting();
        self.wake(Instant::now());
        self.flush();
        Ok(())
    }

    /// How long nothing is due; `None`: nothing is planned.
    fn wait(&mut self) -> Option<Duration> {
        if self.somebody_waits() {
            return Some(Duration::ZERO);
        }
        let calm = self.lobby.as_ref().and_then(|(_, lobby)| lobby.deadline());
        let deadline = self.seats.iter_mut().filter_map(Seat::deadline).chain(calm).chain(self.rest).min()?;
        let wait = deadline.saturating_duration_since(Instant::now());
        // A phone's timers also say when its next packet of media is due.
        let may_be_late = !self.seats.iter().any(|seat| seat.phone().is_some());
        Some(if may_be_late { Pace::wait(wait) } else { wait })
    }

    /// Waits for media and carries it; `true`: listeners or mailbox want to be read.
    fn carry_media(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let Some((seat, path)) = &mut self.media else { return Ok(true) };
        let seat = *seat;
        let wait = Wait { limit: wait, gather: self.pace.pause(Instant::now()).unwrap_or_default() };
        let turn = self.seats[seat].carry(&mut **path, wait, &mut self.wanted)?;
        self.report.received += turn.received;
        self.report.sent += turn.sent;
        self.report.dropped += turn.dropped;
        if !self.wanted.is_empty() {
            self.perform_all(Instant::now(), seat);
        }
        Ok(turn.control)
    }

    /// Whether there is new work that could be done now.
    fn somebody_waits(&self) -> bool {
        self.lobby.as_ref().is_some_and(|(_, lobby)| !lobby.is_empty())
    }

    /// A busy lane lets datagrams gather, unless it has work meanwhile. Then there is most likely something to read, so it
    /// does not ask where; `false`: nothing was there, or it is not busy.
    fn read_gathered(&mut self) -> bool {
        let Some(pause) = self.pace.pause(Instant::now()) else { return false };
        if !self.somebody_waits() {
            std::thread::sleep(pause);
        }
        if self.frozen || self.listeners.len() > FEW {
            return false;
        }
        let now = Instant::now();
        let mut found = self.mailbox.is_ringing();
        if found {
            self.read_mailbox(now);
        }
        for number in 0..self.listeners.len() {
            found |= self.read_listener(now, number);
        }
        if found {
            self.rest = Some(now + REST);
        }
        found
    }

    /// Waits for listeners and mailbox, and reads those that have something.
    fn read_control(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); 16];
        let count = match self.epoll.wait(&mut ready, epoll_timeout(wait)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        if count > 0 {
            self.rest = Some(now + REST);
        }
        for event in &ready[..count] {
            match event.data() {
                MAILBOX => self.read_mailbox(now),
                // One that was there when the events were read may be gone by now.
                listener if (listener as usize) < self.listeners.len() => {
                    self.read_listener(now, listener as usize);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wake(&mut self, now: Instant) {
        for seat in 0..self.seats.len() {
            if self.seats[seat].deadline().is_some_and(|deadline| deadline <= now) {
                self.deliver(now, seat, Input::Wake);
            }
        }
        if self.rest.is_some_and(|rest| rest <= now) {
            self.rest = None;
            crate::memory::give_back();
        }
    }

    /// Some of those who wait, then the sockets are read again: what belongs to a call goes first.
    fn serve_waiting(&mut self) {
        let now = Instant::now();
        let turns = if std::mem::take(&mut self.behind) { TURNS_BEHIND } else { TURNS };
        for _ in 0..turns {
            let Some((seat, lobby)) = &mut self.lobby else { return };
            let (seat, Some(Arrival { flow, message })) = (*seat, lobby.next(now)) else { break };
            self.deliver(now, seat, Input::Message { flow, message });
        }
        while let Some(turn) = self.lobby.as_mut().and_then(|(_, lobby)| lobby.turn(now)) {
            self.ring.raise(Event::Overload { begins: turn.begins, refused: turn.refused });
        }
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Reconfigure(configs) => {
                self.seats.iter_mut().for_each(|seat| seat.reconfigure(&configs));
                // Some want something right after it.
                (0..self.seats.len()).for_each(|seat| self.deliver(now, seat, Input::Wake));
            }
            Command::Listen(listener) => self.listen(listener),
            Command::Leave(local) => self.leave(local),
            Command::Drain => (0..self.seats.len()).for_each(|seat| self.deliver(now, seat, Input::Drain)),
            Command::Capture(order, to) => {
                let _ = to.send(self.seats.iter_mut().map(|seat| seat.capture(&order)).sum());
            }
            Command::Live(sessions, to) => {
                drop(to.send(self.seats.iter().flat_map(|seat| seat.live(now, &sessions)).collect()));
            }
            Command::Report(to) => drop(to.send(self.report())),
            Command::Plan(uri, from, to) => {
                let plan = self.seats.iter_mut().find_map(|seat| seat.plan(now, &uri, &from));
                plan.into_iter().for_each(|plan| drop(to.send(plan)));
            }
            Command::Freeze => self.freeze(),
            Command::Thaw => self.thaw(),
            Command::Surrender(to) => drop(to.send(self.surrender())),
            Command::Stop => self.running = false,
        }
    }

    fn report(&self) -> LaneReport {
        let refused = self.mailbox.refused();
        let path = self.media.as_ref().map_or("epoll, recvmmsg", |(_, path)| path.name()).to_owned();
        let mut report = LaneReport { lane: self.name.clone(), path, refused, ..self.report.clone() };
        if let Some((_, lobby)) = &self.lobby {
            report.waiting = lobby.len();
            (report.overloaded, report.turned_away) = (lobby.is_overloaded(), lobby.refused());
        }
        report.panics += self.mirror.as_ref().map_or(0, |(_, mirror)| mirror.panics());
        self.seats.iter().for_each(|seat| seat.report(&mut report));
        report
    }

    /// Gives a service an input, and does what it wants until nothing is left to do on this lane.
    fn deliver(&mut self, now: Instant, seat: usize, input: Input) {
        // What is in hand does not go through the queue: an input is large, and this is every packet's way.
        let mut next = Some((seat, input));
        while let Some((seat, input)) = next.take().or_else(|| self.inbox.pop_front()) {
            self.seats[seat].handle(now, input, &mut self.wanted);
            self.perform_all(now, seat);
        }
    }
}

/// What the lobby's hashes are keyed with.
fn secret() -> u64 {
    let random = crate::keys::random();
    u64::from_le_bytes(random[..8].try_into().expect("8 of 32 bytes"))
}
