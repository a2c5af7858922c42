//! What an offer or answer may ask for besides its SDP, in the words Kamailio, OpenSIPS and others send.
//!
//! Clients send them as keys of their own, as words in `flags`, or as one string (`rtpp-flags`). A word that is known and
//! asks for nothing we could leave out is passed over; any other unknown one is named in the answer's warning, and the
//! call goes on.

use std::net::IpAddr;

use super::value::{Dict, Value, same_word};

/// What is to become of ICE in the SDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ice {
    /// Not said.
    #[default]
    Default,
    /// Strip it.
    Remove,
    /// Offer it whatever came.
    Force,
}

/// Who is to begin the handshake of DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtls {
    /// Not said, or `passive`: the party, where it leaves that open.
    #[default]
    Passive,
    /// We, where it leaves that open.
    Active,
    /// There is none of ours: the parties' own passes.
    Off,
}

/// Which of the suites we know an offer with `a=crypto` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suites {
    /// These alone, if any are named.
    only: Vec<String>,
    /// Not these.
    without: Vec<String>,
}

impl Suites {
    /// Whether it is another list than usual.
    pub fn is_said(&self) -> bool {
        *self != Suites::default()
    }

    /// Whether a suite is on it.
    pub fn has(&self, name: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        !among(&self.without) && (self.only.is_empty() || among(&self.only))
    }
}

/// What one offer or answer asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The address in `o=` becomes ours.
    pub replace_origin: bool,
    /// The session-level `c=` becomes ours, even when no section uses it.
    pub replace_connection: bool,
    /// A hold's `0.0.0.0` becomes ours, too.
    pub replace_zero: bool,
    /// ICE.
    pub ice: Ice,
    /// DTLS.
    pub dtls: Dtls,
    /// SDES.
    pub suites: Suites,
    /// SDES is not to be offered.
    pub no_sdes: bool,
    /// `rtcp-mux`: offer it to the answerer though the offerer did not.
    pub mux_offer: bool,
    /// Offer it to the answerer as settled: no other port for RTCP is named.
    pub mux_require: bool,
    /// Don't offer it to the answerer; speak it with the offerer.
    pub mux_demux: bool,
    /// Speak it with the offerer, whatever the answerer says.
    pub mux_accept: bool,
    /// Don't speak it with the offerer.
    pub mux_reject: bool,
    /// Media comes from the signalling's source, whatever the SDP says.
    pub sip_source: bool,
    /// Where the signalling comes from.
    pub received_from: Option<IpAddr>,
    /// Networks of this message's sender and of its receiver.
    pub direction: Option<[String; 2]>,
    /// Protocol of the m= lines towards the receiver.
    pub protocol: Option<String>,
    /// Address family towards the receiver: whether it is IPv4.
    pub ipv4: Option<bool>,
    /// Address to write instead of ours.
    pub media_address: Option<IpAddr>,
    /// Media goes where the SDP says, and nothing that is heard changes that.
    pub asymmetric: bool,
    /// No `a=rtcp`.
    pub no_rtcp: bool,
    /// `a=rtcp` with the address.
    pub full_rtcp: bool,
    /// Direction attributes stay as they are.
    pub original_direction: bool,
    /// `a=mid` where there is none.
    pub generate_mid: bool,
    /// Mark what we wrote, and leave alone what is marked.
    pub loop_protect: bool,
    /// `a=ptime` towards the receiver.
    pub ptime: Option<u32>,
    /// Codecs taken out (`all`: every one) …
    pub strip: Vec<String>,
    /// … and those that stay all the same.
    pub keep: Vec<String>,
    /// Record this call.
    pub record: bool,
    /// A name for the sender's media.
    pub label: Option<String>,
    /// What the client wants to find in records.
    pub metadata: Option<String>,
    /// What is wrong is an error, not a warning.
    pub fatal: bool,
    /// Asked for, and not to be had here.
    pub unknown: Vec<String>,
}

/// Most unknown words that are named.
const NAMED: usize = 16;

impl Flags {
    /// Of a message.
    pub fn read(dict: &Dict<'_>) -> Flags {
        let mut flags = Flags::default();
        for (key, value) in &dict.0 {
            let Ok(key) = std::str::from_utf8(key) else { continue };
            flags.key(key, value);
        }
        flags
    }

    fn key(&mut self, key: &str, value: &Value<'_>) {
        let is = |word: &str| same_word(key.as_bytes(), word.as_bytes());
        let text = || value.as_text().map(str::to_owned);
        match () {
            _ if is("flags") => value.words().into_iter().for_each(|word| self.word(word)),
            _ if is("rtpp-flags") => value.words().into_iter().for_each(|word| self.raw(word)),
            _ if is("replace") => value.words().into_iter().for_each(|word| self.replace(word)),
            _ if is("rtcp-mux") => value.words().into_iter().for_each(|word| self.mux(word)),
            _ if is("received-from") => {
                self.received_from = value.words().get(1).and_then(|ip| ip.parse().ok())
            }
            _ if is("direction") || is("interface") => self.direct(&value.words()),
            _ if is("ICE") => self.ice(value.as_text().unwrap_or_default()),
            _ if is("DTLS") => self.dtls(value.as_text().unwrap_or_default()),
            _ if is("SDES") => value.words().into_iter().for_each(|word| self.sdes(word)),
            _ if is("transport-protocol") => self.protocol = text().filter(|text| !text.is_empty()),
            _ if is("address-family") => self.family(value.as_text().unwrap_or_default()),
            _ if is("media-address") => self.media_address = value.as_text().and_then(|ip| ip.parse().ok()),
            _ if is("ptime") => self.ptime = value.as_int().and_then(|ptime| u32::try_from(ptime).ok()),
            _ if is("codec") => self.codecs(value),
            _ if is("record-call") => self.record = value.as_text().is_some_and(is_yes),
            _ if is("label") || is("from-label") => self.label = text(),
            _ if is("metadata") => self.metadata = text(),
            _ if HARMLESS_KEYS.iter().any(|known| is(known)) => {}
            _ => self.not_here(key),
        }
    }

    /// One word of `flags`.
    fn word(&mut self, word: &str) {
        let is = |known: &str| same_word(word.as_bytes(), known.as_bytes());
        let codec = |prefix: &str| {
            let start = word.get(..prefix.len())?;
            same_word(start.as_bytes(), prefix.as_bytes()).then(|| word[prefix.len()..].to_owned())
        };
        match () {
            _ if is("SIP-source-address") => self.sip_source = true,
            _ if is("trust-address") => self.sip_source = false,
            _ if is("asymmetric") => self.asymmetric = true,
            _ if is("no-rtcp-attribute") => self.no_rtcp = true,
            _ if is("full-rtcp-attribute") => self.full_rtcp = true,
            _ if is("original-sendrecv") => self.original_direction = true,
            _ if is("generate-mid") => self.generate_mid = true,
            _ if is("loop-protect") => self.loop_protect = true,
            _ if is("record-call") => self.record = true,
            _ if is("fatal") => self.fatal = true,
            _ if HARMLESS.iter().any(|known| is(known)) => {}
            _ => match (codec("codec-strip-"), codec("codec-except-").or_else(|| codec("codec-offer-"))) {
                (Some(codec), _) => self.strip.push(codec),
                (_, Some(codec)) => self.keep.push(codec),
                _ if codec("codec-accept-").is_some() => {}
                _ => self.not_here(word),
            },
        }
    }

    /// One word of `rtpp-flags`: the client passes on what its script says.
    fn raw(&mut self, word: &str) {
        match word.split_once('=') {
            Some((key, value)) if same_word(key.as_bytes(), b"direction") => self.add_direction(value),
            Some((key, value)) => self.key(key, &Value::text(value)),
            None => {
                let upper = word.to_ascii_uppercase();
                match word.strip_prefix("replace-").or_else(|| word.strip_prefix("rtcp-mux-")) {
                    Some(rest) if word.starts_with("replace-") => self.replace(rest),
                    Some(rest) => self.mux(rest),
                    None if upper.contains("RTP/") => self.protocol = Some(upper),
                    None if upper.starts_with("SDES-") => self.sdes(&word[5..]),
                    None => self.word(word),
                }
            }
        }
    }

    fn add_direction(&mut self, name: &str) {
        let name = name.to_owned();
        self.direction = Some(match self.direction.take() {
            Some([first, _]) => [first, name],
            None => [name.clone(), name],
        });
    }

    fn direct(&mut self, names: &[&str]) {
        if let [from, ..] = names {
            let to = names.get(1).unwrap_or(from);
            self.direction = Some([(*from).to_owned(), (*to).to_owned()]);
        }
    }

    fn replace(&mut self, word: &str) {
        let is = |known: &str| same_word(word.as_bytes(), known.as_bytes());
        match () {
            _ if is("origin") => self.replace_origin = true,
            _ if is("session-connection") => self.replace_connection = true,
            _ if is("zero-address") => self.replace_zero = true,
            _ => self.not_here(&format!("replace-{word}")),
        }
    }

    fn mux(&mut self, word: &str) {
        let is = |known: &str| same_word(word.as_bytes(), known.as_bytes());
        match () {
            _ if is("offer") => self.mux_offer = true,
            _ if is("demux") => self.mux_demux = true,
            _ if is("accept") => self.mux_accept = true,
            _ if is("reject") => self.mux_reject = true,
            _ if is("require") => (self.mux_offer, self.mux_require) = (true, true),
            _ => self.not_here(&format!("rtcp-mux-{word}")),
        }
    }

    fn ice(&mut self, word: &str) {
        match word.to_ascii_lowercase().as_str() {
            "remove" => self.ice = Ice::Remove,
            "force" | "force-relay" | "force_relay" => {
                self.ice = Ice::Force;
            }
            "default" | "optional" | "" => {}
            _ => self.not_here(&format!("ICE={word}")),
        }
    }

    fn dtls(&mut self, word: &str) {
        match word.to_ascii_lowercase().as_str() {
            "passive" | "" => self.dtls = Dtls::Passive,
            "active" => self.dtls = Dtls::Active,
            word if is_off(word) => self.dtls = Dtls::Off,
            _ => self.not_here(&format!("DTLS={word}")),
        }
    }

    /// `off` and its like ask for what happens anyway, unless the m= lines are to be SDES's.
    fn sdes(&mut self, word: &str) {
        match word.split_once('-') {
            Some(("no", suite)) => self.suites.without.push(suite.to_owned()),
            Some(("only", suite)) => self.suites.only.push(suite.to_owned()),
            None if is_off(word) => self.no_sdes = true,
            _ => self.not_here(&format!("SDES-{word}")),
        }
    }

    fn family(&mut self, word: &str) {
        self.ipv4 = match word.to_ascii_lowercase().as_str() {
            "ip4" | "ipv4" | "inet" => Some(true),
            "ip6" | "ipv6" | "inet6" => Some(false),
            _ => None,
        };
    }

    fn codecs(&mut self, value: &Value<'_>) {
        let Some(dict) = value.as_dict() else { return };
        for (key, value) in &dict.0 {
            let is = |known: &str| same_word(key, known.as_bytes());
            let names = value.words().into_iter().map(str::to_owned);
            match () {
                _ if is("strip") => self.strip.extend(names),
                _ if is("except") || is("offer") => self.keep.extend(names),
                _ if is("accept") => {}
                _ => names.for_each(|name| {
                    self.not_here(&format!("codec-{}-{name}", String::from_utf8_lossy(key)))
                }),
            }
        }
    }

    fn not_here(&mut self, word: &str) {
        if self.unknown.len() < NAMED {
            self.unknown.push(word.chars().filter(|c| c.is_ascii_graphic()).take(40).collect());
        }
    }
}

fn is_yes(word: &str) -> bool {
    ["yes", "on", "true", "1"].iter().any(|yes| yes.eq_ignore_ascii_case(word))
}

/// What rtpengine takes for no.
fn is_off(word: &str) -> bool {
    ["off", "no", "disable", "disabled"].contains(&word)
}

/// Keys that are read elsewhere, or that ask for what happens anyway.
const HARMLESS_KEYS: [&str; 16] = [
    "command",
    "call-id",
    "from-tag",
    "to-tag",
    "via-branch",
    "sdp",
    "cookie",
    "supports",
    "delete-delay",
    "all",
    "address",
    "to-label",
    "set-label",
    "xmlrpc-callback",
    "endpoint-learning",
    "limit",
];

/// Words that ask for what happens anyway: sources are learned and then held to, a party that moves proves itself, ports
/// are kept until the call is over.
const HARMLESS: [&str; 10] = [
    "inject-DTMF",
    "symmetric",
    "strict-source",
    "media-handover",
    "port-latching",
    "no-port-latching",
    "unidirectional",
    "allow-transcoding",
    "all",
    "debug",
];

#[cfg(test)]
mod tests {
    use super::super::bencode;
    use super::*;

    fn flags(bytes: &[u8]) -> Flags {
        Flags::read(bencode::read(bytes).unwrap().as_dict().unwrap())
    }

    #[test]
    fn reads_the_words_of_the_modules() {
        let read = flags(
            b"d3:ICE6:remove9:directionl4:priv3:pube5:flagsl13:trust-address18:SIP-source-address9:symmetrice\
              13:received-froml3:IP47:1.2.3.4e7:replacel6:origin18:session-connectione8:rtcp-muxl5:demux6:accepte\
              18:transport-protocol7:RTP/AVP14:address family3:IP65:codecd5:stripl4:PCMAe5:offerl4:opuseee",
        );
        assert_eq!(read.ice, Ice::Remove);
        assert_eq!(read.direction, Some(["priv".into(), "pub".into()]));
        assert!(
            read.sip_source
                && read.replace_origin
                && read.replace_connection
                && read.mux_demux
                && read.mux_accept
        );
        assert_eq!(read.received_from, Some("1.2.3.4".parse().unwrap()));
        assert_eq!((read.protocol.as_deref(), read.ipv4), (Some("RTP/AVP"), Some(false)));
        assert_eq!((read.strip, read.keep), (vec!["PCMA".to_owned()], vec!["opus".to_owned()]));
        assert_eq!(read.unknown, Vec::<String>::new());
    }

    #[test]
    fn a_string_of_flags_says_the_same() {
        let read = flags(
            b"d10:rtpp_flags97:replace-origin ICE=remove rtcp-mux-offer direction=a direction=b RTP/AVP codec-strip-G729 foo-bare",
        );
        assert!(read.replace_origin && read.mux_offer);
        assert_eq!(read.direction, Some(["a".into(), "b".into()]));
        assert_eq!(read.protocol.as_deref(), Some("RTP/AVP"));
        assert_eq!((read.strip, read.unknown), (vec!["G729".to_owned()], vec!["foo-bar".to_owned()]));
    }

    #[test]
    fn keys_are_asked_for_in_words_or_in_a_list() {
        let (list, string) = (
            flags(b"d4:DTLS6:active4:SDESl26:no-AES_CM_128_HMAC_SHA1_3219:no-AEAD_AES_256_GCM3:padee"),
            flags(
                b"d10:rtpp_flags77:DTLS=active SDES-no-AES_CM_128_HMAC_SHA1_32 SDES-no-AEAD_AES_256_GCM SDES-pade",
            ),
        );
        assert_eq!(list, string);
        assert_eq!((list.dtls, list.unknown.as_slice()), (Dtls::Active, &["SDES-pad".to_owned()][..]));
        assert!(list.suites.has("AEAD_AES_128_GCM") && !list.suites.has("AES_CM_128_HMAC_SHA1_32"));
        let only = flags(b"d4:DTLS2:no4:SDESl21:only-AEAD_AES_128_GCMee");
        assert!(only.suites.has("AEAD_AES_128_GCM") && !only.suites.has("AES_CM_128_HMAC_SHA1_80"));
        assert_eq!((only.dtls, flags(b"d4:SDES3:offe").no_sdes), (Dtls::Off, true));
        assert_eq!(flags(b"d4:DTLS5:maybe5:OSRTPl5:offeree").unknown, ["DTLS=maybe", "OSRTP"]);
    }

    #[test]
    fn what_is_not_to_be_had_is_named() {
        let read = flags(b"d5:flagsl7:one two5:threee3:ICE4:odd!3:TOSi184ee");
        assert_eq!(read.unknown, ["onetwo", "three", "ICE=odd!", "TOS"]);
    }
}
