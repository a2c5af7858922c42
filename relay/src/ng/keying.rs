//! SRTP in an exchange: `transport-protocol` says how the receiver's media is protected. Where that is another way than the
//! sender's, or DTLS, whose handshake and ICE end here, the relay stands between (`crate::keys`); SDES on both sides passes.

use std::time::Instant;

use proto::control::{Ask, Keying, Session as SessionId};
use proto::event::Side;
use proto::sdp::{Kind, Protection, Sdp};
use proto::tables::Srtp;

use super::Refused;
use super::exchange::ask;
use super::flags::{Dtls, Flags, Ice};
use crate::describe::Plan;
use crate::keys::OFFERED;
use crate::leg::Leg;
use crate::relay::Relay;
use crate::session::{Session, index};

impl Relay {
    /// What a message asks of the session, keys included.
    pub(super) fn ask_with_keys(
        &self,
        session: &Session,
        side: Side,
        flags: &Flags,
        sdp: &Sdp<'_>,
        answers: bool,
    ) -> Ask {
        Ask { srtp: self.keying(session, side, flags, sdp, answers), ..ask(session, side, flags) }
    }

    fn keying(
        &self,
        session: &Session,
        side: Side,
        flags: &Flags,
        sdp: &Sdp<'_>,
        answers: bool,
    ) -> Option<Keying> {
        let mut parties = [Srtp::Pass; 2];
        let stands = session.bridges.is_some();
        if answers {
            return stands.then_some(Keying { parties, answers });
        }
        let own =
            sdp.media.iter().find(|media| media.kind == Kind::Rtp && media.port != 0).map(Protection::of);
        let wish = match &flags.protocol {
            Some(protocol) => of_protocol(protocol),
            None if own == Some(Protection::Dtls) && flags.dtls != Dtls::Off => Srtp::Dtls,
            None => Srtp::Pass,
        };
        // Without a maker of handshakes both ends' own pass, as ever.
        let wish = if self.config.dtls.is_none() && own == Some(Protection::wanted(wish)) {
            Srtp::Pass
        } else {
            wish
        };
        parties[index(side.other())] = wish;
        (stands || wish != Srtp::Pass).then_some(Keying { parties, answers })
    }

    /// Whether ICE was asked for towards a party that gets none: only who has DTLS does.
    pub(super) fn lacks_ice(&self, id: SessionId, side: Side, flags: &Flags) -> bool {
        let legs = self.sessions.get(&id.0).into_iter().flat_map(|session| session.streams());
        let mut legs = legs.filter_map(|stream| self.legs.get(stream.legs[index(side.other())] as usize));
        flags.ice == Ice::Force && !legs.any(Leg::does_ice)
    }

    /// Of an offerer that leaves open who begins, we do if the client wants it so.
    pub(super) fn settle_roles(&mut self, now: Instant, session: &Session, offerer: Side, flags: &Flags) {
        if flags.dtls != Dtls::Active {
            return;
        }
        for leg in session.streams().map(|stream| stream.legs[index(offerer)]) {
            let is_under_way = self.associations.contains_key(&leg);
            let Some(keys) = self.keys_mut(leg).filter(|keys| keys.agreed.is_none() && !is_under_way) else {
                continue;
            };
            if keys.terms.open {
                keys.terms.active = Some(true);
                self.begin_if_active(now, leg);
            }
        }
    }

    /// Draws keys of those suites alone that are wanted in an offer.
    fn choose_suites(&mut self, session: &Session, side: Side, flags: &Flags) {
        if !flags.suites.is_said() {
            return;
        }
        for leg in session.streams().map(|stream| stream.legs[index(side.other())]) {
            let keys = self.legs.get_mut(leg as usize).and_then(|leg| leg.keys.as_deref_mut());
            let keys = keys.filter(|keys| keys.protection == Protection::Sdes && keys.agreed.is_none());
            if let Some(keys) = keys {
                keys.offer(|suite| flags.suites.has(suite), &mut self.dice);
            }
        }
    }

    /// An offer to a party that shall see no ICE.
    pub(super) fn leave_ice_out(&mut self, session: &Session, side: Side, flags: &Flags) {
        if flags.ice != Ice::Remove {
            return;
        }
        for stream in session.streams() {
            let leg = self.legs.get_mut(stream.legs[index(side.other())] as usize);
            if let Some(keys) = leg.and_then(|leg| leg.keys.as_mut())
                && keys.terms.ice.as_ref().is_some_and(|ice| ice.theirs.is_none())
            {
                keys.terms.ice = None;
            }
        }
    }

    /// The words about keys in a description that is written otherwise.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn with_keys(
        &mut self,
        session: &mut Session,
        side: Side,
        flags: &Flags,
        sdp: &Sdp<'_>,
        plans: &[Plan],
        answers: bool,
        body: Vec<u8>,
    ) -> Vec<u8> {
        if !answers {
            self.choose_suites(session, side, flags);
        }
        let ask = self.ask_with_keys(session, side, flags, sdp, answers);
        self.dress(session, &ask, sdp, plans, body, flags.protocol.as_deref().filter(|_| !answers))
    }
}

/// What is said of keys and can't be had with that protocol: an error, or what to warn of.
pub(super) fn check(flags: &Flags) -> Result<Option<&'static str>, Refused> {
    match flags.protocol.as_deref().map(of_protocol) {
        Some(Srtp::Sdes) if !OFFERED.iter().any(|suite| flags.suites.has(suite.name())) => {
            Err(Refused::Error("SDES: no suite is left that this relay knows"))
        }
        Some(Srtp::Sdes) if flags.no_sdes => Ok(Some("SDES=off")),
        Some(Srtp::Dtls) if flags.dtls == Dtls::Off => Ok(Some("DTLS=off")),
        _ => Ok(None),
    }
}

fn of_protocol(protocol: &str) -> Srtp {
    let upper = protocol.to_ascii_uppercase();
    match upper.contains("SAVP") {
        true if upper.contains("TLS") => Srtp::Dtls,
        true => Srtp::Sdes,
        false => Srtp::Plain,
    }
}
