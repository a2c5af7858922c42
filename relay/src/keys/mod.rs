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

mod bundle;
mod left;
mod path;
pub(crate) mod terms;
mod words;

use proto::node::Dice;
use proto::sdp::Protection;
use proto::srtp::sdes::Crypto;
use proto::srtp::{Master, Profile, Receiver, Sender};

use terms::Terms;
pub(crate) use words::Said;

use crate::relay::Relay;

/// What we offer, the one every phone knows first: some look at the first line alone.
pub(crate) const OFFERED: [Profile; 4] =
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

impl Relay {
    /// The keys of a leg, if the relay stands between it and the other one.
    pub(crate) fn keys_of(&self, leg: u32) -> Option<&Keys> {
        self.legs.get(leg as usize)?.keys.as_deref()
    }

    /// See [`Relay::keys_of`].
    pub(crate) fn keys_mut(&mut self, leg: u32) -> Option<&mut Keys> {
        self.legs.get_mut(leg as usize)?.keys.as_deref_mut()
    }
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
            self.offer(|_| true, dice);
        }
        self.offered.iter().map(ToString::to_string).collect()
    }

    /// Draws keys for an offer, of the suites that are wanted.
    pub(crate) fn offer(&mut self, wanted: impl Fn(&str) -> bool, dice: &mut Dice) {
        let line = |(tag, profile)| Crypto { tag, master: Master::draw(profile, dice) };
        let suites = OFFERED.into_iter().filter(|profile| wanted(profile.name()));
        self.offered = (1..).zip(suites).map(line).collect();
    }
}

fn fits(ours: &Crypto, theirs: &Crypto) -> bool {
    ours.master.profile() == theirs.master.profile()
}

/// A key of ours for the suite of theirs.
fn own(theirs: &Crypto, dice: &mut Dice) -> Crypto {
    Crypto { tag: theirs.tag, master: Master::draw(theirs.master.profile(), dice) }
}
