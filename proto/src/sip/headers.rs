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
        let mut plain = self.plain();
        let found = plain.find(|(n, value)| {
            n.len() == name.len() && n.eq_ignore_ascii_case(name) && !(n.is_empty() && value.is_none())
        });
        let found =
            found.or_else(|| self.iter().find(|(n, _)| plain.is_cut_short && lex::is_same_word(n, name)));
        found.map(|(_, value)| value.unwrap_or(""))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        lex::list_of(self.0, b';').map(name_value)
    }

    /// Those of a plain list, empty ones included.
    pub(super) fn plain(&self) -> Plain<'a> {
        Plain { rest: Some(self.0).filter(|all| !all.is_empty()), is_cut_short: false }
    }

    /// Whether each has a name (`;;` and `;=x` are not parameters), and the value of one of them.
    fn well_formed_and(&self, name: &str) -> (bool, Option<&'a str>) {
        let (mut plain, mut all_named, mut found) = (self.plain(), true, None);
        for (n, value) in &mut plain {
            all_named &= !n.is_empty();
            if found.is_none() && n.eq_ignore_ascii_case(name) {
                found = Some(value.unwrap_or(""));
            }
        }
        if plain.is_cut_short {
            all_named = lex::split(self.0, b';').all(|param| !name_value(param).0.is_empty());
            found = self.get(name);
        }
        (all_named, found)
    }
}

/// Parameters of a list as long as nothing is quoted, bracketed, escaped, commented or spaced, as in nearly all: then each
/// semicolon and each first equals sign counts, and nothing else does.
pub(super) struct Plain<'a> {
    rest: Option<&'a str>,
    /// There are more of them, to be read with more care.
    pub(super) is_cut_short: bool,
}

impl<'a> Iterator for Plain<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        static OF_NOTE: lex::ByteSet = lex::ByteSet::blank_and(b"\"<(%;=");
        let text = self.rest.take()?;
        let (mut end, mut equals) = (0, None);
        while let Some(&byte) = text.as_bytes().get(end) {
            match byte {
                _ if !OF_NOTE.has(byte) => {}
                b';' => break,
                b'=' => equals = equals.or(Some(end)),
                _ => {
                    self.is_cut_short = true;
                    return None;
                }
            }
            end += 1;
        }
        self.rest = text.get(end + 1..);
        Some((&text[..equals.unwrap_or(end)], equals.map(|at| &text[at + 1..end])))
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
    /// Whether each parameter has a name.
    pub(super) is_well_formed: bool,
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
        let (is_well_formed, branch) = params.well_formed_and("branch");
        Ok(Via { transport, host, port, params, branch: branch.unwrap_or(""), is_well_formed })
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
        if value.starts_with('<') {
            return NameAddr::bracketed(value, 0);
        }
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
        match Method::from_token(lex::trim(method)) {
            Method::Other(word) if !lex::is_token_word(word.as_bytes()) => Err(BAD),
            method => Ok(CSeq { number, method }),
        }
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
        std::iter::from_fn(move || {
            loop {
                let text = rest?;
                if let Some((name, value, after)) = Self::plain(text) {
                    rest = after.get(1..);
                    return Some((name, value));
                }
                let (value, after) = text.split_at(Self::end_of_first(text.as_bytes()));
                rest = after.get(1..);
                let value = lex::trim(value);
                if !value.is_empty() {
                    let (name, value) = name_value(value);
                    return Some((name, value.unwrap_or("")));
                }
            }
        })
    }

    /// The first parameter, its value, and what is behind it, where all is written as nearly everybody does: `name="value"` or
    /// `name=token`, after a space or nothing.
    fn plain(text: &str) -> Option<(&str, &str, &str)> {
        let text = text.strip_prefix(' ').unwrap_or(text);
        let (name, value) = text.split_at(lex::near(b'=', text.as_bytes())?);
        let value = &value[1..];
        let (value, after, is_plain) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (inside, after) = quoted.split_at(lex::near(b'"', quoted.as_bytes())?);
                (inside, &after[1..], lex::near(b'\\', inside.as_bytes()).is_none())
            }
            None => {
                let end = lex::near(b',', value.as_bytes()).unwrap_or(value.len());
                let (word, after) = value.split_at(end);
                (word, after, lex::is_token_word(word.as_bytes()))
            }
        };
        let ends = after.is_empty() || after.starts_with(',');
        (is_plain && ends && lex::is_token_word(name.as_bytes())).then_some((name, value, after))
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
#[path = "headers_tests.rs"]
mod tests;
