//! The SDP in a body, or what else is looked for, also in a multipart one (RFC 2046 §5.1, RFC 5621).

use std::ops::Range;

use super::{Name, Params, lex};

/// Multiparts inside multiparts that are looked into.
const MAX_DEPTH: u8 = 3;

/// Where in `body` of type `content_type` the SDP stands.
pub(super) fn sdp(content_type: &str, body: &[u8]) -> Option<Range<usize>> {
    let mut sdp = None;
    look(content_type, body, 0..body.len(), MAX_DEPTH, &mut |media_type, content| {
        if sdp.is_none() && media_type.eq_ignore_ascii_case("application/sdp") && !content.is_empty() {
            sdp = Some(content);
        }
        sdp.is_some()
    });
    sdp
}

/// Where in `body` the contents of this media type stand, in their order.
pub(super) fn all(wanted: &str, content_type: &str, body: &[u8]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    look(content_type, body, 0..body.len(), MAX_DEPTH, &mut |media_type, content| {
        if media_type.eq_ignore_ascii_case(wanted) {
            all.push(content);
        }
        false
    });
    all
}

/// Shows every part that is no multipart itself, until one is the last (`true`).
fn look(
    content_type: &str,
    body: &[u8],
    range: Range<usize>,
    depth: u8,
    shown: &mut dyn FnMut(&str, Range<usize>) -> bool,
) -> bool {
    let (media_type, params) = content_type.split_once(';').unwrap_or((content_type, ""));
    let media_type = lex::trim(media_type);
    if !media_type.get(..10).is_some_and(|t| t.eq_ignore_ascii_case("multipart/")) {
        return shown(media_type, range);
    }
    let Some(boundary) = Params(params).get("boundary").filter(|b| !b.is_empty()) else { return false };
    let mut parts = Parts { body, boundary: boundary.as_bytes(), at: range.start, end: range.end };
    let Some(deeper) = depth.checked_sub(1).filter(|_| parts.begin().is_some()) else { return false };
    std::iter::from_fn(|| parts.next_part()).any(|part| {
        open_part(body, part).is_some_and(|(kind, content)| look(kind, body, content, deeper, shown))
    })
}

/// Walks from boundary line to boundary line.
struct Parts<'a> {
    body: &'a [u8],
    boundary: &'a [u8],
    at: usize,
    end: usize,
}

impl Parts<'_> {
    /// Goes behind the first boundary line.
    fn begin(&mut self) -> Option<()> {
        let (_, after) = self.next_boundary()?;
        self.at = after;
        Some(())
    }

    fn next_part(&mut self) -> Option<Range<usize>> {
        let from = self.at;
        let (line, after) = self.next_boundary()?;
        self.at = after;
        // The line break before a boundary belongs to the boundary.
        let before = self.body[from..line].strip_suffix(b"\n").unwrap_or(&self.body[from..line]);
        let part = before.strip_suffix(b"\r").unwrap_or(before);
        Some(from..from + part.len())
    }

    /// The next line `--boundary` or `--boundary--`: where it begins and where the line after it does.
    fn next_boundary(&self) -> Option<(usize, usize)> {
        let mut at = self.at;
        while at < self.end {
            let rest = &self.body[at..self.end];
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
            if rest[..length].strip_prefix(b"--").is_some_and(|l| l.starts_with(self.boundary)) {
                return Some((at, at + length));
            }
            at += length;
        }
        None
    }
}

/// A part's Content-Type, and where its content stands.
fn open_part(body: &[u8], part: Range<usize>) -> Option<(&str, Range<usize>)> {
    let mut at = part.start;
    let mut content_type = None;
    while at < part.end {
        let rest = &body[at..part.end];
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        let line = rest[..length].trim_ascii();
        at += length;
        if line.is_empty() {
            return Some((content_type?, at..part.end));
        }
        content_type = content_type.or_else(|| content_type_of(line));
    }
    None
}

fn content_type_of(line: &[u8]) -> Option<&str> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    (Name::from_token(name.trim_end().as_bytes()) == Name::ContentType).then_some(lex::trim(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"preamble\r\n--b1\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b1\r\n\
        c: application/sdp\r\nContent-Disposition: session\r\n\r\nv=0\r\no=x\r\n\r\n--b1--\r\nepilogue";

    #[test]
    fn finds_the_sdp_part_without_the_line_break_of_the_boundary() {
        let range = sdp("multipart/mixed; boundary=\"b1\"", BODY).unwrap();
        assert_eq!(&BODY[range], b"v=0\r\no=x\r\n");
    }

    #[test]
    fn looks_into_nested_multiparts() {
        let body =
            [b"--o\r\nContent-Type: multipart/alternative;boundary=b1\r\n\r\n", BODY, b"\r\n--o--"].concat();
        let range = sdp("multipart/mixed;boundary=o", &body).unwrap();
        assert_eq!(&body[range], b"v=0\r\no=x\r\n");
    }

    #[test]
    fn finds_every_part_of_a_type() {
        let body = [
            b"--o\r\nContent-Type: multipart/related;boundary=b1\r\n\r\n",
            BODY,
            b"\r\n--o\r\nContent-Type: Text/Plain;x=y\r\n\r\nbye\r\n--o--",
        ]
        .concat();
        let found = all("text/plain", "multipart/mixed;boundary=o", &body);
        let found: Vec<&[u8]> = found.into_iter().map(|range| &body[range]).collect();
        assert_eq!(found, [b"hello".as_slice(), b"bye"]);
        assert_eq!(all("text/plain", "text/plain", b"x"), std::slice::from_ref(&(0..1)));
    }

    #[test]
    fn finds_nothing_where_there_is_nothing() {
        assert_eq!(sdp("application/sdp", b""), None);
        assert_eq!(sdp("text/plain;boundary=b1", BODY), None);
        assert_eq!(sdp("multipart/mixed", BODY), None);
        assert_eq!(sdp("multipart/mixed;boundary=other", BODY), None);
        assert_eq!(
            sdp("multipart/mixed;boundary=b1", b"--b1\r\nContent-Type: application/sdp\r\n\r\nv=0"),
            None
        );
    }
}
