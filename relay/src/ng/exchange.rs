//! Offer and answer: what one party says of itself goes into the session, and comes out as the other shall see it.

use std::time::Instant;

use proto::control::{Ask, Mode, Session as SessionId};
use proto::event::{Event, MediaDecided, Rule, Side, Sighting};
use proto::node::{Flow, Transport};
use proto::sdp::{Connection, Kind, Media, Protection, Rewrite, Sdp};
use proto::tables::Anchor;

use super::calls::{Dialog, Said};
use super::command::Describe;
use super::flags::Flags;
use super::keying;
use super::restate::{Restate, Section, restate, said};
use super::value::{Dict, Value};
use super::{Answer, NOT_FOUND, Refused, ok};
use crate::describe::Plan;
use crate::relay::Relay;
use crate::session::{Party, Session, index};

impl Relay {
    /// The first half of an exchange.
    pub(crate) fn offer(&mut self, now: Instant, flow: Flow, describe: &Describe) -> Answer {
        let sdp = parse(describe)?;
        if self.is_marked(describe) {
            return Ok(with_sdp(describe.sdp.clone()));
        }
        keying::check(&describe.flags)?;
        let same = has_protocol(&sdp, &describe.flags);
        let known =
            self.ng.calls.by_id.get(&describe.target.call).and_then(|call| call.offered(&describe.target));
        let (id, side, new) = match known {
            Some((at, side)) => (self.dialog(describe, at).ok_or(LOST)?.session, side, false),
            None => (self.begin_dialog(now, describe)?, Side::Caller, true),
        };
        let taken = self.take(now, id, side, describe, &sdp, false, &|media| media);
        if taken.is_err() && new {
            self.ng.ended.rejected += u64::from(!matches!(taken, Err(Refused::Yet(_))));
            self.drop_unborn(id);
        }
        let plans = taken?;
        if new {
            self.register(now, flow, id, describe);
        }
        self.remember(now, id, side, describe, &sdp);
        let sections = self.sections(id, side, &sdp, &plans, &describe.flags, false, same);
        self.finish(id, side, describe, &sdp, &sections, &plans, false)
    }

    /// The second half. Its tags are those of the offer.
    pub(crate) fn answer_to(&mut self, now: Instant, describe: &Describe) -> Answer {
        let sdp = parse(describe)?;
        if self.is_marked(describe) {
            return Ok(with_sdp(describe.sdp.clone()));
        }
        let target = &describe.target;
        let call = self.ng.calls.by_id.get(&target.call).ok_or(Refused::Error("Unknown call-id"))?;
        let (at, offerer) = call.answered(target).ok_or(Refused::Error(NOT_FOUND))?;
        let (dialog, side) = (&call.dialogs[at], offerer.other());
        let id = dialog.session;
        let theirs = dialog.ends[index(offerer)].said.clone();
        let told = dialog.ends[index(side)].told_mux.clone();
        let offers = &dialog.ends[index(offerer)];
        let accept = offers.mux_accept || describe.flags.mux_accept || describe.flags.mux_demux;
        let reject = offers.mux_reject || describe.flags.mux_reject;
        if self.sessions.get(&id.0).is_none_or(|session| session.bridges.is_none()) {
            check_answer(&sdp, &theirs)?;
        }
        let mux = mux_of(&sdp, &theirs, &told, accept, reject);
        let both = |at: usize| mux.get(at).is_some_and(|[offerer, answerer]| *offerer && *answerer);
        let plans = self.take(now, id, side, describe, &sdp, true, &|mut media| {
            for (at, media) in media.iter_mut().enumerate() {
                media.rtcp_mux = both(at) || media.rtcp_mux && Protection::of(media) == Protection::Dtls;
            }
            media
        })?;
        self.settle_muxes(id, offerer, &mux);
        self.remember(now, id, side, describe, &sdp);
        self.answered_by(now, id, describe);
        let mut sections = self.sections(id, side, &sdp, &plans, &describe.flags, true, false);
        for (at, section) in sections.iter_mut().enumerate() {
            let muxed = mux.get(at).is_some_and(|[offerer, _]| *offerer);
            (section.mux, section.muxed) = (muxed, muxed);
            let said = theirs.get(at);
            section.protocol = said.map(|said| said.protocol.to_string());
            section.offered = said.map(|said| said.codecs.to_vec());
            section.mid = said.and_then(|said| said.mid.as_deref()).map(str::to_owned);
        }
        self.finish(id, side, describe, &sdp, &sections, &plans, true)
    }

    /// A session without streams, between the networks the flags name.
    fn begin_dialog(&mut self, now: Instant, describe: &Describe) -> Result<SessionId, Refused> {
        if self.draining {
            return Err(Refused::Full("this relay takes no new sessions: it is being stopped"));
        }
        if self.sessions.len() >= self.config.sessions {
            return Err(Refused::Full("Parallel session limit reached"));
        }
        let id = loop {
            let id = SessionId(self.dice.u64());
            if !self.sessions.contains_key(&id.0) {
                break id;
            }
        };
        let parties = self.ng_parties(describe);
        self.sessions.insert(id.0, Box::new(Session::new(id, Mode::Split, parties, now)));
        Ok(id)
    }

    fn ng_parties(&self, describe: &Describe) -> [Party; 2] {
        let flags = &describe.flags;
        let offered = Sdp::parse(&describe.sdp).ok();
        let ip = offered.as_ref().and_then(|sdp| sdp.addresses().first().copied());
        let from_ipv4 = ip.is_none_or(|ip| ip.to_canonical().is_ipv4());
        let [from, to] = flags.direction.as_ref().map_or(["", ""], |[from, to]| [from, to]);
        let latch = self.config.ng.as_ref().map_or(self.config.latch, |ng| ng.latch);
        let party = |network: &str, ipv4: bool| Party {
            network: self
                .config
                .network(network, ipv4)
                .or_else(|| self.config.network("", ipv4))
                .unwrap_or(0),
            peer: None,
            latch,
            trusted: true,
            chained: false,
        };
        [party(from, from_ipv4), party(to, flags.ipv4.unwrap_or(from_ipv4))]
    }

    /// A session nobody was told of goes without a word.
    fn drop_unborn(&mut self, id: SessionId) {
        let watched = self.sessions.remove(&id.0).and_then(|session| session.watch);
        watched.map(|at| self.watches.remove(&(at, id.0)));
    }

    #[allow(clippy::too_many_arguments)]
    /// Takes in what a party says. `view` may show the session something else than was said.
    fn take(
        &mut self,
        now: Instant,
        id: SessionId,
        side: Side,
        describe: &Describe,
        sdp: &Sdp<'_>,
        is_answer: bool,
        view: &dyn for<'v> Fn(Vec<Media<'v>>) -> Vec<Media<'v>>,
    ) -> Result<Vec<Plan>, Refused> {
        let flags = &describe.flags;
        let mut session = self.sessions.remove(&id.0).ok_or(LOST)?;
        let before = self.port_count(&session);
        let moved = flags.received_from.filter(|_| flags.sip_source).map(|ip| (ip, ip.to_string()));
        let mut seen = Sdp { media: view(sdp.media.clone()), ..sdp.clone() };
        if let Some((ip, host)) = &moved {
            let source = Connection { host, ip: Some(*ip) };
            for media in seen.media.iter_mut().filter(|media| !media.is_blackholed()) {
                media.connection = Some(source);
            }
        }
        let muxes = self.muxes(&session);
        let ask = self.ask_with_keys(&session, side, flags, &seen, is_answer);
        let plans = self.take_in(now, &mut session, &ask, &seen);
        self.leave_ice_out(&session, side, flags);
        self.settle_roles(now, &session, if is_answer { side.other() } else { side }, flags);
        self.restore_muxes(&session, &muxes);
        if plans.is_ok() {
            session.refreshed = now;
            let own: Vec<u32> = session.streams().map(|stream| stream.legs[index(side)]).collect();
            for leg in own {
                if let Some(leg) = self.legs.get_mut(leg as usize) {
                    leg.pinned = flags.asymmetric;
                }
            }
        }
        let grown = self.port_count(&session) > before;
        self.sessions.insert(id.0, session);
        if plans.is_ok() && grown {
            self.tell_allocated(id, before);
        } else if matches!(plans, Err(crate::describe::Not::Refused(refusal)) if refusal.status == 503) {
            self.tell_exhausted(id);
        }
        self.watch(id);
        Ok(plans?)
    }

    /// By m= section: whether RTCP shares the media port, towards caller and callee.
    fn muxes(&self, session: &Session) -> Vec<[bool; 2]> {
        let of = |leg: u32| self.legs.get(leg as usize).is_some_and(|leg| leg.mux);
        session.streams.iter().map(|stream| stream.map_or([false; 2], |stream| stream.legs.map(of))).collect()
    }

    /// An offer changes nothing about RTCP until it is answered.
    fn restore_muxes(&mut self, session: &Session, muxes: &[[bool; 2]]) {
        for (stream, muxes) in session.streams.iter().zip(muxes) {
            for (leg, mux) in stream.iter().flat_map(|stream| stream.legs).zip(muxes) {
                if let Some(leg) = self.legs.get_mut(leg as usize) {
                    leg.mux = *mux || leg.mux;
                }
            }
        }
    }

    /// Each party may have its own way with RTCP; `mux` is by section, offerer's and answerer's.
    fn settle_muxes(&mut self, id: SessionId, offerer: Side, mux: &[[bool; 2]]) {
        let Some(session) = self.sessions.get(&id.0) else { return };
        for (stream, [offers, answers]) in session.streams.iter().zip(mux) {
            let Some(stream) = stream else { continue };
            if stream.legs.iter().any(|leg| self.is_by_dtls(*leg)) {
                continue;
            }
            for (side, mux) in [(offerer, *offers), (offerer.other(), *answers)] {
                if let Some(leg) = self.legs.get_mut(stream.legs[index(side)] as usize) {
                    leg.mux = mux;
                }
            }
        }
    }

    /// What stands in the m= sections towards the party opposite `side`.
    #[allow(clippy::too_many_arguments)]
    fn sections(
        &self,
        id: SessionId,
        side: Side,
        sdp: &Sdp<'_>,
        plans: &[Plan],
        flags: &Flags,
        is_answer: bool,
        same_protocol: bool,
    ) -> Vec<Section> {
        let Some(session) = self.sessions.get(&id.0) else { return Vec::new() };
        let rewrites = self.rewrites(session, side.other(), plans);
        let theirs = self.ng.calls.said(id, side.other());
        let section = |(at, (rewrite, media)): (usize, (Option<Rewrite>, &Media<'_>))| Section {
            rewrite,
            ptime: theirs.and_then(|said| said.get(at)?.ptime),
            protocol: flags.protocol.clone().filter(|_| !same_protocol && media.kind == Kind::Rtp),
            mux: !is_answer && offers_mux(media.rtcp_mux, flags),
            muxed: !is_answer && flags.mux_require,
            ..Section::default()
        };
        rewrites.into_iter().zip(&sdp.media).enumerate().map(section).collect()
    }

    /// Keeps what the second half, and later offers, will be held against.
    fn remember(&mut self, now: Instant, id: SessionId, side: Side, describe: &Describe, sdp: &Sdp<'_>) {
        let Some(call) = self.ng.calls.of(id) else { return };
        let flags = &describe.flags;
        let said: Vec<Said> = sdp
            .media
            .iter()
            .zip(said(sdp))
            .map(|(media, (codecs, ptime))| Said {
                media: media.media.into(),
                protocol: media.protocol.into(),
                mux: media.rtcp_mux,
                codecs: codecs.into(),
                ptime,
                mid: media.mid.map(Box::from),
            })
            .collect();
        let said = self.ng.said.share(said);
        call.signalled = now;
        call.metadata = flags.metadata.clone().or(call.metadata.take());
        let Some(dialog) = call.dialogs.iter_mut().find(|dialog| dialog.session == id) else { return };
        let end = &mut dialog.ends[index(side)];
        (end.mux_accept, end.mux_reject) = (flags.mux_accept, flags.mux_reject);
        end.label = flags.label.as_deref().map(Box::from).or(end.label.take());
        end.said = said;
        let told = sdp.media.iter().map(|media| offers_mux(media.rtcp_mux, flags)).collect();
        dialog.ends[index(side.other())].told_mux = told;
    }

    /// A new dialog is a call, or a branch of one.
    fn register(&mut self, now: Instant, flow: Flow, id: SessionId, describe: &Describe) {
        let target = &describe.target;
        let first = !self.ng.calls.by_id.contains_key(&target.call);
        self.ng.calls.add(now, target, Dialog::new(id, target));
        self.capture_if_next(id);
        let Some(call) = self.ng.calls.of(id).map(|call| call.name.clone()) else { return };
        if first {
            let from = target.from.as_deref().unwrap_or_default().into();
            self.tell(Event::CallBegun { call: call.clone(), from, to: "".into(), flow });
        }
        self.tell(decided(call, id, flow, describe));
    }

    /// The answerer may be another fork than before: then it is heard anew.
    fn answered_by(&mut self, now: Instant, id: SessionId, describe: &Describe) {
        let Some(call) = self.ng.calls.of(id) else { return };
        let first = !std::mem::replace(&mut call.answered, true);
        let told = (call.name.clone(), now.saturating_duration_since(call.begun));
        let Some(dialog) = call.dialogs.iter_mut().find(|dialog| dialog.session == id) else { return };
        let (from, to) = (describe.target.from.as_deref(), describe.target.to.clone());
        if let Some(side) = from.and_then(|from| dialog.side(from)) {
            let answerer = &mut dialog.ends[index(side.other())];
            answerer.tag = to.map(String::into_boxed_str).or(answerer.tag.take());
        }
        if first {
            self.tell(Event::CallAnswered { call: told.0, setup: told.1 });
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn finish(
        &mut self,
        id: SessionId,
        side: Side,
        describe: &Describe,
        sdp: &Sdp<'_>,
        sections: &[Section],
        plans: &[Plan],
        is_answer: bool,
    ) -> Answer {
        let flags = &describe.flags;
        let session = self.sessions.get(&id.0).ok_or(LOST)?;
        let host = self.config.networks[session.parties[index(side.other())].network].advertise;
        let mark = flags.loop_protect.then_some(self.ng.mark.as_str());
        let bytes = restate(sdp, &Restate { flags, sections, host, is_answer, mark });
        let mut session = self.sessions.remove(&id.0).ok_or(LOST)?;
        let bytes = self.with_keys(&mut session, side, flags, sdp, plans, is_answer, bytes);
        self.sessions.insert(id.0, session);
        self.changed.insert(id.0);
        if flags.record {
            self.record(id, true);
        }
        let mut answer = with_sdp(bytes);
        let mut unknown = flags.unknown.clone();
        unknown.extend(keying::check(flags)?.map(str::to_owned));
        unknown.extend(self.lacks_ice(id, side, flags).then(|| "ICE=force".to_owned()));
        if !unknown.is_empty() {
            let named = unknown.join(", ");
            answer.set("warning", Value::text(format!("not supported here, passed over: {named}")));
            self.tell_unknown(&unknown);
        }
        Ok(answer)
    }

    /// Every word once.
    fn tell_unknown(&mut self, words: &[String]) {
        self.ng.counts.unknown_words += words.len() as u64;
        for word in words {
            if self.ng.told.len() < TOLD && self.ng.told.insert(word.clone()) {
                let why =
                    "an ng client asks for this flag, which is not supported: the call goes on without it";
                self.tell(Event::Warning { about: word.as_str().into(), why });
            }
        }
    }

    /// Whether we wrote this description ourselves, and were asked to leave such alone.
    fn is_marked(&mut self, describe: &Describe) -> bool {
        if !describe.flags.loop_protect {
            return false;
        }
        if self.ng.mark.is_empty() {
            self.ng.mark = self.dice.word(12);
        }
        let mark = format!("a=rtpengine:{}", self.ng.mark);
        describe.sdp.windows(mark.len()).any(|window| window == mark.as_bytes())
    }

    fn dialog(&self, describe: &Describe, at: usize) -> Option<&Dialog> {
        self.ng.calls.by_id.get(&describe.target.call)?.dialogs.get(at)
    }
}

fn parse(describe: &Describe) -> Result<Sdp<'_>, Refused> {
    Sdp::parse(&describe.sdp).map_err(|_| Refused::Error("Failed to parse SDP"))
}

fn with_sdp(sdp: Vec<u8>) -> Dict<'static> {
    let mut dict = Dict::default();
    dict.set("sdp", Value::Text(sdp.into()));
    ok().0.into_iter().for_each(|entry| dict.0.push(entry));
    dict
}

pub(super) fn ask(session: &Session, side: Side, flags: &Flags) -> Ask {
    let party = &session.parties[index(side)];
    Ask {
        session: session.id,
        mode: session.mode,
        leg: side,
        peer: flags.received_from,
        networks: Default::default(),
        latch: party.latch,
        trusted: true,
        reset: true,
        chained: false,
        srtp: None,
    }
}

/// Whether the answerer is offered rtcp-mux.
fn offers_mux(offered: bool, flags: &Flags) -> bool {
    flags.mux_offer || offered && !flags.mux_demux
}

/// By m= section: whether RTCP shares the port with the offerer, and with the answerer.
fn mux_of(sdp: &Sdp<'_>, theirs: &[Said], told: &[bool], accept: bool, reject: bool) -> Vec<[bool; 2]> {
    let section = |(at, media): (usize, &Media<'_>)| {
        let offered = theirs.get(at).is_some_and(|said| said.mux);
        let told = told.get(at).copied().unwrap_or(false);
        let answerer = media.rtcp_mux && told;
        // What was offered and not passed on is ours to accept.
        let ours = !told || accept;
        [offered && !reject && (answerer || ours), answerer]
    };
    sdp.media.iter().enumerate().map(section).collect()
}

fn is_secure(protocol: &str) -> bool {
    protocol.to_ascii_uppercase().contains("SAVP")
}

/// Whether every section has the protocol already that the receiver's shall have.
fn has_protocol(sdp: &Sdp<'_>, flags: &Flags) -> bool {
    let Some(wanted) = &flags.protocol else { return false };
    let mut rtp = sdp.media.iter().filter(|media| media.kind == Kind::Rtp && media.port != 0);
    rtp.all(|media| media.protocol.eq_ignore_ascii_case(wanted))
}

fn check_answer(sdp: &Sdp<'_>, theirs: &[Said]) -> Result<(), Refused> {
    let differs = |(media, said): (&Media<'_>, &Said)| {
        media.port != 0 && media.kind == Kind::Rtp && is_secure(media.protocol) != is_secure(&said.protocol)
    };
    match sdp.media.iter().zip(theirs).any(differs) {
        true => Err(Refused::Error(
            "the answer has SRTP and the offer has not, or the other way round, and transport-protocol did not ask for it",
        )),
        false => Ok(()),
    }
}

/// For `postern explain`: the client decided.
fn decided(call: proto::event::Name, id: SessionId, flow: Flow, describe: &Describe) -> Event {
    let source = describe.flags.received_from.map_or(flow.remote, |ip| std::net::SocketAddr::new(ip, 0));
    let sdp = Sdp::parse(&describe.sdp).map(|sdp| sdp.addresses()).unwrap_or_default();
    let caller = Sighting::Party { at: source, transport: Transport::Udp, sdp };
    Event::MediaDecided(Box::new(MediaDecided {
        call,
        side: Side::Caller,
        seen: [caller, Sighting::Unknown],
        anchor: Anchor::Always,
        rule: Rule::ConfiguredAlways,
        anchored: true,
        session: Some(id.to_string().into()),
        relay: None,
    }))
}

const LOST: Refused = Refused::Error("Unknown call-id");
/// Unknown words that are told of.
const TOLD: usize = 256;
