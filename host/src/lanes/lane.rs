//! A lane: one thread that owns services, the UDP listeners in front of them, and, for a relay, its media ports.
//!
//! Its round: wait for sockets, mailbox or deadline; read a batch; let the services handle it; send what they want in
//! batches. Time is read once a round. A message for another service on the same lane never leaves the thread. Media
//! takes the short way: [`MediaPath::turn`] asks the relay for each packet, and nothing else of this file is touched.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use proto::event::Event;
use proto::lobby::{Arrival, Entry, Lobby};
use proto::node::{Flow, Input, Output, SendError, Ticket, Transport};
use proto::offload::{Carried, Offload};
use proto::sip::{Message, Name};
use proto::stun;

use super::mailbox::Mailbox;
use super::media::{self, MediaPath, epoll_timeout};
use super::mirror::Mirror;
use super::pace::Pace;
use super::post::{Address, PostOffice, Seats, turned};
use super::seat::{Command, LaneReport, Seat};
use crate::capture::Recorder;
use crate::events::Ring;
use crate::kernel::Handed;
use crate::net::Outside;
use crate::net::batch::{Receiver, Sender, take_error};
use crate::net::udp::send_error;

/// Datagrams per system call.
const BATCH: usize = 32;
/// The largest datagram there is.
const DATAGRAM: usize = 65_535;
/// Batches read from one socket before the others get their turn.
const ROUNDS: usize = 4;
/// New requests that are served before the sockets are read again.
const TURNS: usize = 8;
/// What the mailbox is called in epoll's answers.
const MAILBOX: u64 = u64::MAX;

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

/// A datagram that waits for the end of the round.
#[derive(Debug)]
pub(super) struct Outgoing {
    to: SocketAddr,
    bytes: Bytes,
    ticket: Ticket,
    seat: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    name: String,
    index: usize,
    pub(super) seats: Vec<Seat>,
    pub(super) listeners: Vec<Listener>,
    pub(super) outgoing: Vec<Vec<Outgoing>>,
    pub(super) epoll: Epoll,
    pub(super) mailbox: Arc<Mailbox>,
    post: Arc<PostOffice>,
    outside: Arc<Outside>,
    ring: Arc<Ring>,
    receiver: Receiver,
    sender: Sender,
    /// Media ports, and the seat of the relay they belong to.
    pub(super) media: Option<(usize, Box<dyn MediaPath>)>,
    /// What a reflector's packets pass through, and its seat.
    mirror: Option<(usize, Mirror)>,
    /// Where new work waits, and the seat of the proxy it is for.
    pub(super) lobby: Option<(usize, Lobby)>,
    /// What this round still has to hand to services.
    inbox: VecDeque<(usize, Input)>,
    wanted: Vec<Output>,
    pace: Pace,
    report: LaneReport,
    pub(super) running: bool,
    /// Where copies of recorded sessions go.
    recorder: Option<Recorder>,
    /// What the kernel carries of the relay here.
    handed: Option<Handed>,
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
            lobby: seats.iter().position(Seat::has_lobby).map(|seat| (seat, Lobby::new(secret()))),
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
            inbox: VecDeque::new(),
            wanted: Vec::new(),
            pace: Pace::new(Instant::now()),
            report: LaneReport::default(),
            running: true,
            recorder: None,
            handed: None,
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
        let control = match self.media {
            Some(_) => self.carry_media(wait)?.then_some(Duration::ZERO),
            None => {
                self.pace.pause().into_iter().for_each(std::thread::sleep);
                wait.or(Some(Duration::MAX))
            }
        };
        if let Some(wait) = control {
            self.read_control(wait)?;
        }
        self.serve_waiting();
        self.wake(Instant::now());
        self.flush();
        Ok(())
    }

    /// How long nothing is due; `None`: nothing is planned.
    fn wait(&mut self) -> Option<Duration> {
        if self.lobby.as_ref().is_some_and(|(_, lobby)| !lobby.is_empty()) {
            return Some(Duration::ZERO);
        }
        let calm = self.lobby.as_ref().and_then(|(_, lobby)| lobby.deadline());
        let deadline = self.seats.iter_mut().filter_map(Seat::deadline).chain(calm).min()?;
        let wait = deadline.saturating_duration_since(Instant::now());
        // A phone's timers also say when its next packet of media is due.
        let may_be_late = !self.seats.iter().any(|seat| seat.phone().is_some());
        Some(if may_be_late { Pace::wait(wait) } else { wait })
    }

    /// Waits for media and carries it; `true`: listeners or mailbox want to be read.
    fn carry_media(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        let Some((seat, path)) = &mut self.media else { return Ok(true) };
        let seat = *seat;
        let turn = self.seats[seat].carry(&mut **path, wait, &mut self.wanted)?;
        self.report.received += turn.received;
        self.report.sent += turn.sent;
        self.report.dropped += turn.dropped;
        if !self.wanted.is_empty() {
            self.perform_all(Instant::now(), seat);
        }
        Ok(turn.control)
    }

    fn read_control(&mut self, wait: Duration) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); 16];
        let count = match self.epoll.wait(&mut ready, epoll_timeout((wait != Duration::MAX).then_some(wait)))
        {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        for event in &ready[..count] {
            match event.data() {
                MAILBOX => self.read_mailbox(now),
                // One that was there when the events were read may be gone by now.
                listener if (listener as usize) < self.listeners.len() => {
                    self.read_listener(now, listener as usize)
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
    }

    fn read_mailbox(&mut self, now: Instant) {
        self.mailbox.silence();
        while let Some(command) = self.mailbox.take_command() {
            self.obey(now, command);
        }
        while let Some((seat, input)) = self.mailbox.take() {
            self.admit(now, seat, input);
        }
    }

    /// What has come from outside: new work waits until everything else is done.
    pub(super) fn admit(&mut self, now: Instant, seat: usize, input: Input) {
        match (&mut self.lobby, input) {
            (Some((proxy, lobby)), Input::Message { flow, message }) if *proxy == seat => {
                match lobby.arrive(now, Arrival { flow, message }) {
                    Entry::Now(Arrival { flow, message }) => {
                        self.deliver(now, seat, Input::Message { flow, message })
                    }
                    Entry::Refused(bytes) => self.send(seat, flow, bytes, Ticket(0)),
                    Entry::Waits | Entry::Dropped => {}
                }
            }
            (_, input) => self.deliver(now, seat, input),
        }
    }

    /// Some of those who wait, then the sockets are read again: what belongs to a call goes first.
    pub(super) fn serve_waiting(&mut self) {
        let now = Instant::now();
        for _ in 0..TURNS {
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

    /// Packets for a reflector take the short way.
    fn reflect(&mut self, now: Instant, number: usize) {
        let Some((seat, mirror)) = &mut self.mirror else { return };
        let turn = self.seats[*seat].reflect(now, mirror, &self.listeners[number]);
        self.pace.took(now, turn.received as usize);
        self.report.received += turn.received;
        self.report.sent += turn.sent;
        self.report.dropped += turn.dropped;
    }

    fn read_listener(&mut self, now: Instant, number: usize) {
        if self.mirror.is_some() {
            return self.reflect(now, number);
        }
        for _ in 0..ROUNDS {
            let taken = match self.receiver.receive(self.listeners[number].socket.as_fd()) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What the network reported about something sent earlier; the next read works again.
                Err(_) => return self.read_errors(now, number),
            };
            self.report.received += taken as u64;
            self.pace.took(now, taken);
            for index in 0..taken {
                self.read_datagram(now, number, index);
            }
            if taken < self.receiver.capacity() {
                return;
            }
        }
    }

    fn read_errors(&mut self, now: Instant, number: usize) {
        while let Some((error, remote)) = take_error(self.listeners[number].socket.as_fd()) {
            let Some(error) = send_error(error) else { continue };
            let flow = Flow::udp(self.listeners[number].local, remote);
            let seats = self.listeners[number].seats.clone();
            for address in seats.iter() {
                self.hand_over(now, *address, Input::SendFailed { ticket: Ticket(0), flow, error });
            }
        }
    }

    /// Whether the service behind a listener deals with STUN itself.
    fn speaks_stun(&self, number: usize) -> bool {
        let first = self.listeners[number].seats[0];
        first.lane == self.index && self.seats[first.seat].speaks_stun()
    }

    fn read_datagram(&mut self, now: Instant, number: usize, index: usize) {
        let passes_stun = self.speaks_stun(number);
        let Some((from, bytes)) = self.receiver.datagram(index) else {
            self.report.dropped += 1;
            return;
        };
        if is_keep_alive(bytes) || is_shut_out(&self.seats, self.index, &self.listeners[number], now, from) {
            return;
        }
        if stun::is_stun(bytes) && !passes_stun {
            let local = self.listeners[number].local;
            if let Some(answer) = stun::Server::single().answer(bytes, from, local) {
                let outgoing =
                    Outgoing { to: answer.to, bytes: answer.bytes.into(), ticket: Ticket(0), seat: 0 };
                self.outgoing[number].push(outgoing);
            }
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let flow = Flow::udp(self.listeners[number].local, from);
        let seats = self.listeners[number].seats.clone();
        self.receive(now, &seats, flow, bytes);
    }

    /// Indexes a message and hands it to the seat it belongs to.
    fn receive(&mut self, now: Instant, seats: &Seats, flow: Flow, bytes: Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(message) => {
                let to = self.post.owner(seats, &message);
                self.hand_over(now, to, Input::Message { flow, message });
            }
            Err(_) => {
                let to = self.post.owner_of_other(seats, &bytes);
                self.hand_over(now, to, Input::Other { flow, bytes });
            }
        }
    }

    fn hand_over(&mut self, now: Instant, to: Address, input: Input) {
        if to.lane == self.index {
            return self.admit(now, to.seat, input);
        }
        if let Err((_, input)) = self.post.post(to, input) {
            self.refuse(input);
        }
    }

    /// A lane is overrun: a new call is told to come back later, anything else is left to retransmissions.
    fn refuse(&mut self, input: Input) {
        let Input::Message { flow, message } = input else { return };
        if message.is_request() && message.method() == proto::sip::Method::Invite {
            let response = proto::sip::reply(&message, 503, "overload").header(Name::RetryAfter, 5).finish();
            self.send(0, flow, response.bytes().clone(), Ticket(0));
        }
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

    fn perform_all(&mut self, now: Instant, seat: usize) {
        let mut wanted = std::mem::take(&mut self.wanted);
        for output in wanted.drain(..) {
            self.perform(now, seat, output);
        }
        self.wanted = wanted;
    }

    fn perform(&mut self, now: Instant, seat: usize, output: Output) {
        match output {
            Output::Message { flow, message, ticket } => {
                if let Some(own) = self.post.seats(flow.transport, flow.local) {
                    self.post.sent(Address { lane: self.index, seat }, own, &message, now);
                }
                match self.ours(flow) {
                    Some(seats) => self.send_within(seat, &seats, flow, message, ticket),
                    None => self.send(seat, flow, message.into_bytes(), ticket),
                }
            }
            Output::Send { flow, bytes, ticket } => match self.ours(flow) {
                Some(seats) => self.send_bytes_within(seat, &seats, flow, bytes, ticket),
                None => self.send(seat, flow, bytes, ticket),
            },
            Output::Probe { flow, bytes, hops } => self.probe(flow, &bytes, hops),
            Output::Close { flow } => self.outside.close(flow),
            Output::Ask { ticket, question } => {
                self.outside.ask(Address { lane: self.index, seat }, ticket, question)
            }
            Output::Pass { lane, flow, bytes, gathered } => {
                self.pass_to_sibling(lane, flow, Input::Passed { flow, bytes, gathered });
            }
            Output::Event(event) => self.ring.raise(event),
            Output::Capture(captured) => {
                self.recorder.iter().for_each(|recorder| recorder.keep((*captured).clone()));
            }
            Output::Offload(wish) => self.hand_down(seat, &wish),
            Output::Bind { ticket, local } => self.bind(seat, ticket, local),
            Output::SendMedia { socket, to, bytes } => self.on_media(|path| path.send(socket, to, &bytes)),
            Output::Release { socket } => self.on_media(|path| path.release(socket)),
            Output::Empty { socket } => self.on_media(|path| path.empty(socket)),
        }
    }

    fn on_media(&mut self, act: impl FnOnce(&mut dyn MediaPath)) {
        if let Some((_, path)) = &mut self.media {
            act(&mut **path);
        }
    }

    fn hand_down(&mut self, seat: usize, wish: &Offload) {
        let carried = match (&mut self.handed, wish) {
            (Some(handed), wish) => handed.obey(wish),
            (None, Offload::Begin(rule)) => vec![Carried::refused(rule.socket)],
            (None, _) => Vec::new(),
        };
        if !carried.is_empty() {
            self.inbox.push_back((seat, Input::Carried(carried)));
        }
    }

    fn bind(&mut self, seat: usize, ticket: Ticket, local: SocketAddr) {
        let opened = match &mut self.media {
            Some((_, path)) => path.bind(local).map_err(|error| error.to_string()),
            None => Err("this lane carries no media".to_owned()),
        };
        let input = match opened {
            Ok((socket, local)) => Input::Bound { ticket, socket, local },
            Err(why) => Input::BindFailed { ticket, local, why },
        };
        self.inbox.push_back((seat, input));
    }

    /// The seats of this process that a flow leads to.
    fn ours(&self, flow: Flow) -> Option<Seats> {
        let here = (flow.transport == Transport::Udp).then(|| self.post.seats(flow.transport, flow.remote));
        here.flatten().cloned()
    }

    /// To a service of this process: in memory, as it is.
    fn send_within(&mut self, from: usize, seats: &Seats, flow: Flow, message: Message, ticket: Ticket) {
        let to = self.post.owner(seats, &message);
        self.pass_on(from, to, (flow, ticket), Input::Message { flow: turned(flow), message });
    }

    /// The same for what is repeated, or is no SIP.
    fn send_bytes_within(&mut self, from: usize, seats: &Seats, flow: Flow, bytes: Bytes, ticket: Ticket) {
        match Message::parse(bytes.clone()) {
            Ok(message) => self.send_within(from, seats, flow, message, ticket),
            Err(_) => {
                self.pass_on(from, seats[0], (flow, ticket), Input::Other { flow: turned(flow), bytes })
            }
        }
    }

    fn pass_on(&mut self, from: usize, to: Address, (flow, ticket): (Flow, Ticket), input: Input) {
        if to.lane == self.index {
            self.inbox.push_back((to.seat, input));
        } else if self.post.post(to, input).is_err() {
            self.inbox.push_back((from, Input::SendFailed { ticket, flow, error: SendError::Busy }));
        }
    }

    /// To another lane of the service behind the address this came to; one that is overrun misses it.
    fn pass_to_sibling(&mut self, lane: u16, flow: Flow, input: Input) {
        let seats = self.post.seats(flow.transport, flow.local);
        let Some(to) = seats.and_then(|seats| seats.get(usize::from(lane)).copied()) else { return };
        if to.lane == self.index {
            self.inbox.push_back((to.seat, input));
        } else if self.post.post(to, input).is_err() {
            self.report.dropped += 1;
        }
    }

    fn listener_at(&self, flow: Flow) -> Option<usize> {
        let udp = flow.transport == Transport::Udp;
        udp.then(|| self.listeners.iter().position(|listener| listener.local == flow.local)).flatten()
    }

    fn send(&mut self, seat: usize, flow: Flow, bytes: Bytes, ticket: Ticket) {
        if flow.transport != Transport::Udp {
            return self.outside.send(Address { lane: self.index, seat }, flow, bytes, ticket);
        }
        let Some(number) = self.listener_at(flow) else {
            self.report.dropped += 1;
            return self
                .inbox
                .push_back((seat, Input::SendFailed { ticket, flow, error: SendError::Unreachable }));
        };
        self.outgoing[number].push(Outgoing { to: flow.remote, bytes, ticket, seat });
        if self.outgoing[number].len() >= BATCH {
            self.flush_listener(number);
        }
    }

    /// Sends what waits. What failed is told to its sender, whose wishes may bring more to send.
    pub(super) fn flush(&mut self) {
        loop {
            for number in 0..self.listeners.len() {
                self.flush_listener(number);
            }
            let Some((seat, input)) = self.inbox.pop_front() else { return };
            self.deliver(Instant::now(), seat, input);
        }
    }

    /// What waits goes first, so that order is kept.
    fn probe(&mut self, flow: Flow, bytes: &[u8], hops: u8) {
        let Some(number) = self.listener_at(flow) else { return };
        self.flush_listener(number);
        let socket = self.listeners[number].socket.as_fd();
        match crate::net::probe::send(socket, flow.remote, bytes, hops) {
            Ok(()) => self.report.sent += 1,
            Err(_) => self.report.dropped += 1,
        }
    }

    pub(super) fn flush_listener(&mut self, number: usize) {
        let mut waiting = std::mem::take(&mut self.outgoing[number]);
        let mut done = 0;
        // An error the network reported earlier (`IP_RECVERR`) is given to the next call, whoever it is for: one retry.
        let mut retried = false;
        while done < waiting.len() {
            let datagrams = waiting[done..].iter().map(|outgoing| (outgoing.to, &*outgoing.bytes));
            match self.sender.send(self.listeners[number].socket.as_fd(), datagrams) {
                Ok(sent) => {
                    self.report.sent += sent as u64;
                    (done, retried) = (done + sent, false);
                }
                Err(_) if !retried => retried = true,
                Err(error) => {
                    self.failed(number, &waiting[done], &error);
                    (done, retried) = (done + 1, false);
                }
            }
        }
        waiting.clear();
        self.outgoing[number] = waiting;
    }

    fn failed(&mut self, number: usize, outgoing: &Outgoing, error: &io::Error) {
        self.report.dropped += 1;
        let error = error.raw_os_error().and_then(send_error).unwrap_or(SendError::Busy);
        let flow = Flow::udp(self.listeners[number].local, outgoing.to);
        self.inbox.push_back((outgoing.seat, Input::SendFailed { ticket: outgoing.ticket, flow, error }));
    }
}

/// What is banned is not even parsed.
fn is_shut_out(seats: &[Seat], lane: usize, listener: &Listener, now: Instant, from: SocketAddr) -> bool {
    let here = listener.seats.iter().find(|address| address.lane == lane);
    here.is_some_and(|address| seats[address.seat].shuts_out(now, from.ip()))
}

/// What the lobby's hashes are keyed with.
fn secret() -> u64 {
    let random = crate::keys::random();
    u64::from_le_bytes(random[..8].try_into().expect("8 of 32 bytes"))
}

/// Keep-alives over UDP are swallowed: blank lines (RFC 5626 §3.5.1), a lone zero byte, nothing at all.
fn is_keep_alive(bytes: &[u8]) -> bool {
    bytes.len() <= 4 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}
