//! What descriptions say of keys: whether the relay stands between the two ends of a section, what is taken in of one party's
//! words, and what the other reads instead.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::control::{Ask, Keying};
use proto::event::Side;
use proto::sdp::{Dress, Kind, Media, Protection, Sdp, dress};
use proto::tables::Srtp;

use super::Keys;
use super::terms::Terms;
use crate::describe::{Plan, Refusal};
use crate::relay::Relay;
use crate::session::{Session, index};

impl Relay {
    /// How the two ends of a section are protected, beginning with the one that describes it; `None`: that is their own
    /// affair. Once the relay stands between them it stays there.
    fn bridged(&self, session: &Session, ask: &Ask, media: &Media<'_>, at: usize) -> Option<[Protection; 2]> {
        let keying = ask.srtp?;
        let keys = |side: Side| {
            let stream = session.streams.get(at).copied().flatten()?;
            self.keys_of(stream.legs[index(side)])
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
        let first_bundled = sdp.media.iter().position(|media| media.bundled && media.port != 0);
        for (at, media) in sdp.media.iter().enumerate().filter(|(_, media)| media.port != 0) {
            let Some([own, theirs]) = self.bridged(session, ask, media, at) else { continue };
            if [own, theirs].contains(&Protection::Dtls) && self.config.dtls.is_none() {
                return refuse("this relay does not end DTLS-SRTP");
            }
            let none = Keys::default();
            let stream = session.streams.get(at).copied().flatten();
            let keys = stream.and_then(|stream| self.keys_of(stream.legs[index(ask.leg)])).unwrap_or(&none);
            if keying.answers && own != keys.protection {
                return refuse("the answer protects media otherwise than the offer asked for");
            }
            // The others of a bundle need not repeat what its first section says (RFC 9143 §7.1.3).
            let repeats = media.bundled && first_bundled != Some(at);
            if own == Protection::Dtls && !repeats && !has_terms(media) {
                return refuse("DTLS-SRTP needs a=fingerprint with SHA-256 or better");
            }
            if own == Protection::Dtls && !repeats && !media.rtcp_mux {
                return refuse("DTLS-SRTP needs a=rtcp-mux: this relay ends no handshake for RTCP alone");
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
        if session.bridges.is_none() && !session.legs().any(|leg| self.has_keys(leg)) {
            return body;
        }
        let [own, other] = [ask.leg, ask.leg.other()].map(index);
        let mut bridges = session.bridges.take().unwrap_or_default();
        bridges[own] = sdp.media.iter().map(Said::of).collect();
        let host = self.config.networks[session.parties[other].network].advertise;
        let mut ice = false;
        let mut browser = false;
        let mut sections = Vec::with_capacity(plans.len());
        let mut told = Vec::with_capacity(plans.len());
        for (at, (media, _)) in sdp.media.iter().zip(plans).enumerate() {
            let stream = session.streams.get(at).copied().flatten();
            let legs = stream.map(|stream| stream.legs).unwrap_or([u32::MAX; 2]);
            browser |= legs.iter().any(|leg| self.is_by_dtls(*leg));
            let mut to = To { media, at, before: bridges[other].get(at), protocol, keying, side: other };
            let (said, lines) = self.words_for(legs[other], host, &mut to);
            ice |= lines.iter().any(|line| line.starts_with("ice-ufrag:"));
            let is_ours = media.port == 0 || legs.iter().any(|leg| self.has_keys(*leg));
            let dress = Dress { protocol: said.protocol.clone(), lines };
            sections.push((media.kind == Kind::Rtp && is_ours).then_some(dress));
            told.push(said);
        }
        bridges[other] = told;
        session.bridges = Some(bridges);
        let mut at_session: Vec<String> = Vec::new();
        at_session.extend(ice.then(|| "ice-lite".to_owned()));
        at_session.extend(self.group(session, other));
        dress(&body, &sections, browser, &at_session)
    }

    /// The group of the sections that are on one port towards a party.
    fn group(&self, session: &Session, side: usize) -> Option<String> {
        let legs = session.streams.iter().map(|stream| stream.map(|stream| stream.legs[side]));
        let bundled = |leg: u32| {
            self.keys_of(leg)
                .is_some_and(|keys| keys.terms.bundle.head.is_some() || !keys.terms.bundle.members.is_empty())
        };
        let said = session.bridges.iter().flat_map(|bridges| &bridges[side]);
        let named = legs.zip(said).filter(|(leg, _)| leg.is_some_and(bundled));
        let mids: Vec<&str> = named.map(|(_, said)| said.mid.as_str()).collect();
        (!mids.is_empty()).then(|| format!("group:BUNDLE {}", mids.join(" ")))
    }

    /// What one section says to the party of a leg: protocol and mid, and the attributes that go with them.
    fn words_for(&mut self, leg: u32, host: IpAddr, to: &mut To<'_>) -> (Said, Vec<String>) {
        let wish = Protection::wanted(to.keying.parties[to.side]);
        let port = self.legs.get(leg as usize).map_or(0, |leg| leg.media.port.number);
        let head = self.head_of(leg);
        let keys = self.legs.get_mut(head as usize).and_then(|leg| leg.keys.as_deref_mut());
        let protection = keys.as_ref().map_or(wish, |keys| keys.protection);
        let said = to.said(protection);
        let lines = match keys {
            Some(keys) if protection == Protection::Sdes => {
                keys.lines(&mut self.dice).iter().map(|line| format!("crypto:{line}")).collect()
            }
            Some(keys) if protection == Protection::Dtls => {
                let fingerprint = self.config.dtls.as_ref().map_or("", |maker| maker.fingerprint());
                keys.terms.lines(to.keying.answers, &said.mid, fingerprint, SocketAddr::new(host, port))
            }
            _ => Vec::new(),
        };
        (said, lines)
    }

    fn has_keys(&self, leg: u32) -> bool {
        self.keys_of(leg).is_some()
    }

    /// Whether a leg's keys are made by DTLS.
    pub(crate) fn is_by_dtls(&self, leg: u32) -> bool {
        self.keys_of(leg).is_some_and(|keys| keys.protection == Protection::Dtls)
    }
}

/// A section on its way to the other party.
struct To<'a> {
    media: &'a Media<'a>,
    /// Which one it is.
    at: usize,
    /// What that party said or was told of it last.
    before: Option<&'a Said>,
    /// What an offer's m= line shall say, if that is asked for.
    protocol: Option<&'a str>,
    keying: Keying,
    side: usize,
}

impl To<'_> {
    /// An answer repeats its offer; an offer keeps the name a section has.
    fn said(&self, protection: Protection) -> Said {
        if let Some(before) = self.before.filter(|_| self.keying.answers) {
            return before.clone();
        }
        let protocol = match self.media.kind {
            Kind::Rtp => self.protocol.unwrap_or_else(|| protection.protocol(self.media.protocol)),
            _ => self.media.protocol,
        };
        let named = self.before.map(|before| before.mid.clone()).filter(|mid| !mid.is_empty());
        Said { protocol: protocol.to_owned(), mid: named.unwrap_or_else(|| self.at.to_string()) }
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
}

/// What a party has to say whose keys are made by DTLS.
fn has_terms(media: &Media<'_>) -> bool {
    let strong = |line: &&str| !line.to_ascii_lowercase().starts_with("sha-1 ");
    media.fingerprints.iter().any(strong)
}
