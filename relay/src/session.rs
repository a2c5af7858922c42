//! A session: two parties, and the streams between them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::control::{self, Ask, Mode};
use proto::event::{LegQuality, Name, Side};
use proto::node::Flow;
use proto::sip::transaction::ClientId;
use proto::tables::Latch;

use crate::keys::Said;
use crate::latch::Rule;

/// Which session and side a leg belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) session: control::Session,
    pub(crate) side: Side,
}

/// What is known of one party.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party {
    /// Index of the network it is met in.
    pub(crate) network: usize,
    /// Where its signalling comes from.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) latch: Latch,
    pub(crate) trusted: bool,
    /// It stands behind another session, of this relay perhaps.
    pub(crate) chained: bool,
}

impl Party {
    /// Whom its legs accept first, as far as the party itself decides.
    pub(crate) fn rule(&self) -> Rule {
        Rule { latch: self.latch, signalled: None, signalling: self.peer, chained: self.chained }
    }

    /// What a request says of it.
    pub(crate) fn learn(&mut self, ask: &Ask) {
        self.peer = ask.peer.or(self.peer);
        self.latch = ask.latch;
        self.trusted = ask.trusted;
        self.chained = ask.chained;
    }
}

/// One m= section: a leg for each party, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) legs: [u32; 2],
    /// Both legs use the same ports.
    pub(crate) shared: bool,
}

/// The dialog with the proxy that made the session.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// The way its last request came.
    pub(crate) flow: Flow,
    /// Its Contact.
    pub(crate) contact: String,
    /// Its last CSeq.
    pub(crate) cseq: u32,
    /// Ours.
    pub(crate) own_cseq: u32,
}

/// A media session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: control::Session,
    /// Its name in Events.
    pub(crate) name: Name,
    pub(crate) mode: Mode,
    pub(crate) parties: [Party; 2],
    /// By m= section; `None`: rejected, or without a port of its own.
    pub(crate) streams: Vec<Option<Stream>>,
    /// `None`: an ng client made it.
    pub(crate) dialog: Option<Box<Dialog>>,
    /// When it was last refreshed, by any request or command.
    pub(crate) refreshed: Instant,
    pub(crate) born: Instant,
    /// What streams that ended had seen, if any have.
    pub(crate) ended: Option<Box<[LegQuality; 2]>>,
    /// When it is to be looked at next.
    pub(crate) watch: Option<Instant>,
    /// Our BYE, while it is under way.
    pub(crate) bye: Option<ClientId>,
    /// It is recorded.
    pub(crate) recorded: bool,
    /// The relay stands between different ways to protect media: by party, what each of its m= sections said or was told.
    pub(crate) bridges: Option<Box<[Vec<Said>; 2]>>,
    /// Until then silence isn't reported (again).
    pub(crate) quiet_until: Option<Instant>,
}

impl Session {
    /// One that begins: without streams, and nobody's dialog yet.
    pub(crate) fn new(id: control::Session, mode: Mode, parties: [Party; 2], now: Instant) -> Session {
        Session {
            id,
            name: id.to_string().into(),
            mode,
            parties,
            streams: Vec::new(),
            dialog: None,
            refreshed: now,
            born: now,
            ended: None,
            watch: None,
            bye: None,
            recorded: false,
            bridges: None,
            quiet_until: None,
        }
    }

    /// What streams that ended had seen of each party.
    pub(crate) fn ended(&self) -> [LegQuality; 2] {
        self.ended.as_deref().copied().unwrap_or_default()
    }

    /// A stream has ended: this is what it had seen of one party.
    pub(crate) fn add_ended(&mut self, side: usize, quality: LegQuality) {
        let ended = self.ended.get_or_insert_default();
        ended[side] = sum(ended[side], quality);
    }

    /// Its streams that have ports.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().flatten()
    }

    /// Indices of all its legs.
    pub(crate) fn legs(&self) -> impl Iterator<Item = u32> {
        self.streams().flat_map(|stream| stream.legs)
    }

    /// When its refresh is overdue.
    pub(crate) fn overdue_at(&self, refresh: Duration) -> Instant {
        self.refreshed + refresh
    }
}

/// Adds up what two legs of one party saw: counts add, jitter is the worst, the score the lowest.
pub(crate) fn sum(a: LegQuality, b: LegQuality) -> LegQuality {
    let mos = match (a.mos, b.mos) {
        (0, mos) | (mos, 0) => mos,
        (a, b) => a.min(b),
    };
    LegQuality {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        lost: a.lost + b.lost,
        reordered: a.reordered + b.reordered,
        jitter_us: a.jitter_us.max(b.jitter_us),
        strangers: a.strangers + b.strangers,
        kept_out: a.kept_out + b.kept_out,
        undelivered: a.undelivered + b.undelivered,
        mos,
        burst: a.burst.max(b.burst),
        round_trip_us: a.round_trip_us.max(b.round_trip_us),
        codec: if a.codec.is_empty() { b.codec } else { a.codec },
        digits: a.digits + b.digits,
        reported_lost: a.reported_lost + b.reported_lost,
        reported_jitter_us: a.reported_jitter_us.max(b.reported_jitter_us),
        heard: match (a.heard, b.heard) {
            (Some(a), Some(b)) => Some([a[0].min(b[0]), a[1].max(b[1])]),
            (a, b) => a.or(b),
        },
    }
}

/// 0 for the caller, 1 for the callee.
pub(crate) fn index(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Callee => 1,
    }
}
