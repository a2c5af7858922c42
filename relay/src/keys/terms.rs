//! What a party that makes its keys by DTLS has said of itself, and what it is told of us (RFC 5763, RFC 8839): fingerprints,
//! who begins, and the credentials its checks must carry.

use std::time::Instant;

use proto::node::Dice;
use proto::sdp::Media;

use super::bundle::{Bundle, formats};

/// The terms of one leg.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The hashes of the certificates it may show.
    pub(crate) fingerprints: Vec<String>,
    /// We are the client of the handshake; `None`: not settled yet.
    pub(crate) active: Option<bool>,
    /// Its offer leaves that to us.
    pub(crate) open: bool,
    /// Its checks (RFC 8445); `None`: it does no ICE.
    pub(crate) ice: Option<Ice>,
    /// Which other sections are on its port.
    pub(crate) bundle: Bundle,
}

/// Our side of ICE, which is lite: we answer checks and make none.
#[derive(Clone, Debug)]
pub(crate) struct Ice {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// Its own credentials: others mean that it restarts (RFC 8839 §4.4.1.1.1).
    pub(crate) theirs: Option<(String, String)>,
    /// When it last showed that it wants our packets (RFC 7675).
    pub(crate) checked: Option<Instant>,
}

impl Ice {
    /// RFC 8445 §5.3 asks for 24 bits and 128 bits; these have 41 and 124 + 5.
    pub(crate) fn new(dice: &mut Dice) -> Ice {
        Ice { ufrag: dice.word(8), pwd: dice.word(25), theirs: None, checked: None }
    }
}

impl Terms {
    /// Before the party has spoken: what it will be offered.
    pub(crate) fn to_offer(dice: &mut Dice) -> Terms {
        Terms { ice: Some(Ice::new(dice)), ..Terms::default() }
    }

    /// What its description says. `true`: it is another association than before.
    pub(crate) fn learn(&mut self, media: &Media<'_>, answers: bool, dice: &mut Dice) -> bool {
        let fingerprints: Vec<String> = media.fingerprints.iter().map(ToString::to_string).collect();
        let renewed = !self.fingerprints.is_empty() && self.fingerprints != fingerprints;
        self.fingerprints = fingerprints;
        self.bundle.formats = formats(media);
        if self.bundle.head.is_some() {
            return false;
        }
        if renewed {
            self.active = None;
        }
        self.open = media.setup == Some("actpass") && !answers;
        self.active.get_or_insert(media.setup == Some("passive"));
        let theirs =
            media.ice_ufrag.zip(media.ice_pwd).map(|(ufrag, pwd)| (ufrag.to_owned(), pwd.to_owned()));
        match (theirs, &mut self.ice) {
            (None, ice) => *ice = None,
            (Some(theirs), Some(ice))
                if answers || ice.theirs.as_ref().is_none_or(|known| *known == theirs) =>
            {
                ice.theirs = Some(theirs);
            }
            (Some(theirs), ice) => *ice = Some(Ice { theirs: Some(theirs), ..Ice::new(dice) }),
        }
        renewed
    }

    /// The attributes that say it, beside the address.
    pub(crate) fn lines(
        &self,
        answers: bool,
        mid: &str,
        fingerprint: &str,
        at: std::net::SocketAddr,
    ) -> Vec<String> {
        let setup = match (answers, self.active) {
            (false, _) => "actpass",
            (true, Some(true)) => "active",
            (true, _) => "passive",
        };
        let mut lines = vec![format!("mid:{mid}"), "rtcp-mux".to_owned()];
        // RFC 8858 §4.2.
        lines.extend((!answers).then(|| "rtcp-mux-only".to_owned()));
        lines.extend([format!("setup:{setup}"), format!("fingerprint:{fingerprint}")]);
        if let Some(ice) = &self.ice {
            // RFC 8445 §5.1.2.1: a host candidate's type preference, full local preference, component 1.
            lines.extend([
                format!("ice-ufrag:{}", ice.ufrag),
                format!("ice-pwd:{}", ice.pwd),
                format!("candidate:1 1 UDP 2130706431 {} {} typ host", at.ip(), at.port()),
                "end-of-candidates".to_owned(),
            ]);
        }
        lines
    }
}
