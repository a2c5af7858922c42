//! Where the parties of a session protect their media differently, the relay stands between them: it opens what one sends
//! and protects what the other gets, each under keys agreed on with that party alone (RFC 4568 in its description).
//!
//! ```text
//!  A: RTP/SAVP, a=crypto  ──▶  open  ──▶  plain RTP: latch, quality, switches, copies  ──▶  as B's description says
//! ```
//!
//! An SRTP packet that fails its tag is nobody's, wherever it comes from. The party that answers an offer with keys takes
//! the first line it can serve; ours offers the suites of [`OFFERED`]. A key stays as long as its party says the same, and
//! so do roll-over counters and replay windows, so that a re-INVITE changes nothing. All is left behind for the next
//! process (see `kept`).

mod left;
pub(crate) mod terms;

use std::net::SocketAddr;
use std::time::Instant;

use proto::control::Ask;
use proto::event::Side;
use proto::node::Dice;
use proto::rtp::{Packet, classify};
use proto::sdp::{Dress, Kind, Media, Protection, Sdp, dress};
use proto::srtp::sdes::Crypto;
use proto::srtp::{Master, Profile, Receiver, Refused, Sender};
use proto::tables::Srtp;

use crate::describe::{Plan, Refusal};
use crate::ice::CONSENT;
use crate::leg::{Change, Part, Why};
use crate::relay::Relay;
use crate::session::{Session, index};
use terms::Terms;

/// What we offer, the one every phone knows first: some look at the first line alone.
const OFFERED: [Profile; 4] =
    [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_32];

/// One party's keys for one stream.
#[derive(Clone, Default)]
pub(crate) struct Keys {
    /// How its packets are protected.
    pub(crate) protection: Protection,
    /// Our lines, while the party has not chosen one.
    pub(crate) offered: Vec<Crypto>,
    /// The keys that are agreed on: ours and the party's.
    pub(crate) agreed: Option<[Crypto; 2]>,
    pub(crate) sender: Option<Sender>,
    pub(crate) receiver: Option<Receiver>,
    /// Where keys are made by DTLS.
    pub(crate) terms: Terms,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.protection)
    }
}

impl Keys {
    /// Which of a party's lines is taken, or why none can be.
    fn choose(&self, cryptos: &[&str], answers: bool) -> Result<Crypto, &'static str> {
        let mut lines = cryptos.iter().filter_map(|line| Crypto::parse(line).ok());
        if answers {
            let ours = |line: &Crypto| self.ours(line.tag).is_some_and(|ours| fits(&ours, line));
            return lines.find(ours).ok_or("no a=crypto line of the answer takes one of the offer's");
        }
        let theirs = self.agreed.as_ref().map(|[_, theirs]| theirs.master.clone());
        let lines: Vec<Crypto> = lines.collect();
        let same = lines.iter().find(|line| Some(&line.master) == theirs.as_ref());
        let taken = same.or(lines.first()).cloned();
        taken.ok_or("no a=crypto line of the offer can be served: see the suites in ARCHITECTURE")
    }

    /// The line of ours with this tag.
    fn ours(&self, tag: u32) -> Option<Crypto> {
        let agreed = self.agreed.as_ref().map(|[ours, _]| ours);
        self.offered.iter().chain(agreed).find(|ours| ours.tag == tag).cloned()
    }

    /// What a party's line means from now on.
    fn agree(&mut self, theirs: Crypto, answers: bool, dice: &mut Dice) {
        let before = self.agreed.take();
        let kept = before.as_ref().map(|[ours, _]| ours).filter(|ours| fits(ours, &theirs));
        let ours = match kept {
            Some(ours) => Crypto { tag: theirs.tag, master: ours.master.clone() },
            None => self.ours(theirs.tag).filter(|_| answers).unwrap_or_else(|| own(&theirs, dice)),
        };
        let [sends, receives] = [&ours, &theirs].map(|line| &line.master);
        if before.as_ref().is_none_or(|[ours, _]| ours.master != *sends) {
            self.sender = Some(Sender::new(sends));
        }
        if before.as_ref().is_none_or(|[_, theirs]| theirs.master != *receives) {
            self.receiver = Some(Receiver::new(receives));
        }
        self.offered.clear();
        self.agreed = Some([ours, theirs]);
    }

    /// The values of our `a=crypto` lines. An offer after keys were agreed on is theirs once more.
    fn lines(&mut self, dice: &mut Dice) -> Vec<String> {
        if let Some([ours, _]) = &self.agreed {
            return vec![ours.to_string()];
        }
        if self.offered.is_empty() {
            let line = |(tag, profile)| Crypto { tag, master: Master::draw(profile, dice) };
            self.offered = (1..).zip(OFFERED).map(line).collect();
        }
        self.offered.iter().map(ToString::to_string).collect()
    }
}

fn fits(ours: &Crypto, theirs: &Crypto) -> bool {
    ours.master.profile() == theirs.master.profile()
}

/// A key of ours for the suite of theirs.
fn own(theirs: &Crypto, dice: &mut Dice) -> Crypto {
    Crypto { tag: theirs.tag, master: Master::draw(theirs.master.profile(), dice) }
}

impl Relay {
    /// Opens a packet of a leg that has keys; gives its length as plain RTP or RTCP. `None`: it was for us.
    pub(crate) fn unprotect(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Option<usize>, Why> {
        let bytes = buffer.get_mut(..len).ok_or(Why::Invalid)?;
        let packet = classify(bytes);
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        let Some(keys) = &leg.keys else { return Ok(Some(len)) };
        if keys.protection == Protection::Plain || leg.kind != Kind::Rtp {
            return Ok(Some(len));
        }
        let is_rtcp = part == Part::Rtcp || matches!(packet, Packet::Rtcp(_));
        match packet {
            Packet::Stun if keys.terms.ice.is_some() => {
                return self.checked(now, at, part, from, bytes).map(|()| None);
            }
            Packet::Dtls if keys.protection == Protection::Dtls => {
                return self.shake_hands(now, at, part, from, bytes).map(|()| None);
            }
            Packet::Rtp(_) | Packet::Rtcp(_) => {}
            _ if is_rtcp => {}
            _ => return Ok(Some(len)),
        }
        if !leg.listens_to(now, part, from, &packet) {
            leg.turn_away(now, from);
            return Err(Why::Stranger);
        }
        let Some(keys) = &mut leg.keys else { return Ok(Some(len)) };
        let receiver = keys.receiver.as_mut().ok_or(Why::Unkeyed)?;
        let opened = if is_rtcp { receiver.rtcp(bytes) } else { receiver.rtp(bytes) };
        if receiver.has_moved() {
            self.changed.insert(leg.whose.session.0);
        }
        opened.map(Some).map_err(refused)
    }

    /// A DTLS datagram counts where its party is heard; where nobody is yet, it may be what shows where it is.
    fn shake_hands(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Why> {
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        if !leg.listens_to(now, part, from, &Packet::Dtls) {
            leg.turn_away(now, from);
            return Err(Why::Stranger);
        }
        if !leg.does_ice() {
            let network = &self.config.networks[leg.media.port.id.network()];
            let may = self.config.is_own(from).then_some(Why::Loop);
            let may = may.or((!network.may_send_to(from)).then_some(Why::Stranger)).map_or(Ok(()), Err);
            let change = leg.accept(now, part, from, bytes, &Packet::Dtls, |_| may)?;
            if change != Change::None {
                self.note(now, at, part, from, Ok(change));
            }
        }
        self.handshake(now, at, part, from, bytes)
    }

    /// Protects a packet for the party of a leg that has keys; gives its new length.
    pub(crate) fn protect(
        &mut self,
        now: Instant,
        at: u32,
        is_rtcp: bool,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, Why> {
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        let Some(keys) = leg.keys.as_mut().filter(|_| leg.kind == Kind::Rtp) else { return Ok(len) };
        if keys.protection == Protection::Plain {
            return Ok(len);
        }
        if let Some(ice) = &keys.terms.ice
            && ice.checked.is_none_or(|at| now.saturating_duration_since(at) > CONSENT)
        {
            return Err(Why::Unwanted);
        }
        let sender = keys.sender.as_mut().ok_or(Why::Unkeyed)?;
        let sealed = if is_rtcp { sender.rtcp(buffer, len) } else { sender.rtp(buffer, len) };
        if sender.has_moved() {
            self.changed.insert(leg.whose.session.0);
        }
        sealed.map_err(refused)
    }

    /// How the two ends of a section are protected, beginning with the one that describes it; `None`: that is their own
    /// affair. Once the relay stands between them it stays there.
    fn bridged(&self, session: &Session, ask: &Ask, media: &Media<'_>, at: usize) -> Option<[Protection; 2]> {
        let keying = ask.srtp?;
        let keys = |side: Side| {
            let stream = session.streams.get(at).copied().flatten()?;
            self.legs.get(stream.legs[index(side)] as usize)?.keys.as_ref()
        };
        let own = Protection::of(media);
        let other = ask.leg.other();
        let wish = Protection::wanted(keying.parties[index(other)]);
        let theirs = keys(other).map_or(wish, |keys| keys.protection);
        let stands = keys(ask.leg).is_some() || keys(other).is_some();
        let differ = own != theirs || own == Protection::Dtls;
        let asked = keying.parties != [Srtp::Pass; 2] && !keying.answers && differ;
        (media.kind == Kind::Rtp && (stands || asked)).then_some([own, theirs])
    }

    /// Whether what a description says of keys can be served. Nothing is changed.
    pub(crate) fn check_keys(&self, session: &Session, ask: &Ask, sdp: &Sdp<'_>) -> Result<(), Refusal> {
        let refuse = |why| Err(Refusal { status: 488, why });
        let Some(keying) = ask.srtp else { return Ok(()) };
        for (at, media) in sdp.media.iter().enumerate().filter(|(_, media)| media.port != 0) {
            let Some([own, theirs]) = self.bridged(session, ask, media, at) else { continue };
            if [own, theirs].contains(&Protection::Dtls) && self.config.dtls.is_none() {
                return refuse("this relay does not end DTLS-SRTP");
            }
            let none = Keys::default();
            let stream = session.streams.get(at).copied().flatten();
            let leg = stream.and_then(|stream| self.legs.get(stream.legs[index(ask.leg)] as usize));
            let keys = leg.and_then(|leg| leg.keys.as_deref()).unwrap_or(&none);
            if keying.answers && own != keys.protection {
                return refuse("the answer protects media otherwise than the offer asked for");
            }
            if own == Protection::Dtls && !has_terms(media) {
                return refuse("DTLS-SRTP needs a=fingerprint with SHA-256 or better, and a=rtcp-mux");
            }
            if own == Protection::Sdes
                && let Err(why) = keys.choose(&media.cryptos, keying.answers)
            {
                return refuse(why);
            }
        }
        Ok(())
    }

    /// Takes in what a section, whose stream stands, says of keys.
    pub(crate) fn describe_keys(
        &mut self,
        now: Instant,
        session: &Session,
        ask: &Ask,
        media: &Media<'_>,
        at: usize,
    ) {
        let Some(bridged) = self.bridged(session, ask, media, at) else { return };
        let Some(stream) = session.streams.get(at).copied().flatten() else { return };
        let sides = [ask.leg, ask.leg.other()];
        for (side, protection) in sides.into_iter().zip(bridged) {
            let at = stream.legs[index(side)];
            let Some(leg) = self.legs.get_mut(at as usize) else { return };
            if leg.keys.as_ref().is_none_or(|keys| keys.protection != protection) {
                let terms = match protection {
                    Protection::Dtls => Terms::to_offer(&mut self.dice),
                    _ => Terms::default(),
                };
                leg.keys = Some(Box::new(Keys { protection, terms, ..Keys::default() }));
                self.associations.remove(&at);
            }
        }
        let answers = ask.srtp.is_some_and(|keying| keying.answers);
        let own = stream.legs[index(ask.leg)];
        let Some(keys) = self.legs.get_mut(own as usize).and_then(|leg| leg.keys.as_deref_mut()) else {
            return;
        };
        match keys.protection {
            Protection::Plain => {}
            Protection::Sdes => {
                if let Ok(theirs) = keys.choose(&media.cryptos, answers) {
                    keys.agree(theirs, answers, &mut self.dice);
                }
            }
            Protection::Dtls => {
                if keys.terms.learn(media, answers, &mut self.dice) {
                    (keys.agreed, keys.sender, keys.receiver) = (None, None, None);
                    self.associations.remove(&own);
                }
                self.take_keys(now, own);
            }
        }
    }

    /// What the other party shall read of keys, in a description whose addresses are ours already. `protocol`: what an
    /// offer's m= lines shall say, if not the plainest that fits.
    pub(crate) fn dress(
        &mut self,
        session: &mut Session,
        ask: &Ask,
        sdp: &Sdp<'_>,
        plans: &[Plan],
        body: Vec<u8>,
        protocol: Option<&str>,
    ) -> Vec<u8> {
        let Some(keying) = ask.srtp else { return body };
        let has_keys = |leg: u32| self.legs.get(leg as usize).is_some_and(|leg| leg.keys.is_some());
        if session.bridges.is_none() && !session.legs().any(has_keys) {
            return body;
        }
        let [own, other] = [ask.leg, ask.leg.other()].map(index);
        let mut bridges = session.bridges.take().unwrap_or_default();
        bridges[own] = sdp.media.iter().map(Said::of).collect();
        let host = self.config.networks[session.parties[other].network].advertise;
        let (mut sections, mut told, mut browser, mut ice) = (Vec::new(), Vec::new(), false, false);
        for (at, (media, _)) in sdp.media.iter().zip(plans).enumerate() {
            let before = bridges[other].get(at).filter(|_| keying.answers);
            let stream = session.streams.get(at).copied().flatten();
            browser |= stream.is_some_and(|stream| stream.legs.iter().any(|leg| self.is_by_dtls(*leg)));
            let leg = stream.and_then(|stream| self.legs.get_mut(stream.legs[other] as usize));
            let port = leg.as_ref().map_or(0, |leg| leg.media.port.number);
            let keys = leg.and_then(|leg| leg.keys.as_deref_mut());
            let protection =
                keys.as_ref().map_or(Protection::wanted(keying.parties[other]), |keys| keys.protection);
            let said = match before {
                Some(said) => said.clone(),
                None => Said::offered(media, protection, protocol, at),
            };
            let lines = match keys {
                Some(keys) if protection == Protection::Sdes => {
                    keys.lines(&mut self.dice).iter().map(|line| format!("crypto:{line}")).collect()
                }
                Some(keys) if protection == Protection::Dtls => {
                    ice |= keys.terms.ice.is_some();
                    let fingerprint = self.config.dtls.as_ref().map_or("", |maker| maker.fingerprint());
                    keys.terms.lines(keying.answers, &said.mid, fingerprint, SocketAddr::new(host, port))
                }
                _ => Vec::new(),
            };
            let dressed = media.kind == Kind::Rtp && (media.port == 0 || has_keys_at(self, session, at));
            sections.push(dressed.then(|| Dress { protocol: said.protocol.clone(), lines }));
            told.push(said);
        }
        bridges[other] = told;
        session.bridges = Some(bridges);
        let at_session: &[String] = if ice { &["ice-lite".to_owned()] } else { &[] };
        dress(&body, &sections, browser, at_session)
    }

    /// Whether a leg's keys are made by DTLS.
    pub(crate) fn is_by_dtls(&self, leg: u32) -> bool {
        let keys = self.legs.get(leg as usize).and_then(|leg| leg.keys.as_ref());
        keys.is_some_and(|keys| keys.protection == Protection::Dtls)
    }
}

/// What an m= section has said or was told that its answer has to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) protocol: String,
    /// `a=mid`.
    pub(crate) mid: String,
}

impl Said {
    fn of(media: &Media<'_>) -> Said {
        Said { protocol: media.protocol.to_owned(), mid: media.mid.unwrap_or_default().to_owned() }
    }

    fn offered(media: &Media<'_>, protection: Protection, protocol: Option<&str>, at: usize) -> Said {
        let protocol = match media.kind {
            Kind::Rtp => protocol.unwrap_or_else(|| protection.protocol(media.protocol)),
            _ => media.protocol,
        };
        Said { protocol: protocol.to_owned(), mid: at.to_string() }
    }
}

fn has_keys_at(relay: &Relay, session: &Session, at: usize) -> bool {
    let stream = session.streams.get(at).copied().flatten();
    stream.is_some_and(|stream| {
        stream.legs.iter().any(|leg| relay.legs.get(*leg as usize).is_some_and(|leg| leg.keys.is_some()))
    })
}

/// What a party has to say whose keys are made by DTLS.
fn has_terms(media: &Media<'_>) -> bool {
    let strong = |line: &&str| !line.to_ascii_lowercase().starts_with("sha-1 ");
    media.rtcp_mux && media.fingerprints.iter().any(strong)
}

fn refused(why: Refused) -> Why {
    match why {
        Refused::Forged | Refused::Replayed | Refused::Unencrypted => Why::Forged,
        Refused::Malformed => Why::Invalid,
        Refused::NoRoom | Refused::TooManyStreams | Refused::Exhausted => Why::Unkeyed,
    }
}
