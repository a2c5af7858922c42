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
//! | `Relay-Peer` | `203.0.113.9` | where that party's signalling is seen to come from |
//! | `Relay-Network` | `caller=inside;callee=outside~6` | in which network each party is met; `~6`: by IPv6 |
//! | `Relay-Policy` | `latch=strict;trust=no;reset=yes` | whom the leg accepts first; `trust`: send before latching; `reset`: a new offer/answer opens one bounded window for a new source; `chained=yes`: the party stands behind another session, of this relay perhaps |
//! | `Relay-Srtp` | `caller=dtls;callee=plain;says=offer` | how each party's media is protected (pass, plain, sdes, dtls), and whether this SDP offers or answers; absent: the relay does not look at keys |
//!
//! Failures: 503 with Retry-After when no ports are left, 488 for SDP no relay can carry, 481 for an unknown session
//! in a re-INVITE or BYE, 400 for what can't be read, 403 for what isn't proven.
//!
//! A session lives while it is refreshed (any request in its dialog) or media flows; it is freed by BYE, or when the
//! refresh is overdue (Session-Expires of the 200, default 1800 s) *and* no media came for the media timeout.
//!
//! **Silence.** When both parties have been heard, neither is held, and nothing came from either for the media timeout,
//! the relay says so in the same dialog: `BYE` to the Contact of the proxy's last request (its user part names the call, so
//! that a restarted proxy knows whose end it is), by the way it came, with
//! `Reason: SIP;cause=408;text="No media for 120 s"` (RFC 3326) and Node-Auth; its CSeq counts from 1. A proxy that knows
//! the call ends it on both sides and answers 200, which frees the session. Any other answer, or none, leaves the
//! session to its refresh; the relay asks again after another media timeout.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::event::Side;
use crate::sip::{Builder, Message, Name, Params, Short};
use crate::tables::{Latch, Srtp};

/// A relay session's name: 16 hex digits on the wire. Drawn by the proxy that makes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(pub u64);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Session {
    /// Its 16 hex digits.
    pub fn name(self) -> Tag {
        Tag(hex(self.0))
    }

    /// From its 16 hex digits.
    pub fn from_name(name: &str) -> Option<Session> {
        let is_name = name.len() == 16 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_name.then(|| u64::from_str_radix(name, 16).ok().map(Session)).flatten()
    }
}

/// Stands behind a network's name in [`Ask::networks`] when the party is met by IPv6.
pub const SIX: &str = "~6";

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
    pub peer: Option<IpAddr>,
    /// Names of the networks of caller and callee; [`SIX`] behind one: the party is met by IPv6 there.
    pub networks: [String; 2],
    /// Whom the leg accepts first.
    pub latch: Latch,
    /// Whether to send to the signalled address before the leg has latched.
    pub trusted: bool,
    /// Whether this offer or answer may move the party (opens the window).
    pub reset: bool,
    /// Whether its media comes by another session, which may be one of the same relay's.
    pub chained: bool,
    /// What is to be known of keys; `None`: they are the parties' own affair.
    pub srtp: Option<Keying>,
}

/// How the parties' media is protected, and what an SDP is to the other party (RFC 3264).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keying {
    /// The caller's and the callee's.
    pub parties: [Srtp; 2],
    /// The SDP answers the other party's.
    pub answers: bool,
}

impl Ask {
    /// Adds the headers to a request. Networks' names are tokens (RFC 3261 §25.1); what else stands in one is left out.
    pub fn write(&self, request: Builder) -> Builder {
        let [caller, callee] = self.networks.each_ref().map(|name| token(name));
        let request = request
            .joined(Name::RelaySession, &[&self.session.name(), ";mode=", word(&MODES, self.mode)])
            .text(Name::RelayLeg, word(&SIDES, self.leg))
            .joined(Name::RelayNetwork, &["caller=", &caller, ";callee=", &callee]);
        let request = match self.peer {
            Some(peer) => request.text(Name::RelayPeer, &Short::from(peer)),
            None => request,
        };
        let (latch, trust) = (word(&LATCHES, self.latch), word(&SWITCH, self.trusted));
        let reset = word(&SWITCH, self.reset);
        let chained = if self.chained { ";chained=yes" } else { "" };
        let policy = ["latch=", latch, ";trust=", trust, ";reset=", reset, chained];
        let request = request.joined(Name::RelayPolicy, &policy);
        let Some(keying) = self.srtp else { return request };
        let [caller, callee] = keying.parties.map(Srtp::as_str);
        let says = word(&SAYS, keying.answers);
        request.header(Name::RelaySrtp, format_args!("caller={caller};callee={callee};says={says}"))
    }

    /// Reads them; the words say what is missing or wrong. Only `Relay-Session` and `Relay-Leg` must be there: without
    /// the others the party is not known, in networks without a name, latched strictly, not trusted, not moved.
    /// Parameters nobody knows are passed over.
    pub fn read(request: &Message) -> Result<Ask, &'static str> {
        let session = request.text(Name::RelaySession).ok_or("no Relay-Session header")?;
        let (name, params) = session.split_once(';').unwrap_or((session, ""));
        let leg = request.text(Name::RelayLeg).ok_or("no Relay-Leg header")?;
        let peer = request.text(Name::RelayPeer);
        let network = Params(request.text(Name::RelayNetwork).unwrap_or_default());
        let policy = Params(request.text(Name::RelayPolicy).unwrap_or_default());
        Ok(Ask {
            session: Session::from_name(name.trim()).ok_or("Relay-Session is not 16 hex digits")?,
            mode: read_word(&MODES, Params(params).get("mode"), "Relay-Session: mode is split or shared")?,
            leg: read_word(&SIDES, Some(leg), "Relay-Leg is caller or callee")?,
            peer: peer.map(|peer| peer.parse().map_err(|_| "Relay-Peer is not an address")).transpose()?,
            networks: ["caller", "callee"].map(|side| network.get(side).unwrap_or_default().to_owned()),
            latch: read_word(&LATCHES, policy.get("latch"), "Relay-Policy: latch is strict, prefix or any")?,
            trusted: read_word(&SWITCH, policy.get("trust"), "Relay-Policy: trust is yes or no")?,
            reset: read_word(&SWITCH, policy.get("reset"), "Relay-Policy: reset is yes or no")?,
            chained: read_word(&SWITCH, policy.get("chained"), "Relay-Policy: chained is yes or no")?,
            srtp: request.text(Name::RelaySrtp).map(|text| Keying::read(&Params(text))).transpose()?,
        })
    }
}

impl Keying {
    fn read(params: &Params<'_>) -> Result<Keying, &'static str> {
        let party = |side| {
            read_word(&Srtp::WORDS, params.get(side), "Relay-Srtp: a party's is pass, plain, sdes or dtls")
        };
        Ok(Keying {
            parties: [party("caller")?, party("callee")?],
            answers: read_word(&SAYS, params.get("says"), "Relay-Srtp: says is offer or answer")?,
        })
    }
}

/// The tag of one end of a session's dialog: `Side::Caller` for the proxy's (From), `Side::Callee` for the relay's.
/// It hides nothing: who may speak in the dialog is proven by Node-Auth. So it takes no cryptography, only a mixing of
/// the session's bits (SplitMix64's, which maps no two sessions to one), since each message of the dialog asks for it.
pub fn tag(session: Session, end: Side) -> Tag {
    let mut bits = session.0
        ^ match end {
            Side::Caller => 0x9e37_79b9_7f4a_7c15,
            Side::Callee => 0x3c6e_f372_fe94_f82a,
        };
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    Tag(hex(bits ^ bits >> 31))
}

/// A tag, or a session's name: 16 hex digits. Reads as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; 16]);

impl std::ops::Deref for Tag {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq<Tag> for &str {
    fn eq(&self, tag: &Tag) -> bool {
        **self == **tag
    }
}

impl PartialEq<&str> for Tag {
    fn eq(&self, text: &&str) -> bool {
        text == self
    }
}

/// 16 hex digits, lower case.
fn hex(bits: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(bits >> (60 - 4 * at) & 15) as usize])
}

/// The CSeq of a request at this age of the session.
pub fn cseq(age: Duration) -> u32 {
    u32::try_from(age.as_millis() / 100 + 1).unwrap_or(MAX_CSEQ).min(MAX_CSEQ)
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("", |(word, _)| word)
}

/// The first value of the table stands for an absent word.
fn read_word<T: Copy>(
    words: &[(&'static str, T)],
    word: Option<&str>,
    wrong: &'static str,
) -> Result<T, &'static str> {
    let known = word.unwrap_or(words[0].0).trim();
    words.iter().find(|(w, _)| w.eq_ignore_ascii_case(known)).map(|(_, value)| *value).ok_or(wrong)
}

fn token(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(*c)).collect()
}

const MODES: [(&str, Mode); 2] = [("split", Mode::Split), ("shared", Mode::Shared)];
const SIDES: [(&str, Side); 2] = [("caller", Side::Caller), ("callee", Side::Callee)];
const LATCHES: [(&str, Latch); 3] =
    [("strict", Latch::Strict), ("prefix", Latch::Prefix), ("any", Latch::Any)];
const SAYS: [(&str, bool); 2] = [("offer", false), ("answer", true)];
const SWITCH: [(&str, bool); 2] = [("no", false), ("yes", true)];
/// RFC 3261 §8.1.1.5.
const MAX_CSEQ: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask() -> Ask {
        Ask {
            session: Session(0x00c0_ffee_00c0_ffee),
            mode: Mode::Shared,
            leg: Side::Callee,
            peer: Some("203.0.113.9".parse().unwrap()),
            networks: ["inside".into(), "outside".into()],
            latch: Latch::Prefix,
            trusted: true,
            reset: true,
            chained: false,
            srtp: Some(Keying { parties: [Srtp::Dtls, Srtp::Plain], answers: true }),
        }
    }

    fn request(headers: &str) -> Message {
        let text = format!(
            "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:p>;tag=1\r\nTo: <sip:x>\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{headers}\r\n"
        );
        Message::parse(bytes::Bytes::from(text)).unwrap()
    }

    #[test]
    fn writes_the_headers_of_the_table() {
        let message = ask().write(Builder::request("INVITE", "sip:relay").header(Name::CallId, "c")).finish();
        let values = [
            (Name::RelaySession, "00c0ffee00c0ffee;mode=shared"),
            (Name::RelayLeg, "callee"),
            (Name::RelayPeer, "203.0.113.9"),
            (Name::RelayNetwork, "caller=inside;callee=outside"),
            (Name::RelayPolicy, "latch=prefix;trust=yes;reset=yes"),
            (Name::RelaySrtp, "caller=dtls;callee=plain;says=answer"),
        ];
        for (name, value) in values {
            assert_eq!(message.text(name), Some(value));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let asks = [
            ask(),
            Ask {
                peer: None,
                mode: Mode::Split,
                leg: Side::Caller,
                latch: Latch::Any,
                trusted: false,
                chained: true,
                ..ask()
            },
            Ask { peer: Some("2001:db8::1".parse().unwrap()), networks: Default::default(), ..ask() },
        ];
        for ask in asks {
            let message =
                ask.write(Builder::request("INVITE", "sip:relay").header(Name::CallId, "c")).finish();
            assert_eq!(Ask::read(&message), Ok(ask));
        }
    }

    #[test]
    fn what_is_not_said_is_the_careful_choice() {
        let read = Ask::read(&request("Relay-Session: 00c0ffee00c0ffee\r\nRelay-Leg: Caller\r\n")).unwrap();
        let careful = Ask {
            mode: Mode::Split,
            leg: Side::Caller,
            peer: None,
            networks: Default::default(),
            latch: Latch::Strict,
            trusted: false,
            reset: false,
            srtp: None,
            ..ask()
        };
        assert_eq!(read, careful);
    }

    #[test]
    fn says_what_is_missing_or_wrong() {
        let table = [
            ("Relay-Leg: caller\r\n", "no Relay-Session header"),
            ("Relay-Session: 00c0ffee00c0ffee\r\n", "no Relay-Leg header"),
            ("Relay-Session: c0ffee\r\nRelay-Leg: caller\r\n", "Relay-Session is not 16 hex digits"),
            (
                "Relay-Session: +0c0ffee00c0ffee\r\nRelay-Leg: caller\r\n",
                "Relay-Session is not 16 hex digits",
            ),
            (
                "Relay-Session: 00c0ffee00c0ffee;mode=x\r\nRelay-Leg: caller\r\n",
                "Relay-Session: mode is split or shared",
            ),
            ("Relay-Session: 00c0ffee00c0ffee\r\nRelay-Leg: x\r\n", "Relay-Leg is caller or callee"),
            (
                "Relay-Session: 00c0ffee00c0ffee\r\nRelay-Leg: caller\r\nRelay-Peer: host:1\r\n",
                "Relay-Peer is not an address",
            ),
            (
                "Relay-Session: 00c0ffee00c0ffee\r\nRelay-Leg: caller\r\nRelay-Policy: trust=maybe\r\n",
                "Relay-Policy: trust is yes or no",
            ),
            (
                "Relay-Session: 00c0ffee00c0ffee\r\nRelay-Leg: caller\r\nRelay-Srtp: caller=zrtp\r\n",
                "Relay-Srtp: a party's is pass, plain, sdes or dtls",
            ),
        ];
        for (headers, wrong) in table {
            assert_eq!(Ask::read(&request(headers)), Err(wrong));
        }
    }

    #[test]
    fn the_ends_of_a_dialog_have_tags_of_their_own_that_never_change() {
        let session = Session(0x00c0_ffee_00c0_ffee);
        assert_eq!(tag(session, Side::Caller), "732df63e064f213d");
        assert_eq!(tag(session, Side::Callee), "07c1c22ab75e23a5");
        assert_ne!(tag(Session(1), Side::Caller), tag(Session(2), Side::Caller));
    }

    #[test]
    fn cseq_grows_with_age_and_stays_within_31_bits() {
        assert_eq!([0, 99, 100, 1000].map(|ms| cseq(Duration::from_millis(ms))), [1, 1, 2, 11]);
        assert_eq!(cseq(Duration::from_secs(u64::MAX / 2)), MAX_CSEQ);
    }

    proptest! {
        #[test]
        fn never_panics_on_odd_headers(session in "[ -~]{0,24}", leg in "[ -~]{0,9}", rest in "[ -~]{0,24}") {
            let _ = Ask::read(&request(&format!(
                "Relay-Session: {session}\r\nRelay-Leg: {leg}\r\nRelay-Peer: {rest}\r\nRelay-Network: {rest}\r\n\
                 Relay-Policy: {rest}\r\n"
            )));
        }

        #[test]
        fn no_name_of_a_network_forges_a_header(name in ".{0,24}") {
            let ask = Ask { networks: [name.clone(), name], ..ask() };
            let message = ask.write(Builder::request("INVITE", "sip:relay").header(Name::CallId, "c")).finish();
            prop_assert!(Ask::read(&message).is_ok());
        }
    }
}
