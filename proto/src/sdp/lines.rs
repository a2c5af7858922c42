//! Lines of a description: CRLF or LF line ends, kept as they are, and tokens with their places.

use std::ops::Range;

/// One line: what it says, and how it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Without its line end.
    pub text: &'a [u8],
    /// `\r\n`, `\n`, or nothing at the end of the description.
    pub end: &'a [u8],
}

/// The lines, whose texts and ends together are exactly the bytes.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    bytes.split_inclusive(|b| *b == b'\n').map(|line| {
        let text = line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l));
        Line { text, end: &line[text.len()..] }
    })
}

impl<'a> Line<'a> {
    /// The value of a line of this type: what stands behind `c=`.
    pub(super) fn value(&self, kind: u8) -> Option<&'a [u8]> {
        match self.text {
            [first, b'=', value @ ..] if *first == kind => Some(value),
            _ => None,
        }
    }

    /// The same as text; `None` too when it is not UTF-8.
    pub(super) fn text_value(&self, kind: u8) -> Option<&'a str> {
        self.value(kind).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Name and value of an `a=` line; the value is empty for a property attribute.
    pub(super) fn attribute(&self) -> Option<(&'a str, &'a str)> {
        let text = self.text_value(b'a')?;
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        Some((name.trim_end(), value.trim()))
    }

    /// Whether it is one of ICE's (RFC 8839 §5). `a=rtcp-mux` is not.
    pub(super) fn is_ice(&self) -> bool {
        self.attribute().is_some_and(|(name, _)| ICE.iter().any(|ice| ice.eq_ignore_ascii_case(name)))
    }
}

/// Where the `n`th token of a line's value stands in its text: tokens are parted by spaces (more than one is forgiven).
pub(super) fn token(text: &[u8], n: usize) -> Option<Range<usize>> {
    let mut at = TYPE_LEN;
    let mut left = n;
    loop {
        let start = at + text.get(at..)?.iter().position(|b| !b.is_ascii_whitespace())?;
        let end =
            text[start..].iter().position(u8::is_ascii_whitespace).map_or(text.len(), |len| start + len);
        if left == 0 {
            return Some(start..end);
        }
        left -= 1;
        at = end;
    }
}

/// `c=`.
const TYPE_LEN: usize = 2;
/// RFC 8839 §5, RFC 8840 §4, and `ice-pacing` of RFC 8839 §5.5.
const ICE: [&str; 9] = [
    "candidate",
    "remote-candidates",
    "end-of-candidates",
    "ice-ufrag",
    "ice-pwd",
    "ice-options",
    "ice-lite",
    "ice-mismatch",
    "ice-pacing",
];
