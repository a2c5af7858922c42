//! What happened, and why: small typed values, nothing formatted, none per packet.
//!
//! Services raise them with [`crate::node::Output::Event`]; records, metrics, `postern explain` and logs only read
//! them. Names are interned (`Arc<str>`): an event is cheap to make and to pass on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::icmp::Unreachable;
use crate::node::{Flow, Transport};
use crate::peer::nat::Verdict;
use crate::shield::Measure;
use crate::tables::{Anchor, Latch};

/// A name that many events share: a Call-ID, an address of record.
pub type Name = Arc<str>;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "what a variant says of itself names its fields")]
pub enum Event {
    /// A device registered, refreshed or left.
    Registered { aor: Name, flow: Flow, behind_nat: bool, change: Registration },
    /// A device answered no keep-alive three times, or answers again.
    Reachable { aor: Name, flow: Flow, reachable: bool },
    /// A request was refused by us, not by the far end.
    Refused { call: Name, method: Name, flow: Flow, status: u16, why: &'static str },
    /// An INVITE outside a dialog was accepted for forwarding.
    CallBegun { call: Name, from: Name, to: Name, flow: Flow },
    /// Who serves the callee was asked at the redirect server and answered (302) or not.
    Redirected { call: Name, to: Name, target: Option<SocketAddr>, status: u16 },
    /// Media decided for one side of a call. What `postern explain` prints.
    MediaDecided(Box<MediaDecided>),
    /// The callee answered.
    CallAnswered { call: Name, setup: Duration },
    /// A call ended. Never dropped without an alarm.
    CallEnded(Box<CallEnded>),
    /// The relay lent ports to a session, or none were left.
    RelayAllocated { session: Name, ports: u16, free: u32 },
    /// The relay refused a session.
    RelayExhausted { session: Name, limit: u32 },
    /// A leg heard its party for the first time, or again from elsewhere with proof.
    LegLatched { session: Name, leg: Side, from: SocketAddr, rebound: bool },
    /// A leg has heard nothing for a while, or hears again (`silent` is how long).
    LegSilent { session: Name, leg: Side, silent: Duration },
    /// A party can't be heard by the other, for `since` now: told while it happens. `other_heard`: that one can.
    OneWay { session: Name, silent: Side, since: Duration, cause: OneWay, other_heard: bool },
    /// What is sent to a party is answered by ICMP, again and again: `times` so far, most likely by its own host. Raised once
    /// a minute and leg at most.
    Undelivered { session: Name, leg: Side, to: SocketAddr, why: Unreachable, times: u32 },
    /// Packets from an address the leg does not expect were dropped; raised once per leg and cause.
    StrangerDropped { session: Name, leg: Side, from: SocketAddr, expected: IpAddr, latch: Latch },
    /// More comes to a port of a leg than any party sends, and not from its party (`from` is one of the sources): it is kept
    /// out in the kernel from now on. `over`: not any more, and `dropped` packets were.
    Flood { session: Name, leg: Side, from: SocketAddr, over: bool, dropped: u64 },
    /// A relay session ended; its ports are back.
    RelayReleased { session: Name, why: Release, legs: Box<[LegQuality; 2]> },
    /// The shield did something about a source; not told of for every packet.
    Shielded { source: IpAddr, account: Name, measure: Measure, why: &'static str },
    /// A server of a trunk came up or went down, and why.
    TrunkServer { trunk: Name, server: Name, up: bool, why: Name },
    /// A lane has more new work than time, or has had enough time again; `refused` is how much work it turned away.
    Overload { begins: bool, refused: u64 },
    /// A registration of ours at a trunk was made, refused or lost, and why.
    TrunkRegistered { trunk: Name, registered: bool, why: Name },
    /// A peer's login was answered with this; where its access server sees it, and behind what.
    PeerLogin { peer: Name, status: u16, external: Option<SocketAddr>, behind: Verdict },
    /// A buddy of a peer's is online, and words to it take this path now (to there, if it is direct), and why; or it is offline.
    PeerBuddy { peer: Name, buddy: Name, path: Option<&'static str>, at: Option<SocketAddr>, why: Name },
    /// A peer's call is up, and its media takes this path now; or it has ended, or was not answered (`status`).
    PeerCall { peer: Name, with: Name, path: Option<&'static str>, status: Option<u16> },
    /// A phone without a speaker is registered now, or is no longer; the final status of its last REGISTER.
    PhoneRegistered { phone: Name, registered: bool, status: u16 },
    /// A phone's call has come so far.
    PhoneCall { phone: Name, with: Name, turn: Turn },
    /// Something worth an operator's look that fits none of the above.
    Warning { about: Name, why: &'static str },
}

/// What a REGISTER did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A new binding.
    New,
    /// The same device again.
    Refreshed,
    /// Removed by the device.
    Removed,
    /// Its time ran out, or its connection closed.
    Lost,
}

/// The two parties of a call or of a relay session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Who sent the INVITE.
    Caller,
    /// Who was called.
    Callee,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

/// One media decision with everything it looked at (the table in ARCHITECTURE.md, "The media decision").
#[derive(Clone, Debug, PartialEq)]
pub struct MediaDecided {
    /// Call-ID.
    pub call: Name,
    /// Whose facts decided.
    pub side: Side,
    /// What was seen of caller and callee.
    pub seen: [Sighting; 2],
    /// What the configuration asks for.
    pub anchor: Anchor,
    /// The rule that decided.
    pub rule: Rule,
    /// Whether media goes through a relay.
    pub anchored: bool,
    /// The relay session, once there is one: what its relay's events are told under.
    pub session: Option<Name>,
    /// The relay's addresses, once known: towards caller and callee.
    pub relay: Option<[SocketAddr; 2]>,
}

/// What was known of a party when its media was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It was seen, or is met, here.
    Party {
        /// Where its signalling comes from, or goes to.
        at: SocketAddr,
        /// By which transport.
        transport: Transport,
        /// The addresses its SDP names; empty: none yet, or none to compare.
        sdp: Vec<IpAddr>,
    },
    /// Another proxy of ours sees it, at this address if it said so.
    BySibling(Option<IpAddr>),
    /// It had not been looked for, or not been found.
    Unknown,
}

/// The rows of the media decision table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// `anchor: never`.
    ConfiguredNever,
    /// `anchor: always`.
    ConfiguredAlways,
    /// A sibling proxy decided already, direct or anchored.
    SiblingDecided,
    /// Signalling source IP ≠ SDP IP.
    SourceDiffers,
    /// SDP names an address nobody outside can reach, from a public source.
    UnreachableAddress,
    /// One side's network is not to see the other side's addresses (`hide-topology`).
    Hidden,
    /// Private and matching on one side, public on the other.
    PrivateToPublic,
    /// Both private and matching in one configured network.
    SameNetwork,
    /// Both public and matching, and no other sign of a NAT.
    BothPublic,
    /// Via sent-by or Contact show a NAT though the addresses match.
    SignsOfNat,
    /// Both behind the same public address.
    SameNat,
    /// One side IPv4, the other IPv6.
    FamiliesDiffer,
    /// ICE in the offer.
    Ice,
    /// The callee has not been seen, or anything else.
    Unknown,
    /// The answer revealed what the offer could not: decided too late for this call.
    DecidedTooLate,
    /// The dialog is anchored already and stays so.
    Sticky,
    /// No SDP to decide on.
    NoSdp,
    /// The parties protect their media differently: keys have to be translated.
    KeysDiffer,
}

/// The record of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEnded {
    /// Call-ID.
    pub call: Name,
    /// Caller's address of record.
    pub from: Name,
    /// Callee's address of record.
    pub to: Name,
    /// Final status of the INVITE; 200 for a call that was answered.
    pub status: u16,
    /// Answer to end; zero when it was never answered.
    pub duration: Duration,
    /// INVITE to final response.
    pub setup: Duration,
    /// Who ended it.
    pub by: EndedBy,
    /// Whether media went through a relay.
    pub anchored: bool,
}

/// How far a phone's call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This phone rings, as the callee, or the other one says that it does.
    Rings(Side),
    /// It is up.
    Answered,
    /// It was up and is over.
    Ended {
        /// This phone ended it.
        by_us: bool,
    },
    /// It never was up.
    Failed {
        /// The final status of its INVITE; none: that was never sent.
        status: Option<u16>,
    },
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The caller: BYE or CANCEL.
    Caller,
    /// The callee: BYE or a final failure.
    Callee,
    /// Media fell silent on both sides.
    Silence,
    /// A timer: no answer, session expired.
    Timeout,
    /// We could not go on (no route, no relay).
    Us,
}

/// Why a relay session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// BYE.
    Bye,
    /// Never answered, or its INVITE failed.
    Abandoned,
    /// Both parties fell silent, and the proxy ended the call on the relay's word.
    Silent,
    /// Refresh overdue and media silent.
    Overdue,
    /// The relay is stopping.
    Stopping,
}

/// Why a party can't be heard by the other, most likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneWay {
    /// Nothing came from the silent party, and there is no address of its own to send to: it hears nothing either.
    NowhereToSend,
    /// Packets came, from where the silent party is not expected.
    Strangers,
    /// Packets came that might be the silent party's or another call's: legs share their ports.
    Ambiguous,
    /// Nothing ever came.
    Nothing,
    /// It was heard before.
    Stopped,
    /// All that comes are digits (RFC 4733) or comfort noise.
    DigitsOnly,
    /// It sends a payload type that the other party's description doesn't have.
    Codec(u8),
    /// What it sends goes on, and the other party's RTCP reports that nothing arrives.
    Unreceived,
    /// What it sends goes on, and the other party's address answers by ICMP that it can't be delivered.
    Undelivered(Unreachable),
    /// Nothing comes, and what is sent to the silent party is answered by ICMP: it is not there any more.
    Gone(Unreachable),
}

/// How one party's media is at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sound {
    /// What was seen so far.
    pub quality: LegQuality,
    /// Its own description keeps media from flowing both ways.
    pub held: bool,
    /// How long nothing has come; `None`: nothing ever did.
    pub quiet: Option<Duration>,
    /// Where it is heard from.
    pub from: Option<SocketAddr>,
    /// Where it is sent to.
    pub to: Option<SocketAddr>,
    /// Why the other party can't hear it, if so.
    pub trouble: Option<OneWay>,
}

/// How a relay session is at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Its name.
    pub session: Name,
    /// Caller and callee.
    pub parties: [Sound; 2],
}

/// What one leg of a relay session saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegQuality {
    /// Packets accepted from the party.
    pub packets: u64,
    /// Their bytes (UDP payload).
    pub bytes: u64,
    /// Packets that never came, by sequence numbers.
    pub lost: u64,
    /// Packets that came late.
    pub reordered: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), in microseconds.
    pub jitter_us: u32,
    /// Packets from strangers, dropped.
    pub strangers: u64,
    /// Of them, those that were kept out in the kernel while a port of it was flooded.
    pub kept_out: u64,
    /// Packets for the party of which ICMP says that they did not arrive.
    pub undelivered: u32,
    /// Mean opinion score by ITU-T G.107, in hundredths (100–450); 0: unknown.
    pub mos: u16,
    /// Most packets lost in a row.
    pub burst: u16,
    /// Round trip between relay and party, in microseconds, as RTCP reports that passed show it; 0: unknown.
    pub round_trip_us: u32,
    /// What its packets were in last: `PCMU`, `opus`; empty: unknown.
    pub codec: &'static str,
    /// Telephone-events heard (RFC 4733): how many, never which.
    pub digits: u32,
    /// Packets the party itself reports as lost of what is sent to it, and the jitter it reports, in microseconds.
    pub reported_lost: u32,
    /// See `reported_lost`.
    pub reported_jitter_us: u32,
    /// First and last packet, counted from the session's beginning; `None`: nothing came.
    pub heard: Option<[Duration; 2]>,
}
