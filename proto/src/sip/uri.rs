//! URIs: sip, sips, tel, urn and whatever else stands in angle brackets (RFC 3261 §19.1, RFC 3966).

use super::{Malformed, Params, lex};
use crate::node::Transport;

/// A URI, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// As written.
    pub raw: &'a str,
    /// Its scheme.
    pub scheme: Scheme,
    /// User part as written (escapes left), without password; "" if none. For `tel:` and others: all before `;`.
    pub user: &'a str,
    /// Host, IPv6 in brackets; "" for schemes that have none.
    pub host: &'a str,
    /// Port, if written.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params<'a>,
    /// `?name=value&…`, without the question mark; "" if none.
    pub headers: &'a str,
}

/// Schemes we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other.
    Other,
}

/// What must be escaped in a URI, and what divides it into its parts.
static OF_NOTE: lex::ByteSet = lex::ByteSet::blank_and(b"<>\":@;?");
static OF_A_SCHEME: lex::ByteSet = lex::ByteSet::alphanumeric_and(b"+-.");
static OF_A_NAME: lex::ByteSet = lex::ByteSet::alphanumeric_and(b"-._");

impl<'a> Uri<'a> {
    /// Reads a URI (without angle brackets).
    pub fn parse(raw: &'a str) -> Result<Uri<'a>, Malformed> {
        let marks = Marks::of(raw.as_bytes())?;
        let scheme_end = marks.scheme.ok_or(Malformed::bad("a URI without a scheme"))?;
        match Scheme::from_name(&raw[..scheme_end])? {
            scheme @ (Scheme::Sip | Scheme::Sips) => Uri::parse_sip(raw, scheme, &marks),
            scheme => Ok(Uri::opaque(raw, scheme, &raw[scheme_end + 1..])),
        }
    }

    fn parse_sip(raw: &'a str, scheme: Scheme, marks: &Marks) -> Result<Uri<'a>, Malformed> {
        let after_scheme = marks.scheme.map_or(0, |at| at + 1);
        let user = marks.at.map_or("", |at| &raw[after_scheme..marks.password.unwrap_or(at)]);
        if marks.at.is_some() && user.is_empty() {
            return Err(Malformed::bad("a URI with an empty user before @"));
        }
        let host_at = marks.at.map_or(after_scheme, |at| at + 1);
        let (end, headers) = marks.headers.map_or((raw.len(), ""), |at| (at, &raw[at + 1..]));
        let (host_end, params) = marks.params.map_or((end, ""), |at| (at, &raw[at + 1..end]));
        let (host, port) = host_port(&raw[host_at..host_end])?;
        Ok(Uri { raw, scheme, user, host, port, params: Params(params), headers })
    }

    fn opaque(raw: &'a str, scheme: Scheme, rest: &'a str) -> Uri<'a> {
        let (user, params) = rest.split_once(';').unwrap_or((rest, ""));
        Uri { raw, scheme, user, host: "", port: None, params: Params(params), headers: "" }
    }

    /// `transport` parameter, if known.
    pub fn transport(&self) -> Option<Transport> {
        Transport::from_name(self.params.get("transport")?)
    }

    /// Loose routing.
    pub fn has_lr(&self) -> bool {
        self.params.get("lr").is_some()
    }

    /// `user@host`, canonical: user unescaped where it need not be escaped, host lower case, port and parameters
    /// left out (RFC 3261 §10.3 step 5). `None` when there is no user or no host.
    pub fn aor(&self) -> Option<String> {
        if self.user.is_empty() || self.host.is_empty() {
            return None;
        }
        let mut aor = String::with_capacity(self.user.len() + self.host.len() + 1);
        unescape_needless(self.user, &mut aor);
        aor.push('@');
        let host = aor.len();
        aor.push_str(self.host);
        aor[host..].make_ascii_lowercase();
        Some(aor)
    }

    /// Comparison by RFC 3261 §19.1.4 (`tel:` by RFC 3966 §4; other schemes character by character).
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool {
        self.scheme == other.scheme
            && match self.scheme {
                Scheme::Sip | Scheme::Sips => self.is_same_sip(other),
                Scheme::Tel => digits(self.user).eq(digits(other.user)) && same_params(self, other, &[]),
                Scheme::Other => self.raw == other.raw,
            }
    }

    fn is_same_sip(&self, other: &Uri<'_>) -> bool {
        // Parameters that matter even when only one URI has them.
        const DECISIVE: [&str; 5] = ["transport", "user", "ttl", "method", "maddr"];
        canonical(self.userinfo()) == canonical(other.userinfo())
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && same_params(self, other, &DECISIVE)
            && same_headers(self.headers, other.headers)
    }

    /// User and password.
    fn userinfo(&self) -> &'a str {
        let rest = self.raw.split_once(':').map_or("", |(_, rest)| rest);
        rest.split_once('@').map_or("", |(userinfo, _)| userinfo)
    }
}

/// Where the parts of a SIP URI begin: the first of each mark that counts.
#[derive(Default)]
struct Marks {
    /// The colon after the scheme.
    scheme: Option<usize>,
    /// The colon before a password.
    password: Option<usize>,
    /// The `@` after the user part, which may have any of the other marks in it.
    at: Option<usize>,
    params: Option<usize>,
    headers: Option<usize>,
}

impl Marks {
    /// All of them in one walk: URIs are read more often than anything else.
    fn of(raw: &[u8]) -> Result<Marks, Malformed> {
        let mut marks = Marks::default();
        for (at, &byte) in raw.iter().enumerate() {
            if !OF_NOTE.has(byte) {
                continue;
            }
            let place = match byte {
                b':' if marks.scheme.is_none() => &mut marks.scheme,
                b':' if marks.at.is_none() => &mut marks.password,
                b'@' if marks.at.is_none() => {
                    (marks.params, marks.headers) = (None, None);
                    &mut marks.at
                }
                b';' if marks.headers.is_none() => &mut marks.params,
                b'?' => &mut marks.headers,
                b':' | b'@' | b';' => continue,
                _ => return Err(Malformed::bad("a character in a URI that must be escaped")),
            };
            place.get_or_insert(at);
        }
        Ok(marks)
    }
}

impl Scheme {
    fn from_name(name: &str) -> Result<Scheme, Malformed> {
        if name == "sip" {
            return Ok(Scheme::Sip);
        }
        let starts = name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if !starts || !OF_A_SCHEME.are_all(name.as_bytes()) {
            return Err(Malformed::bad("a URI without a scheme"));
        }
        Ok(match name {
            _ if name.eq_ignore_ascii_case("sip") => Scheme::Sip,
            _ if name.eq_ignore_ascii_case("sips") => Scheme::Sips,
            _ if name.eq_ignore_ascii_case("tel") => Scheme::Tel,
            _ => Scheme::Other,
        })
    }
}

/// `host`, `host:port`, `[IPv6]`, `[IPv6]:port`; white space around the colon is allowed (Via, RFC 3261 §25.1).
pub(super) fn host_port(text: &str) -> Result<(&str, Option<u16>), Malformed> {
    let name = OF_A_NAME.first_not_in(text.as_bytes()).unwrap_or(text.len());
    let (host, rest) = match text.as_bytes().get(name) {
        None | Some(b':') if name > 0 => text.split_at(name),
        _ => spaced_or_bracketed(text)?,
    };
    if rest.is_empty() {
        return Ok((host, None));
    }
    let port = rest.strip_prefix(':').and_then(|port| lex::decimal(lex::trim(port)));
    port.map(|port| (host, Some(port))).ok_or(Malformed::bad("a port that is not a number up to 65535"))
}

/// Host and what follows where it takes more than a look at the first characters.
fn spaced_or_bracketed(text: &str) -> Result<(&str, &str), Malformed> {
    let find = |byte| memchr::memchr(byte, text.as_bytes());
    let end = if text.starts_with('[') { find(b']').map(|at| at + 1) } else { find(b':') };
    let (host, rest) = text.split_at(end.unwrap_or(text.len()));
    let (host, rest) = (lex::trim(host), lex::trim(rest));
    match is_host(host) {
        true => Ok((host, rest)),
        false => Err(Malformed::bad("a host that is neither a name nor an address (IPv6 goes in brackets)")),
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => {
            !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'%'))
        }
        None => OF_A_NAME.are_all(host.as_bytes()),
    }
}

/// Characters a user part may hold unescaped (RFC 3261 §25.1: unreserved and user-unreserved).
fn needs_no_escape(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte)
}

/// Appends `text` with every `%xx` of a character that needs no escape as that character, the others in upper case.
fn unescape_needless(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'%', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) if needs_no_escape(byte) => out.push(char::from(byte)),
            Some(byte) => out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
            None => out.push('%'),
        }
        rest = &rest[at + if hex.is_some() { 3 } else { 1 }..];
    }
    out.push_str(rest);
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    unescape_needless(text, &mut out);
    out
}

/// A telephone number without its visual separators (RFC 3966 §5.1.1).
fn digits(number: &str) -> impl Iterator<Item = u8> {
    number.bytes().filter(|b| !b"-.()".contains(b)).map(|b| b.to_ascii_lowercase())
}

/// Whether parameters that both have agree, and those of `decisive` are had by both or neither.
fn same_params(a: &Uri<'_>, b: &Uri<'_>, decisive: &[&str]) -> bool {
    // A parameter that is written twice counts as it was written first, on both sides.
    let agrees = |name: &str| match (a.params.get(name), b.params.get(name)) {
        (Some(one), Some(other)) => canonical(one).eq_ignore_ascii_case(&canonical(other)),
        _ => true,
    };
    a.params.iter().all(|(name, _)| agrees(name))
        && decisive.iter().all(|name| a.params.get(name).is_some() == b.params.get(name).is_some())
}

/// Whether two header parts have the same headers in any order.
fn same_headers(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut all: Vec<String> = text.split('&').map(canonical).collect();
        all.sort_unstable();
        all
    };
    a == b || sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: else a device whose Contact says a thing twice would be another one at every registration.
    #[test]
    fn a_uri_that_repeats_a_parameter_is_itself() {
        for text in ["sip:a@b;x=1;x=2", "tel:+1;x=1;x=2"] {
            let uri = Uri::parse(text).unwrap();
            assert!(uri.is_equivalent(&uri), "{text}");
        }
    }

    fn uri(raw: &str) -> Uri<'_> {
        Uri::parse(raw).unwrap_or_else(|e| panic!("{raw}: {e:?}"))
    }

    #[test]
    fn reads_every_part() {
        let uri = uri("sips:al%20ice:pw@[2001:db8::1]:5081;transport=TCP;lr;x=%2f?Subject=a&Priority=b");
        assert_eq!(
            (uri.scheme, uri.user, uri.host, uri.port),
            (Scheme::Sips, "al%20ice", "[2001:db8::1]", Some(5081))
        );
        assert_eq!((uri.transport(), uri.has_lr()), (Some(Transport::Tcp), true));
        assert_eq!(uri.headers, "Subject=a&Priority=b");
    }

    #[test]
    fn a_user_may_hold_semicolons_and_question_marks() {
        let uri = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!((uri.user, uri.host), ("user;par=u%40example.net", "example.com"));
        assert_eq!(self::uri("sip:a?b@example.com").user, "a?b");
    }

    #[test]
    fn schemes_without_a_host_keep_what_they_say() {
        let tel = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!((tel.scheme, tel.user, tel.host), (Scheme::Tel, "+1-201-555-0123", ""));
        assert_eq!(uri("urn:service:sos").user, "service:sos");
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme, Scheme::Other);
    }

    #[test]
    fn refuses_what_is_no_uri() {
        for raw in [
            "",
            "sip:",
            "alice",
            "sip:@example.com",
            "sip:a@",
            "sip:a@b:port",
            "sip:a@b:65536",
            "sip:2001:db8::1",
            "sip:a b@c",
            "<sip:a@b>",
            "sip:a@[::1",
            ":a",
            "1sip:a",
        ] {
            assert!(Uri::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn an_address_of_record_is_canonical() {
        assert_eq!(uri("sip:%61lice@EXAMPLE.com:5070;transport=tcp").aor().unwrap(), "alice@example.com");
        assert_eq!(uri("sip:a%40b%2fc@x").aor().unwrap(), "a%40b/c@x");
        assert_eq!(uri("sip:100%@x").aor().unwrap(), "100%@x");
        assert_eq!(uri("sip:example.com").aor(), None);
        assert_eq!(uri("tel:+1").aor(), None);
    }

    #[test]
    fn equivalence_is_that_of_the_rfc() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
        ];
        for (a, b) in same {
            assert!(uri(a).is_equivalent(&uri(b)) && uri(b).is_equivalent(&uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn difference_is_that_of_the_rfc() {
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtlanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@x", "sip:a:pw@x"),
        ];
        for (a, b) in different {
            assert!(!uri(a).is_equivalent(&uri(b)) && !uri(b).is_equivalent(&uri(a)), "{a} {b}");
        }
    }
}
