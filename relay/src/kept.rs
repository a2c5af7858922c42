//! What a session must have left behind so that a relay that was killed goes on with it: its ports, whom it heard where,
//! and what its signalling will be held against. Written whenever one of these changes, never by a packet.
//!
//! A relay that starts asks for exactly these ports. A session whose ports are all open again is as it was, but for what
//! was counted; one whose ports somebody else has by now is given up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proto::control::{self, Mode};
use proto::event::Side;
use proto::node::{Flow, FlowId, Transport};
use proto::sdp::Kind;
use proto::tables::{Latch, Tables};

use crate::keys::{Keys, Said};
use crate::latch::Rule;
use crate::leg::{Channel, Leg};
use crate::ng::bencode;
use crate::ng::value::{Dict, Value};
use crate::ports::{Lease, Port, PortId};
use crate::quality::Clocks;
use crate::relay::Relay;
use crate::session::{Dialog, Party, Session, Stream, Whose};
use crate::switches::Switches;

/// Sessions whose ports are being opened again.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    /// Which sessions wait for a port: several, where ports are common.
    awaited: BTreeMap<PortId, Vec<u64>>,
    sessions: BTreeMap<u64, Waiting>,
    asked: bool,
}

#[derive(Debug)]
struct Waiting {
    record: Vec<u8>,
    missing: usize,
    ports: BTreeMap<PortId, Port>,
}

impl Relay {
    /// Leaves behind what changed since last time.
    pub(crate) fn keep_changed(&mut self, tables: &mut dyn Tables) {
        let changed = std::mem::take(&mut self.changed);
        if !tables.keeps_sessions() {
            return;
        }
        for id in changed {
            let record = self.sessions.get(&id).map(|session| self.pack(session));
            tables.keep_session(id, record.as_deref());
        }
    }

    /// Every session as it is now, for whoever goes on with this lane's ports. Those that still wait for their ports are
    /// among them.
    pub fn leave_behind(&self) -> Vec<(u64, Vec<u8>)> {
        let alive = self.sessions.iter().map(|(id, session)| (*id, self.pack(session)));
        let waiting = self.restoring.sessions.iter().map(|(id, waiting)| (*id, waiting.record.clone()));
        alive.chain(waiting).collect()
    }

    /// Once, right after birth: takes up what was left behind, as far as it was this lane's.
    pub(crate) fn take_up(&mut self, tables: &mut dyn Tables) {
        if std::mem::replace(&mut self.restoring.asked, true) {
            return;
        }
        for (id, record) in tables.kept_sessions() {
            let read = bencode::read(&record);
            let kept = read.as_ref().and_then(Value::as_dict).map(Kept);
            let Some(ports) = kept.and_then(|kept| self.ports_of(&kept)) else { continue };
            let taken = |port: &PortId| !self.config.one_port && self.restoring.awaited.contains_key(port);
            if ports.is_empty() || ports.iter().any(taken) {
                continue;
            }
            ports.iter().for_each(|port| self.pool.open_again(*port, &mut self.outputs));
            ports.iter().for_each(|port| self.restoring.awaited.entry(*port).or_default().push(id));
            let waiting = Waiting { record, missing: ports.len(), ports: BTreeMap::new() };
            self.restoring.sessions.insert(id, waiting);
        }
    }

    /// A port is open: `true` when a session has waited for it.
    pub(crate) fn is_awaited(&mut self, now: Instant, id: PortId) -> bool {
        let awaiting = self.restoring.awaited.remove(&id).unwrap_or_default();
        let mut awaited = false;
        for session in awaiting {
            let Some(waiting) = self.restoring.sessions.get_mut(&session) else { continue };
            let Some(port) = self.pool.lend_again(id) else { continue };
            awaited = true;
            waiting.ports.insert(id, port);
            waiting.missing -= 1;
            if waiting.missing == 0
                && let Some(waiting) = self.restoring.sessions.remove(&session)
            {
                self.go_on(now, session, &waiting);
            }
        }
        awaited
    }

    /// A port can't be opened: whoever waited for it is given up, and its other ports with it.
    pub(crate) fn give_up_on(&mut self, now: Instant, id: PortId) {
        for session in self.restoring.awaited.remove(&id).unwrap_or_default() {
            self.restoring.awaited.values_mut().for_each(|waits| waits.retain(|other| *other != session));
            if let Some(waiting) = self.restoring.sessions.remove(&session) {
                waiting.ports.into_values().for_each(|port| self.return_port(now, port));
                self.changed.insert(session);
            }
        }
    }

    fn go_on(&mut self, now: Instant, id: u64, waiting: &Waiting) {
        let record = bencode::read(&waiting.record);
        let kept = record.as_ref().and_then(Value::as_dict).map(Kept);
        let Some(session) = kept.and_then(|kept| self.unpack(now, &kept, &waiting.ports)) else { return };
        let streams: Vec<Stream> = session.streams().copied().collect();
        self.bundle_again(&session);
        self.sessions.insert(id, Box::new(session));
        streams.iter().for_each(|stream| self.connect(stream));
        self.watch(control::Session(id));
    }

    fn pack(&self, session: &Session) -> Vec<u8> {
        let moment = |at: Instant| {
            let since = self.birth.wall_at(at).duration_since(UNIX_EPOCH).unwrap_or_default();
            Value::Int(since.as_millis() as i64)
        };
        let parties = session.parties.iter().map(|party| Value::Dict(self.pack_party(party)));
        let streams = session.streams.iter().map(|stream| Value::Dict(self.pack_stream(stream.as_ref())));
        let mut dict = Dict::default()
            .with("born", moment(session.born))
            .with("id", Value::text(session.id.to_string()))
            .with("parties", Value::List(parties.collect()))
            .with("recorded", flag(session.recorded))
            .with("refreshed", moment(session.refreshed))
            .with("shared", flag(session.mode == Mode::Shared))
            .with("streams", Value::List(streams.collect()));
        if let Some(bridges) = &session.bridges {
            let section = |said: &Said| Value::text(format!("{} {}", said.protocol, said.mid));
            let party = |said: &Vec<Said>| Value::List(said.iter().map(section).collect());
            dict.set("bridges", Value::List(bridges.iter().map(party).collect()));
        }
        match &session.dialog {
            Some(dialog) => dict.set("dialog", Value::Dict(pack_dialog(dialog))),
            None => dict.set("ng", Value::Dict(self.ng.calls.pack(session.id))),
        }
        let mut out = Vec::with_capacity(1024);
        bencode::write(&Value::Dict(dict), &mut out);
        out
    }

    fn pack_party(&self, party: &Party) -> Dict<'static> {
        let dict = Dict::default()
            .with("bind", Value::text(self.config.networks[party.network].bind.to_string()))
            .with("chained", flag(party.chained))
            .with("latch", latch_number(party.latch))
            .with("trusted", flag(party.trusted));
        maybe(dict, "peer", party.peer)
    }

    fn pack_stream(&self, stream: Option<&Stream>) -> Dict<'static> {
        let Some(stream) = stream else { return Dict::default() };
        let legs = stream.legs.iter().filter_map(|leg| self.legs.get(*leg as usize));
        let legs = legs.map(|leg| Value::Dict(pack_leg(leg)));
        Dict::default().with("legs", Value::List(legs.collect())).with("shared", flag(stream.shared))
    }

    /// The ports a session had; `None`: they are not this lane's, or not in its networks any more.
    fn ports_of(&self, kept: &Kept<'_>) -> Option<Vec<PortId>> {
        let mut ports = Vec::new();
        for stream in kept.list("streams") {
            let stream = stream.as_dict().map(Kept)?;
            for (side, leg) in stream.list("legs").iter().enumerate() {
                let leg = Kept(leg.as_dict()?);
                let network = self.network_of(kept, if stream.flag("shared") { 0 } else { side })?;
                for channel in ["media", "rtcp"] {
                    let Some(channel) = leg.dict(channel) else { continue };
                    let id = self.pool.id_of(network, channel.number("port")? as u16)?;
                    if !ports.contains(&id) {
                        ports.push(id);
                    }
                }
            }
        }
        Some(ports)
    }

    fn network_of(&self, kept: &Kept<'_>, side: usize) -> Option<usize> {
        let bind: IpAddr = Kept(kept.list("parties").get(side)?.as_dict()?).read_text("bind")?;
        self.config.networks.iter().position(|network| network.bind == bind)
    }

    fn unpack(&mut self, now: Instant, kept: &Kept<'_>, ports: &BTreeMap<PortId, Port>) -> Option<Session> {
        let id = control::Session::from_name(kept.0.text("id")?)?;
        let parties = [self.unpack_party(kept, 0)?, self.unpack_party(kept, 1)?];
        let moment = |key: &str| self.moment(now, kept.number(key));
        let mode = if kept.flag("shared") { Mode::Shared } else { Mode::Split };
        let mut session = Session {
            dialog: kept.dict("dialog").and_then(|dialog| unpack_dialog(&dialog)).map(Box::new),
            refreshed: moment("refreshed"),
            recorded: kept.flag("recorded"),
            bridges: unpack_bridges(kept).map(Box::new),
            ..Session::new(id, mode, parties, moment("born"))
        };
        for stream in kept.list("streams") {
            let stream = self.unpack_stream(now, &session, &Kept(stream.as_dict()?), ports);
            session.streams.push(stream);
        }
        match kept.dict("ng") {
            Some(ng) => self.ng.calls.unpack(now, id, ng.0)?,
            None => drop(session.dialog.as_ref()?),
        }
        Some(session)
    }

    fn unpack_party(&self, kept: &Kept<'_>, side: usize) -> Option<Party> {
        let party = Kept(kept.list("parties").get(side)?.as_dict()?);
        Some(Party {
            network: self.network_of(kept, side)?,
            peer: party.read_text("peer"),
            latch: read_latch(party.number("latch")),
            trusted: party.flag("trusted"),
            chained: party.flag("chained"),
        })
    }

    fn unpack_stream(
        &mut self,
        now: Instant,
        session: &Session,
        kept: &Kept<'_>,
        ports: &BTreeMap<PortId, Port>,
    ) -> Option<Stream> {
        let shared = kept.flag("shared");
        let mut legs = [u32::MAX; 2];
        for (at, leg) in kept.list("legs").iter().enumerate().take(2) {
            let network = session.parties[if shared { 0 } else { at }].network;
            let side = if at == 0 { Side::Caller } else { Side::Callee };
            let port = |channel: &Kept<'_>| {
                let id = self.pool.id_of(network, channel.number("port")? as u16)?;
                ports.get(&id).copied()
            };
            let leg = unpack_leg(now, Whose { session: session.id, side }, &Kept(leg.as_dict()?), port)?;
            legs[at] = self.seat(leg);
        }
        let [a, b] = legs;
        self.legs.get_mut(a as usize)?.other = b;
        self.legs.get_mut(b as usize)?.other = a;
        Some(Stream { legs, shared })
    }

    /// A moment of another process's life, on this one's clock: never later than now.
    fn moment(&self, now: Instant, millis: Option<i64>) -> Instant {
        let then =
            UNIX_EPOCH + Duration::from_millis(millis.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0));
        let age = self.birth.wall_at(now).duration_since(then).unwrap_or(Duration::ZERO);
        now.checked_sub(age).unwrap_or(now)
    }
}

fn unpack_bridges(kept: &Kept<'_>) -> Option<[Vec<Said>; 2]> {
    let section = |said: &Value<'_>| {
        let (protocol, mid) = said.as_text()?.split_once(' ')?;
        Some(Said { protocol: protocol.to_owned(), mid: mid.to_owned() })
    };
    let party = |party: &Value<'_>| match party {
        Value::List(sections) => sections.iter().filter_map(section).collect(),
        _ => Vec::new(),
    };
    kept.list("bridges").iter().map(party).collect::<Vec<_>>().try_into().ok()
}

fn pack_dialog(dialog: &Dialog) -> Dict<'static> {
    Dict::default()
        .with("contact", Value::text(dialog.contact.clone()))
        .with("cseq", Value::Int(dialog.cseq.into()))
        .with("local", Value::text(dialog.flow.local.to_string()))
        .with("own", Value::Int(dialog.own_cseq.into()))
        .with("remote", Value::text(dialog.flow.remote.to_string()))
        .with("transport", Value::text(dialog.flow.transport.uri_param()))
}

fn unpack_dialog(kept: &Kept<'_>) -> Option<Dialog> {
    let transport = Transport::from_name(kept.0.text("transport")?)?;
    let (local, remote) = (kept.read_text("local")?, kept.read_text("remote")?);
    let cseq = |key: &str| kept.number(key).and_then(|number| u32::try_from(number).ok());
    Some(Dialog {
        flow: Flow { transport, local, remote, id: FlowId(0) },
        contact: kept.0.text("contact")?.to_owned(),
        cseq: cseq("cseq")?,
        own_cseq: cseq("own")?,
    })
}

fn pack_leg(leg: &Leg) -> Dict<'static> {
    let mut dict = Dict::default()
        .with("chained", flag(leg.rule.chained))
        .with("clocks", Value::text(leg.clocks.pack()))
        .with("datagrams", flag(leg.kind == Kind::Datagram))
        .with("held", flag(leg.held))
        .with("latch", latch_number(leg.rule.latch))
        .with("media", Value::Dict(pack_channel(&leg.media)))
        .with("mux", flag(leg.mux))
        .with("pinned", flag(leg.pinned))
        .with("switches", Value::Int(leg.switches.bits().into()));
    if let Some(rtcp) = &leg.rtcp {
        dict.set("rtcp", Value::Dict(pack_channel(rtcp)));
    }
    if let Some(keys) = &leg.keys {
        dict.set("keys", Value::Dict(keys.pack()));
    }
    if let Some(wants) = leg.wants_mux {
        dict.set("wants mux", flag(wants));
    }
    let dict = maybe(dict, "signalled", leg.rule.signalled);
    maybe(dict, "signalling", leg.rule.signalling)
}

fn pack_channel(channel: &Channel) -> Dict<'static> {
    let dict = Dict::default().with("port", Value::Int(channel.port.number.into()));
    let dict = maybe(dict, "latched", channel.latched);
    let dict = maybe(dict, "signalled", channel.signalled);
    maybe(dict, "target", channel.target)
}

fn unpack_leg(
    now: Instant,
    whose: Whose,
    kept: &Kept<'_>,
    port: impl Fn(&Kept<'_>) -> Option<Port>,
) -> Option<Leg> {
    let rule = Rule {
        latch: read_latch(kept.number("latch")),
        signalled: kept.read_text("signalled"),
        signalling: kept.read_text("signalling"),
        chained: kept.flag("chained"),
    };
    let kind = if kept.flag("datagrams") { Kind::Datagram } else { Kind::Rtp };
    let media = kept.dict("media")?;
    let rtcp = kept.dict("rtcp");
    let lease = Lease { rtp: port(&media)?, rtcp: rtcp.as_ref().and_then(&port) };
    let mut leg = Leg::new(whose, kind, &lease, rule);
    let channel = |channel: &mut Channel, kept: &Kept<'_>| {
        let address = |key: &str| kept.read_text::<SocketAddr>(key);
        (channel.latched, channel.signalled, channel.target) =
            (address("latched"), address("signalled"), address("target"));
    };
    channel(&mut leg.media, &media);
    if let (Some(own), Some(kept)) = (leg.rtcp.as_mut(), &rtcp) {
        channel(own, kept);
    }
    if leg.media.latched.is_some() {
        // As if just heard: silence counts from now.
        (leg.heard, leg.media_heard, leg.first_heard) = (Some(now), Some(now), Some(now));
    }
    (leg.held, leg.mux, leg.pinned) = (kept.flag("held"), kept.flag("mux"), kept.flag("pinned"));
    leg.wants_mux = kept.0.value("wants mux").map(|_| kept.flag("wants mux"));
    leg.switches = Switches::of_bits(kept.number("switches").unwrap_or(0) as u8);
    leg.clocks = Arc::new(Clocks::unpack(kept.0.text("clocks").unwrap_or_default()));
    leg.keys = match kept.dict("keys") {
        Some(keys) => Some(Box::new(Keys::unpack(keys.0)?)),
        None => None,
    };
    if let (Some(keys), Some(_)) = (&mut leg.keys, leg.media.latched)
        && let Some(ice) = &mut keys.terms.ice
    {
        ice.checked = Some(now);
    }
    Some(leg)
}

/// A dictionary that was left behind.
struct Kept<'a>(&'a Dict<'a>);

impl<'a> Kept<'a> {
    fn list(&self, key: &str) -> &'a [Value<'a>] {
        match self.0.value(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    fn dict(&self, key: &str) -> Option<Kept<'a>> {
        self.0.value(key)?.as_dict().map(Kept)
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.0.value(key)?.as_int()
    }

    fn flag(&self, key: &str) -> bool {
        self.number(key) == Some(1)
    }

    fn read_text<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.0.text(key)?.parse().ok()
    }
}

fn flag(on: bool) -> Value<'static> {
    Value::Int(on.into())
}

fn maybe(dict: Dict<'static>, key: &str, value: Option<impl ToString>) -> Dict<'static> {
    match value {
        Some(value) => dict.with(key, Value::text(value.to_string())),
        None => dict,
    }
}

fn latch_number(latch: Latch) -> Value<'static> {
    Value::Int(match latch {
        Latch::Strict => 0,
        Latch::Prefix => 1,
        Latch::Any => 2,
    })
}

fn read_latch(number: Option<i64>) -> Latch {
    match number {
        Some(1) => Latch::Prefix,
        Some(2) => Latch::Any,
        _ => Latch::Strict,
    }
}
