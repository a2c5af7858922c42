//! How a section's packets are protected, and the lines that say so: between a party that speaks SRTP and one that does not,
//! they are the only ones that change. RFC 4568 (`a=crypto`), RFC 5763 (DTLS-SRTP), RFC 8839 (ICE), RFC 9143 (BUNDLE).

use super::lines::{Line, lines, token};
use super::{Kind, Media, Sdp};
use crate::tables::Srtp;

/// How a section's packets are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// They are not. Also when nothing but a hope says otherwise: RTP/AVP with keys (RFC 8643).
    #[default]
    Plain,
    /// Under keys in the description.
    Sdes,
    /// Under keys made by DTLS.
    Dtls,
}

impl Protection {
    /// By protocol, and by which keys there are.
    pub fn of(media: &Media<'_>) -> Protection {
        let upper = media.protocol.to_ascii_uppercase();
        let secure = upper.split('/').any(|part| part == "SAVP" || part == "SAVPF");
        match media.kind {
            Kind::Rtp if secure && upper.split('/').any(|part| part == "TLS") => Protection::Dtls,
            Kind::Rtp if secure && media.cryptos.is_empty() && !media.fingerprints.is_empty() => {
                Protection::Dtls
            }
            Kind::Rtp if secure => Protection::Sdes,
            _ => Protection::Plain,
        }
    }

    /// Towards a party of this kind. Who has said nothing of keys gets plain RTP from somebody who has.
    pub fn wanted(srtp: Srtp) -> Protection {
        match srtp {
            Srtp::Pass | Srtp::Plain => Protection::Plain,
            Srtp::Sdes => Protection::Sdes,
            Srtp::Dtls => Protection::Dtls,
        }
    }

    /// The protocol of an m= line that offers this in place of `protocol`. Feedback (RFC 4585) stays where it was, but for
    /// browsers: they speak nothing else, and phones expect none of theirs.
    pub fn protocol(self, protocol: &str) -> &'static str {
        let upper = protocol.to_ascii_uppercase();
        let feedback = upper.ends_with('F') && !upper.contains("TLS");
        match (self, feedback) {
            (Protection::Plain, false) => "RTP/AVP",
            (Protection::Plain, true) => "RTP/AVPF",
            (Protection::Sdes, false) => "RTP/SAVP",
            (Protection::Sdes, true) => "RTP/SAVPF",
            (Protection::Dtls, _) => "UDP/TLS/RTP/SAVPF",
        }
    }
}

/// What a section shall say of keys instead of what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dress {
    /// The m= line's protocol.
    pub protocol: String,
    /// Attributes to add, without `a=`.
    pub lines: Vec<String>,
}

/// A description with other words about keys: in these sections the protocol and [`Dress::lines`] for whatever was said; the
/// session level loses what belongs to them. With `browser` what only browsers say of their streams (BUNDLE, sources,
/// header extensions, feedback) goes as well: it does not hold beyond a relay. `session`: lines to add at session level.
pub fn dress(bytes: &[u8], sections: &[Option<Dress>], browser: bool, session: &[String]) -> Vec<u8> {
    let line_end = lines(bytes).next().map(|line| line.end).filter(|end| !end.is_empty());
    let mut out =
        Dressed { bytes: Vec::with_capacity(bytes.len() + 512), line_end: line_end.unwrap_or(b"\r\n") };
    let mut section: Option<&Dress> = None;
    let mut at = 0;
    for line in lines(bytes) {
        if line.value(b'm').is_some() {
            match at {
                0 => out.add(session),
                _ => out.add(section.map_or(&[][..], |dress| &dress.lines)),
            }
            section = sections.get(at).and_then(Option::as_ref);
            at += 1;
            match section {
                Some(dress) => out.described(line, &dress.protocol),
                None => out.line(line),
            }
        } else if (at == 0 || section.is_some()) && says_of_keys(&line, browser) {
            continue;
        } else {
            out.line(line);
        }
    }
    if at > 0 {
        out.add(section.map_or(&[][..], |dress| &dress.lines));
    }
    out.bytes
}

/// A description whose sections that are offered in a bundle alone (`a=bundle-only`, port 0) name the address of its first one.
/// `None`: it has none.
pub fn with_bundled_ports(sdp: &Sdp<'_>) -> Option<Vec<u8>> {
    let alone = |media: &Media<'_>| media.bundled && media.bundle_only && media.port == 0;
    sdp.media.iter().find(|media| alone(media))?;
    let first = sdp.media.iter().find(|media| media.bundled && media.port != 0)?;
    let host = first.connection.map(|connection| connection.host).unwrap_or_default();
    let connection = format!("c=IN {} {host}", if host.contains(':') { "IP6" } else { "IP4" });
    let (mut sections, mut inside) = (sdp.media.iter(), false);
    let mut out = Vec::with_capacity(sdp.bytes.len() + 32);
    for line in lines(sdp.bytes) {
        if line.value(b'm').is_some() {
            inside = sections.next().is_some_and(alone);
        }
        match (line.text, token(line.text, 1)) {
            ([b'm', ..], Some(port)) if inside => {
                out.extend(&line.text[..port.start]);
                out.extend(first.port.to_string().bytes());
                out.extend(&line.text[port.end..]);
            }
            ([b'c', b'=', ..], _) if inside => out.extend(connection.bytes()),
            _ => out.extend(line.text),
        }
        out.extend(line.end);
    }
    Some(out)
}

struct Dressed<'a> {
    bytes: Vec<u8>,
    line_end: &'a [u8],
}

impl Dressed<'_> {
    fn line(&mut self, line: Line<'_>) {
        self.bytes.extend(line.text);
        self.bytes.extend(line.end);
    }

    fn described(&mut self, line: Line<'_>, protocol: &str) {
        let Some(place) = token(line.text, 2) else { return self.line(line) };
        self.bytes.extend(&line.text[..place.start]);
        self.bytes.extend(protocol.bytes());
        self.bytes.extend(&line.text[place.end..]);
        self.bytes.extend(line.end);
    }

    fn add(&mut self, attributes: &[String]) {
        let bare = !attributes.is_empty() && self.bytes.last().is_some_and(|last| *last != b'\n');
        if bare {
            self.bytes.extend(self.line_end);
        }
        for attribute in attributes {
            self.bytes.extend(b"a=");
            self.bytes.extend(attribute.bytes());
            self.bytes.extend(self.line_end);
        }
    }
}

fn says_of_keys(line: &Line<'_>, browser: bool) -> bool {
    let Some((name, value)) = line.attribute() else { return false };
    let any = |names: &[&str]| names.iter().any(|of| of.eq_ignore_ascii_case(name));
    any(&KEYS) || browser && (any(&BROWSER) || line.is_ice() || is_bundle(name, value))
}

fn is_bundle(name: &str, value: &str) -> bool {
    name == "group" && value.split_ascii_whitespace().next() == Some("BUNDLE")
}

const KEYS: [&str; 5] = ["crypto", "fingerprint", "setup", "tls-id", "connection"];
const BROWSER: [&str; 13] = [
    "rtcp-mux",
    "rtcp-mux-only",
    "rtcp-rsize",
    "rtcp-fb",
    "mid",
    "msid",
    "msid-semantic",
    "ssrc",
    "ssrc-group",
    "extmap",
    "extmap-allow-mixed",
    "bundle-only",
    "candidate",
];
