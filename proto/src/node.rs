//! The contract between a service and whatever runs it.
//!
//! A service is a machine. It is born once ([`Birth`]), told things ([`Node::handle`]), asked what it wants
//! ([`Node::poll`]) and when to wake it ([`Node::deadline`]). The one law for the caller: *one `handle`, then `poll`
//! until `None`.* In production the caller is `host`; in tests it is the simulated world of `conformance`. The same
//! code runs in both, so a whole call with loss, NATs and retransmissions takes microseconds of simulated time.
//!
//! A node is owned by one thread and holds no lock. Immutable shared data (`Arc<Config>`, [`Bytes`]) is welcome.

mod dice;
mod flow;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

pub use self::dice::Dice;
pub use self::flow::{Flow, FlowId, Transport, literal};
pub use self::work::{Job, Work};
use crate::door::{Door, Dropped};
use crate::event::Event;
use crate::icmp::Undelivered;
use crate::lookup::{Advice, Lookup};
use crate::offload::{Carried, Offload};
use crate::sip::Message;
use crate::tables::Tables;

/// A service: proxy, relay, redirect server or endpoint.
pub trait Node {
    /// Takes in one thing that happened at `now`. `now` never goes backwards.
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables);
    /// The next thing the node wants done, in order; `None` when it has said all.
    fn poll(&mut self, tables: &mut dyn Tables) -> Option<Output>;
    /// When to call `handle` with [`Input::Wake`] at the latest; `None`: only when something happens.
    fn deadline(&self) -> Option<Instant>;
}

/// What a node is born with. Everything it may know of time and chance comes from here and from `now`.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// The moment of birth on the monotonic clock.
    pub now: Instant,
    /// The same moment on the wall clock; later wall times are `wall + (now - birth.now)`.
    pub wall: SystemTime,
    /// Seed of all the node's randomness: the operating system's in production, the test's in the world.
    pub seed: [u8; 32],
    /// Which lane of how many this is; lane `index` of `count` owns the calls whose keyed Call-ID hash says so.
    pub lane: Lane,
}

impl Birth {
    /// Wall-clock time at `now`.
    pub fn wall_at(&self, now: Instant) -> SystemTime {
        self.wall + now.saturating_duration_since(self.now)
    }

    /// Seconds since the Unix epoch at `now`.
    pub fn unix_at(&self, now: Instant) -> u64 {
        self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }

    /// The node's dice. Give each purpose a different `stream`, so that one does not shift another.
    pub fn dice(&self, stream: u64) -> Dice {
        Dice::new(self.seed, stream)
    }
}

/// One of several equal nodes that share the work of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// 0-based.
    pub index: u16,
    /// At least 1.
    pub count: u16,
}

impl Default for Lane {
    fn default() -> Self {
        Lane { index: 0, count: 1 }
    }
}

/// A relay socket: an index into the lane's own sockets, given by [`Input::Bound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// What [`Output::Send`] and [`Output::Ask`] are answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a node is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// One SIP message. The dispatcher has indexed it already (it needed the Call-ID).
    Message {
        /// The path it came by.
        flow: Flow,
        /// The message, whose bytes are as they came.
        message: Message,
    },
    /// One datagram or frame that is not well-formed SIP: keep-alive, STUN, garbage, or a broken message.
    Other {
        /// The path it came by.
        flow: Flow,
        /// The bytes as they came.
        bytes: Bytes,
    },
    /// One datagram on a media socket.
    Media {
        /// The socket.
        socket: SocketId,
        /// Its source as we see it.
        from: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
    /// A connection came up whose far end proved, by a certificate we believe, to be these domains (RFC 5922 §7.1).
    Proven {
        /// The connection.
        flow: Flow,
        /// Lower case.
        domains: Arc<[String]>,
    },
    /// A connection is gone. Requests that were sent on it in the last 32 seconds fail by [`Input::SendFailed`] after this.
    Closed {
        /// The connection.
        flow: Flow,
    },
    /// What was sent with this ticket did not leave, the path reported an error (ICMP, RST, no route), or the connection
    /// it went by ended, answered or not.
    SendFailed {
        /// The ticket of the [`Output::Send`]; `Ticket(0)` when only the path is known.
        ticket: Ticket,
        /// The path.
        flow: Flow,
        /// Why.
        error: SendError,
    },
    /// A media port is open. See [`Output::Bind`].
    Bound {
        /// The ticket of the [`Output::Bind`].
        ticket: Ticket,
        /// The socket, and its address.
        socket: SocketId,
        /// Where it is bound.
        local: SocketAddr,
    },
    /// A media port could not be opened.
    BindFailed {
        /// The ticket of the [`Output::Bind`].
        ticket: Ticket,
        /// Where it should have been.
        local: SocketAddr,
        /// Why, in the operating system's words.
        why: String,
    },
    /// What a sibling passed on. See [`Output::Pass`].
    Passed {
        /// The path it came by, to the sibling that read it.
        flow: Flow,
        /// The bytes as they came.
        bytes: Bytes,
        /// What the lanes before have found; empty on the first one.
        gathered: Bytes,
    },
    /// What the path below the relay has carried. See [`Output::Offload`].
    Carried(Vec<Carried>),
    /// What closed doors have kept out. See [`Output::Door`].
    Dropped(Vec<Dropped>),
    /// Somebody says that a datagram of a media socket did not arrive (ICMP). Nothing proves it.
    Undelivered(Undelivered),
    /// The answer to an [`Output::Ask`].
    Answer {
        /// The ticket of the question.
        ticket: Ticket,
        /// What was found.
        answer: Answer,
    },
    /// The deadline has come (or may have: spurious wake-ups are allowed).
    Wake,
    /// Take no new work; what is under way may end.
    Drain,
}

/// Why something did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// Nobody listens there.
    Refused,
    /// No route, or the network is down.
    Unreachable,
    /// The connection was not made, or did not accept our bytes, in time.
    TimedOut,
    /// The connection in [`Flow::id`] is gone.
    Closed,
    /// TLS did not come to terms.
    Tls,
    /// The datagram was larger than the path takes.
    TooLarge,
    /// A bounded queue on the way was full.
    Busy,
}

/// What a node wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes.
    Send {
        /// By this path; see [`Flow`].
        flow: Flow,
        /// One whole message or datagram.
        bytes: Bytes,
        /// Comes back in [`Input::SendFailed`]; `Ticket(0)`: don't tell.
        ticket: Ticket,
    },
    /// Send this message, which is in our hands read: a service of the same process gets it as it is, everybody else
    /// gets its bytes. [`Output::on_the_wire`] makes an [`Output::Send`] of it.
    Message {
        /// By this path; see [`Flow`].
        flow: Flow,
        /// The message.
        message: Message,
        /// As with [`Output::Send`].
        ticket: Ticket,
    },
    /// Send a datagram that dies after so many routers: it opens our own NAT and is not heard beyond.
    Probe {
        /// By this path, over UDP.
        flow: Flow,
        /// One datagram.
        bytes: Bytes,
        /// Routers it may pass (IPv4 TTL, IPv6 hop limit).
        hops: u8,
    },
    /// Close a connection.
    Close {
        /// The connection.
        flow: Flow,
    },
    /// Send a datagram from a media socket.
    SendMedia {
        /// The socket.
        socket: SocketId,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
    /// Open a media socket. Answered by [`Input::Bound`] or [`Input::BindFailed`].
    Bind {
        /// Comes back with the answer.
        ticket: Ticket,
        /// Address and port.
        local: SocketAddr,
    },
    /// Close a media socket.
    Release {
        /// The socket.
        socket: SocketId,
    },
    /// Read and throw away what waits on a socket, before its port is lent out again.
    Empty {
        /// The socket.
        socket: SocketId,
    },
    /// Find something out that takes time. Always answered, by [`Answer::Nothing`] if need be.
    Ask {
        /// Comes back with the answer.
        ticket: Ticket,
        /// What to find out.
        question: Question,
    },
    /// Hand what came in to another lane of the same service. A lane that is overrun drops it, as the network may.
    Pass {
        /// Which one; it may be the very same.
        lane: u16,
        /// The path it came by: whoever answers answers there.
        flow: Flow,
        /// The bytes as they came.
        bytes: Bytes,
        /// What has been found for it so far.
        gathered: Bytes,
    },
    /// Something happened that somebody may want to know.
    Event(Event),
    /// A copy of what a recorded session heard.
    Capture(Box<Captured>),
    /// Something for the path below the relay. `Begin` and `End` are answered by [`Input::Carried`], so is `Count`.
    Offload(Box<Offload>),
    /// Something for the door of a media socket. `Count` is answered by [`Input::Dropped`], and `Close` if that can't be done.
    Door(Box<Door>),
}

impl Output {
    /// A message as the bytes that leave; anything else as it is.
    pub fn on_the_wire(self) -> Output {
        match self {
            Output::Message { flow, message, ticket } => {
                Output::Send { flow, bytes: message.into_bytes(), ticket }
            }
            other => other,
        }
    }
}

/// A part of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The relay session, as in Events.
    pub session: crate::event::Name,
    /// What is to be kept.
    pub what: Capture,
}

/// What is to be kept of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Capture {
    /// A datagram a party sent.
    Packet {
        /// When it came.
        at: SystemTime,
        /// Whose it is.
        side: crate::event::Side,
        /// Where it came from.
        from: SocketAddr,
        /// The relay's port it came to.
        to: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
    /// Nothing more comes.
    End,
}

/// What takes time to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Where to send a request (RFC 3263 §4): NAPTR, SRV, A and AAAA as the name and what is fixed ask for.
    Resolve {
        /// A host name (addresses are not asked about).
        host: String,
        /// The port in the URI, if it has one: no SRV then.
        port: Option<u16>,
        /// The transport the URI fixes, if it does: no NAPTR then.
        transport: Option<Transport>,
        /// Whether the URI is `sips:`.
        secure: bool,
    },
    /// By which SIP URIs a number is reached (RFC 6116).
    Enum {
        /// The number's own domain: `3.2.1.0.3.9.4.e164.arpa`.
        domain: String,
        /// The number, with its `+`: what records are applied to.
        number: String,
    },
    /// What a server of the operator's says of a call.
    Http {
        /// Which, and how it is asked.
        lookup: Arc<Lookup>,
        /// Its URL, filled in.
        url: String,
    },
    /// Do this, anywhere but on this thread. Answered by the same work.
    Work(Work),
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where to send, best first (SRV priorities and weights are already applied).
    Targets(Vec<(Transport, SocketAddr)>),
    /// By which URIs a number is reached, best first.
    Uris(Vec<String>),
    /// Where a call goes.
    Advice(Advice),
    /// This has been done.
    Done(Work),
    /// Nothing: the name does not exist, or nobody answered in time. The words are for the operator.
    Nothing(String),
}
