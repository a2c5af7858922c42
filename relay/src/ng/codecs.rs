//! The codecs of one m= section, as lines: which formats it lists, and what `rtpmap`, `fmtp` and `rtcp-fb` say of each.

use super::flags::Flags;

/// One format of an m= line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codec<'a> {
    /// As the m= line lists it.
    pub(crate) format: &'a str,
    /// `PCMU/8000`: as mapped, or as RFC 3551 maps it; `None`: nobody says.
    pub(crate) name: Option<&'a str>,
    /// Its `fmtp` lines, whole.
    pub(crate) fmtp: Vec<&'a str>,
    /// Its `rtcp-fb` lines, whole.
    pub(crate) feedback: Vec<&'a str>,
}

/// What makes two formats the same codec, though their numbers may differ.
pub(crate) type Key = Box<str>;

impl<'a> Codec<'a> {
    /// One without attributes.
    pub(crate) fn new(format: &'a str) -> Codec<'a> {
        let name = format.parse().ok().and_then(static_name);
        Codec { format, name, fmtp: Vec::new(), feedback: Vec::new() }
    }

    /// See [`Key`].
    pub(crate) fn key(&self) -> Key {
        self.name.map_or_else(|| self.format.into(), |name| name.to_ascii_lowercase().into())
    }

    /// Takes in an attribute that is about this format.
    pub(crate) fn take(&mut self, name: &str, value: &'a str, line: &'a str) -> bool {
        let Some((format, rest)) = value.split_once(' ') else { return false };
        if format != self.format {
            return false;
        }
        match name {
            "rtpmap" => self.name = Some(plain(rest.trim())),
            "fmtp" => self.fmtp.push(line),
            "rtcp-fb" => self.feedback.push(line),
            _ => return false,
        }
        true
    }

    fn is(&self, wanted: &str) -> bool {
        let name = self.name.unwrap_or(self.format);
        let short = name.split('/').next().unwrap_or_default();
        wanted.eq_ignore_ascii_case(name) || wanted.eq_ignore_ascii_case(short)
    }

    /// Whether the flags leave it in.
    pub(crate) fn stays(&self, flags: &Flags) -> bool {
        let named = |names: &[String]| names.iter().any(|name| self.is(name));
        let all = flags.strip.iter().any(|name| name.eq_ignore_ascii_case("all"));
        named(&flags.keep) || !all && !named(&flags.strip)
    }
}

/// One channel needs no telling: `PCMU/8000/1` is `PCMU/8000`.
fn plain(name: &str) -> &str {
    match name.strip_suffix("/1") {
        Some(short) if short.contains('/') => short,
        _ => name,
    }
}

/// Names of the static payload types (RFC 3551 §6).
pub(crate) fn static_name(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU/8000",
        3 => "GSM/8000",
        4 => "G723/8000",
        5 => "DVI4/8000",
        6 => "DVI4/16000",
        7 => "LPC/8000",
        8 => "PCMA/8000",
        9 => "G722/8000",
        10 => "L16/44100/2",
        11 => "L16/44100",
        12 => "QCELP/8000",
        13 => "CN/8000",
        14 => "MPA/90000",
        15 => "G728/8000",
        16 => "DVI4/11025",
        17 => "DVI4/22050",
        18 => "G729/8000",
        25 => "CelB/90000",
        26 => "JPEG/90000",
        28 => "nv/90000",
        31 => "H261/90000",
        32 => "MPV/90000",
        33 => "MP2T/90000",
        34 => "H263/90000",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_known_by_name_and_static_ones_without_being_told() {
        let mut event = Codec::new("101");
        assert_eq!(&*event.key(), "101");
        assert!(event.take("rtpmap", "101 telephone-event/8000", "a=rtpmap:101 telephone-event/8000"));
        assert!(!event.take("rtpmap", "102 telephone-event/8000", ""));
        assert_eq!(&*event.key(), "telephone-event/8000");
        assert_eq!(&*Codec::new("8").key(), "pcma/8000");
        let mut pcmu = Codec::new("0");
        pcmu.take("rtpmap", "0 PCMU/8000/1", "");
        assert_eq!(&*pcmu.key(), "pcmu/8000");
    }

    #[test]
    fn all_may_be_stripped_but_some() {
        let flags = Flags { strip: vec!["all".into()], keep: vec!["PCMA".into()], ..Flags::default() };
        assert_eq!(["0", "8", "18"].map(|format| Codec::new(format).stays(&flags)), [false, true, false]);
        let flags = Flags { strip: vec!["pcma/8000".into()], ..Flags::default() };
        assert_eq!(["0", "8"].map(|format| Codec::new(format).stays(&flags)), [true, false]);
    }
}
