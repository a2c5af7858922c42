//! Typed, lazy reads of header values. Nothing is copied; folds inside a value are white space.

use std::net::SocketAddr;

use super::uri::host_port;
use super::{Malformed, Method, Uri, lex};
use crate::node::{Transport, literal};

/// `;name=value` parameters, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(pub &'a str);

impl<'a> Params<'a> {
    /// A parameter's value (unquoted slice: quotes removed, escapes left); `Some("")` when it has none.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        if self.are_plain() {
            let is_meant = |(n, value): &(&str, Option<&str>)| {
                n.eq_ignore_ascii_case(name) && !(n.is_empty() && value.is_none())
            };
            return self.plain().find(is_meant).map(|(_, value)| value.unwrap_or(""));
        }
        self.iter().find(|(n, _)| lex::is_same_word(n, name)).map(|(_, value)| value.unwrap_or(""))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        lex::list_of(self.0, b';').map(name_value)
    }

    /// Whether nothing is quoted, bracketed, escaped, commented or spaced, as in nearly all: then each semicolon and each
    /// first equals sign counts, and nothing else does.
    fn are_plain(&self) -> bool {
        static ODD: lex::ByteSet = lex::ByteSet::blank_and(b"\"<(%");
        !self.0.bytes().any(|byte| ODD.has(byte))
    }

    /// Those of a plain list, empty ones included.
    fn plain(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let mut rest = Some(self.0).filter(|all| !all.is_empty());
        std::iter::from_fn(move || {
            let (mut end, mut equals) = (0, None);
            let text = rest?;
            for byte in text.bytes().take_while(|byte| *byte != b';') {
                if byte == b'=' && equals.is_none() {
                    equals = Some(end);
                }
                end += 1;
            }
            rest = text.get(end + 1..);
            Some((&text[..equals.unwrap_or(end)], equals.map(|at| &text[at + 1..end])))
        })
    }

    /// Whether each has a name: `;;` and `;=x` are not parameters.
    pub(super) fn are_well_formed(&self) -> bool {
        if self.are_plain() {
            // Behind a last semicolon there is one without a name.
            return !self.0.ends_with(';') && self.plain().all(|(name, _)| !name.is_empty());
        }
        self.0.is_empty() || lex::split(self.0, b';').all(|param| !name_value(param).0.is_empty())
    }
}

/// `name`, `name=value` or `name="value"`, white space around each part.
fn name_value(text: &str) -> (&str, Option<&str>) {
    match lex::cut(text, b'=') {
        Some((name, value)) => (lex::trim(name), Some(lex::unquote(lex::trim(value)))),
        None => (text, None),
    }
}

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// As written: `UDP`, `TLS-SCTP` …
    pub transport: &'a str,
    /// Host part of sent-by, IPv6 in brackets.
    pub host: &'a str,
    /// Port of sent-by, if written.
    pub port: Option<u16>,
    /// `;branch=…` and the rest.
    pub params: Params<'a>,
    pub(super) branch: &'a str,
}

impl<'a> Via<'a> {
    /// Reads one value: `SIP/2.0/UDP host:port;params (comment)`, with white space wherever RFC 3261 §25.1 has it.
    pub fn parse(value: &'a str) -> Result<Via<'a>, Malformed> {
        const BAD: Malformed = Malformed::bad("a Via is not SIP/2.0/transport host;parameters");
        let rest = match value.strip_prefix("SIP/2.0/") {
            Some(rest) => rest,
            None => after_version(value).ok_or(BAD)?,
        };
        let rest = lex::trim(rest);
        let (transport, rest) = rest.split_at(rest.bytes().position(lex::is_lws).ok_or(BAD)?);
        if !lex::is_token_word(transport.as_bytes()) {
            return Err(BAD);
        }
        let (sent_by, params) = split_params(without_comment(rest));
        let params = params.unwrap_or(Params(""));
        let (host, port) = host_port(lex::trim(sent_by))?;
        Ok(Via { transport, host, port, params, branch: params.get("branch").unwrap_or("") })
    }

    /// The branch; "" if there is none.
    pub fn branch(&self) -> &'a str {
        self.branch
    }

    /// Whether `rport` is there (RFC 3581).
    pub fn wants_rport(&self) -> bool {
        self.params.get("rport").is_some()
    }

    /// Known transport, if it is one.
    pub fn known_transport(&self) -> Option<Transport> {
        Transport::from_name(self.transport)
    }

    /// Sent-by as `host:port`, the port written or the transport's default.
    pub fn sent_by(&self) -> String {
        let mut sent_by = String::with_capacity(self.host.len() + 6);
        sent_by.push_str(self.host);
        sent_by.push(':');
        lex::push_decimal(&mut sent_by, u32::from(self.port_or_default()));
        sent_by
    }

    /// Whether sent-by is exactly this address (default port filled in).
    pub fn is_from(&self, source: SocketAddr) -> bool {
        self.port_or_default() == source.port() && literal(self.host) == Some(source.ip())
    }

    fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.known_transport().unwrap_or(Transport::Udp).default_port())
    }
}

/// What stands behind name and version of the protocol, two tokens with white space around their slashes.
fn after_version(value: &str) -> Option<&str> {
    let (protocol, rest) = lex::cut(value, b'/')?;
    let (version, rest) = lex::cut(rest, b'/')?;
    let words = [protocol, version].map(lex::trim);
    words.iter().all(|word| lex::is_token_word(word.as_bytes())).then_some(rest)
}

/// A Via value without the comment that may end it (RFC 2543 §6.40; RFC 3261 reads it for compatibility).
pub(super) fn without_comment(text: &str) -> &str {
    match text.strip_suffix(')').and_then(|_| text.find(" (").or_else(|| text.find("\t("))) {
        Some(at) => &text[..at],
        None => text,
    }
}

/// What stands before the first `;`, and the parameters after it.
fn split_params(text: &str) -> (&str, Option<Params<'_>>) {
    match lex::cut(text, b';') {
        Some((before, params)) => (before, Some(Params(params))),
        None => (text, None),
    }
}

/// From, To, Contact, Route, Record-Route … (RFC 3261 §20.10).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// Display name as written, quotes included; "" if none.
    pub display: &'a str,
    /// The URI as written, without angle brackets.
    pub raw_uri: &'a str,
    /// Header parameters after it.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value. A display name may be anything that cannot be taken for something else: phones write
    /// commas and dots without quotes (RFC 4475 §3.1.2.15 allows reading them).
    pub fn parse(value: &'a str) -> Result<NameAddr<'a>, Malformed> {
        let value = lex::trim(value);
        let display_end = match value.starts_with('"') {
            true => {
                lex::quoted_end(value.as_bytes(), 0).ok_or(Malformed::bad("a quoted string does not end"))?
            }
            false => 0,
        };
        let rest = &value[display_end..];
        match memchr::memchr2(b'<', b';', rest.as_bytes()) {
            Some(at) if rest[at..].starts_with('<') => NameAddr::bracketed(value, display_end + at),
            _ if display_end > 0 => {
                Err(Malformed::bad("a display name without an address in angle brackets"))
            }
            _ => NameAddr::bare(value),
        }
    }

    /// `display <uri>;params`.
    fn bracketed(value: &'a str, open: usize) -> Result<NameAddr<'a>, Malformed> {
        let rest = &value[open + 1..];
        let (raw_uri, after) =
            lex::cut(rest, b'>').ok_or(Malformed::bad("an angle bracket is not closed"))?;
        let after = lex::trim(after);
        let params = match after.strip_prefix(';') {
            Some(params) => Params(params),
            None if after.is_empty() => Params(""),
            None => return Err(Malformed::bad("something other than parameters after an address")),
        };
        let (display, raw_uri) = (lex::trim(&value[..open]), lex::trim(raw_uri));
        if raw_uri.is_empty() {
            return Err(Malformed::bad("empty angle brackets"));
        }
        Ok(NameAddr { display, raw_uri, params })
    }

    /// `uri;params`: the parameters belong to the header (RFC 3261 §20), and a question mark must not stand here.
    fn bare(value: &'a str) -> Result<NameAddr<'a>, Malformed> {
        let (uri, params) = split_params(value);
        let raw_uri = lex::trim(uri);
        let odd = |b: u8| lex::is_lws(b) || matches!(b, b'?' | b'>' | b'"' | b',');
        if raw_uri.is_empty() || raw_uri.bytes().any(odd) {
            return Err(Malformed::bad("an address that must stand in angle brackets"));
        }
        Ok(NameAddr { display: "", raw_uri, params: params.unwrap_or(Params("")) })
    }

    /// The URI, read.
    pub fn uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.raw_uri)
    }

    /// `tag`; "" if there is none.
    pub fn tag(&self) -> &'a str {
        self.params.get("tag").unwrap_or("")
    }

    /// `q` in thousandths; 1000 if absent or no number from 0 to 1.
    pub fn q(&self) -> u16 {
        self.params.get("q").and_then(thousandths).unwrap_or(1000)
    }

    /// `expires`, in seconds (values over 2^32-1 are cut to it).
    pub fn expires(&self) -> Option<u32> {
        lex::decimal_saturating(self.params.get("expires")?)
    }
}

/// `qvalue` (RFC 3261 §25.1): `0.7` is 700.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.bytes().chain(*b"000").take(3).fold(0, |n, b| n * 10 + u16::from(b - b'0'));
    match whole {
        "" | "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// 0 – 2^31-1.
    pub number: u32,
    /// The method it names.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Reads `number METHOD` (RFC 3261 §8.1.1.5).
    pub fn parse(value: &'a str) -> Result<CSeq<'a>, Malformed> {
        const BAD: Malformed = Malformed::bad("CSeq is not a number below 2^31 and a method");
        let value = lex::trim(value);
        let (number, method) = value.split_at(value.bytes().position(lex::is_lws).ok_or(BAD)?);
        let number = lex::decimal::<u32>(number).filter(|&n| n < 1 << 31).ok_or(BAD)?;
        let method = lex::trim(method);
        if !lex::is_token_word(method.as_bytes()) {
            return Err(BAD);
        }
        Ok(CSeq { number, method: Method::from_token(method) })
    }
}

/// `Digest name=value, …` of the four authentication headers (RFC 7616).
#[derive(Clone, Copy, Debug)]
pub struct Auth<'a>(pub &'a str);

impl<'a> Auth<'a> {
    /// `Digest`, as written.
    pub fn scheme(&self) -> &'a str {
        self.parts().0
    }

    /// A parameter, quotes removed (escapes left).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.params().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All parameters in order, quotes removed (escapes left).
    pub fn params(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = Some(self.parts().1);
        let values = std::iter::from_fn(move || {
            let text = rest?;
            let (value, after) = text.split_at(Self::end_of_first(text.as_bytes()));
            rest = after.get(1..);
            Some(lex::trim(value))
        });
        let named = values.filter(|value| !value.is_empty()).map(name_value);
        named.map(|(name, value)| (name, value.unwrap_or("")))
    }

    /// Where the first of several parameters ends: at a comma outside quotes. Half of all is quoted, so one walk is
    /// sooner there than a search for commas.
    fn end_of_first(text: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            at = match byte {
                b',' => return at,
                b'"' => lex::quoted_end(text, at).unwrap_or(text.len()),
                _ => at + 1,
            };
        }
        text.len()
    }

    fn parts(&self) -> (&'a str, &'a str) {
        let text = lex::trim(self.0);
        let end = text.bytes().position(lex::is_lws).unwrap_or(text.len());
        (&text[..end], text.get(end + 1..).unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_is_read_with_white_space_anywhere() {
        let via =
            Via::parse("SIP  / 2.0  / UDP\r\n  first.example.com : 4000 ; ttl=16\r\n ;branch = z9hG4bKa7")
                .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port, via.branch()),
            ("UDP", "first.example.com", Some(4000), "z9hG4bKa7")
        );
        assert_eq!((via.params.get("TTL"), via.wants_rport()), (Some("16"), false));
    }

    #[test]
    fn a_comment_ends_a_via() {
        let via = Via::parse("SIP/2.0/UDP 192.0.2.1;branch=z9 (Acme; server)").unwrap();
        assert_eq!((via.branch(), via.host), ("z9", "192.0.2.1"));
    }

    #[test]
    fn sent_by_has_the_default_port_of_its_transport() {
        let via = Via::parse("SIP/2.0/TLS [2001:db8::9];rport").unwrap();
        assert_eq!((via.sent_by(), via.wants_rport()), ("[2001:db8::9]:5061".into(), true));
        assert!(via.is_from("[2001:db8::9]:5061".parse().unwrap()));
        assert!(!via.is_from("[2001:db8::9]:5060".parse().unwrap()));
    }

    #[test]
    fn parameters_are_the_same_read_one_way_or_the_other() {
        for text in
            ["", "a", "a;b=1", ";a", "a;", "a;;b", "=x", "a=;b==c=d", "A=1;a=2", "rport;branch=z9", ";"]
        {
            let (plain, walked) = (Params(text), Params(text));
            assert!(plain.are_plain());
            for name in ["a", "b", "rport", "branch", ""] {
                let found = walked.iter().find(|(n, _)| lex::is_same_word(n, name));
                let found = found.map(|(_, value)| value.unwrap_or(""));
                assert_eq!(plain.get(name), found, "{text} {name}");
            }
            let all = |text| lex::split(text, b';').all(|param| !name_value(param).0.is_empty());
            assert_eq!(plain.are_well_formed(), text.is_empty() || all(text), "{text}");
        }
    }

    #[test]
    fn refuses_a_broken_via() {
        for value in ["", "SIP/2.0 a", "SIP/2.0/UDP", "SIP/2.0/UDP ;branch=x", "SIP/2.0/UDP 2001:db8::9:1"] {
            assert!(Via::parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_name_addr_has_display_uri_and_params() {
        let read =
            NameAddr::parse("\"A. \\\"<G>\\\" Bell\"\r\n <sip:a@b;lr?x=y> ; tag = 9;q=0.25;expires=60")
                .unwrap();
        assert_eq!((read.display, read.raw_uri), ("\"A. \\\"<G>\\\" Bell\"", "sip:a@b;lr?x=y"));
        assert_eq!((read.tag(), read.q(), read.expires()), ("9", 250, Some(60)));
    }

    #[test]
    fn parameters_of_a_bare_address_belong_to_the_header() {
        let read = NameAddr::parse("sip:a@b ;tag=x;p=\"<;>\"").unwrap();
        assert_eq!((read.raw_uri, read.tag(), read.params.get("p")), ("sip:a@b", "x", Some("<;>")));
        assert_eq!(NameAddr::parse("Bell, Alexander <sip:a@b>").unwrap().display, "Bell, Alexander");
    }

    #[test]
    fn refuses_what_cannot_be_told_apart() {
        for value in [
            "",
            "<sip:a@b",
            "\"Mr. J <sip:a@b>",
            "<>",
            "\"x\" sip:a@b",
            "<sip:a>, <sip:b>",
            "sip:a@b?Route=x",
            "sip:a b",
        ] {
            assert!(NameAddr::parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn preference_is_in_thousandths() {
        for (text, want) in
            [("1", Some(1000)), ("0.7", Some(700)), ("0.001", Some(1)), (".5", Some(500)), ("1.1", None)]
        {
            assert_eq!(thousandths(text), want, "{text}");
        }
        assert_eq!((thousandths("0.0001"), thousandths("x")), (None, None));
    }

    #[test]
    fn cseq_is_below_two_to_the_31() {
        assert_eq!(CSeq::parse("0009\r\n INVITE").unwrap(), CSeq { number: 9, method: Method::Invite });
        assert!(CSeq::parse("2147483647 ACK").is_ok());
        for value in ["2147483648 ACK", "36893488147419103232 REGISTER", "-1 ACK", "1", "ACK", "1 A B"] {
            assert!(CSeq::parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn digest_parameters_are_read_around_commas_in_quotes() {
        let auth = Auth("Digest username=\"a, b\",realm = \"x\",\r\n nc=00000001, qop=auth");
        assert_eq!(
            (auth.scheme(), auth.get("username"), auth.get("REALM")),
            ("Digest", Some("a, b"), Some("x"))
        );
        assert_eq!((auth.get("nc"), auth.get("opaque")), (Some("00000001"), None));
    }
}
