//! The relay INVITE: how a proxy asks a relay for a media session, in plain SIP.
//!
//! ```text
//! proxy                                             relay
//!   | INVITE sip:SESSION@relay                        |   body: the SDP of the party in Relay-Leg, as it came
//!   |------------------------------------------------>|   (none: only make the session, or set the party's facts)
//!   | 200 OK                                          |   body: the same SDP naming the relay's ports, to be given
//!   |<------------------------------------------------|   to the *other* party (none when the request had none)
//!   | ACK                                             |
//!   |------------------------------------------------>|
//!   |   … the other party's SDP: re-INVITE, Relay-Leg: callee; 200 carries what the caller shall see …
//!   | BYE                                             |   ports are free when its 200 leaves
//!   |------------------------------------------------>|
//! ```
//!
//! One dialog per session: its Call-ID is the session's name, both tags derive from it ([`tag`]), CSeq is the
//! session's age in tenths of a second plus one ([`cseq`]), so that a restarted proxy can speak for a session it does not
//! remember. Every request carries `Node-Auth`; without it, and not over memory or loopback, it is answered 403.
//!
//! | header | example | meaning |
//! |---|---|---|
//! | `Relay-Session` | `00c0ffee00c0ffee;mode=split` | the session; `shared`: one port for both parties |
//! | `Relay-Leg` | `caller` | whose SDP and facts this request brings |
//! | `Relay-Peer` | `203.0.113.9:40000` | where that party's signalling is seen to come from |
//! | `Relay-Network` | `caller=inside;callee=outside` | in which network each party is met |
//! | `Relay-Policy` | `latch=strict;trust=no;reset=yes` | whom the leg accepts first; `trust`: send before latching; `reset`: a new offer/answer opens one bounded window for a new source |
//!
//! Failures: 503 with Retry-After when no ports are left, 488 for SDP no relay can carry, 481 for an unknown session
//! in a re-INVITE or BYE, 400 for what can't be read, 403 for what isn't proven.
//!
//! A session lives while it is refreshed (any request in its dialog) or media flows; it is freed by BYE, or when the
//! refresh is overdue (Session-Expires of the 200, default 1800 s) *and* no media came for the media timeout.
//!
//! **Silence.** When both parties have been heard, neither is held, and nothing came from either for the media timeout,
//! the relay says so in the same dialog: `BYE` to the Contact of the proxy's last request, by the way it came, with
//! `Reason: SIP;cause=408;text="No media for 120 s"` (RFC 3326) and Node-Auth; its CSeq counts from 1. A proxy that knows
//! the call ends it on both sides and answers 200, which frees the session. Any other answer, or none, leaves the
//! session to its refresh; the relay asks again after another media timeout.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::event::Side;
use crate::sip::{Builder, Message};
use crate::tables::Latch;

/// A relay session's name: 16 hex digits on the wire. Drawn by the proxy that makes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(pub u64);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Session {
    /// From its 16 hex digits.
    pub fn from_name(name: &str) -> Option<Session> {
        (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok().map(Session)).flatten()
    }
}

/// How many ports the two parties get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A port (pair) for each party.
    #[default]
    Split,
    /// One port (pair) for both, told apart by where packets come from: the letter of the claim.
    Shared,
}

/// What the Relay-* headers of one request say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which session.
    pub session: Session,
    /// Ports.
    pub mode: Mode,
    /// Whose SDP and facts.
    pub leg: Side,
    /// Where that party's signalling comes from; `None`: not known.
    pub peer: Option<SocketAddr>,
    /// Names of the networks of caller and callee.
    pub networks: [String; 2],
    /// Whom the leg accepts first.
    pub latch: Latch,
    /// Whether to send to the signalled address before the leg has latched.
    pub trusted: bool,
    /// Whether this offer or answer may move the party (opens the window).
    pub reset: bool,
}

impl Ask {
    /// Adds the headers to a request.
    pub fn write(&self, request: Builder) -> Builder {
        let _ = request;
        todo!()
    }

    /// Reads them; the words say what is missing or wrong.
    pub fn read(request: &Message) -> Result<Ask, &'static str> {
        let _ = request;
        todo!()
    }
}

/// The tag of one end of a session's dialog: `Side::Caller` for the proxy's (From), `Side::Callee` for the relay's.
pub fn tag(session: Session, end: Side) -> String {
    let _ = (session, end);
    todo!()
}

/// The CSeq of a request at this age of the session.
pub fn cseq(age: Duration) -> u32 {
    (age.as_millis() / 100) as u32 + 1
}
