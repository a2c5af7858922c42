//! One SIP message: the bytes as they came, and an index of where things are.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::index::{Index, Line, scan};
use super::reads::{AddressAt, Once, Reads, UriAt, ViaAt, readable};
use super::{CSeq, Edit, Method, Name, NameAddr, Uri, Via, check, lex, multipart};

/// Why bytes are not a SIP message. Knows the status to answer a request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// 400, 413, 505 …: what RFC 3261 and 4475 ask for; 0: nothing to answer to.
    pub status: u16,
    /// What was seen and what was expected.
    pub why: &'static str,
}

impl Malformed {
    /// 400, and why.
    pub(crate) const fn bad(why: &'static str) -> Malformed {
        Malformed { status: 400, why }
    }
}

/// One header line (folds included).
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Which.
    pub name: Name,
    /// As written.
    pub raw_name: &'a [u8],
    /// Without surrounding white space; folds are inside as they came.
    pub value: &'a [u8],
}

/// One SIP message. Cloning is cheap.
#[derive(Clone)]
pub struct Message {
    pub(super) bytes: Bytes,
    pub(super) index: Arc<Index>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?})", String::from_utf8_lossy(&self.bytes))
    }
}

impl Message {
    /// Indexes a datagram or a framed message: start line, headers, body cut to Content-Length (RFC 3261 §18.3).
    /// What the index itself cannot make sense of is [`Malformed`]; a header no one looks at may say anything.
    ///
    /// A message read this way has one readable From, To, Call-ID and CSeq each and a readable topmost Via, and a
    /// request's CSeq names its method. Line breaks before the start line are dropped (§7.5), and a body longer than
    /// Content-Length is cut; otherwise [`Message::bytes`] are the bytes as they came.
    pub fn parse(bytes: Bytes) -> Result<Message, Malformed> {
        check::parse(bytes)
    }

    /// A request that [`Message::parse`] refused, as far as it can be read, so that it can be answered with the
    /// status of its [`Malformed`]: `None` for responses, ACK, and what lacks a readable Via. The answer copies
    /// whatever else is there (RFC 4475 §3.3.1: a request without From, To and Call-ID is still told so).
    pub fn answerable(bytes: &Bytes) -> Option<Message> {
        check::answerable(bytes)
    }

    /// Bytes and where things are in them.
    pub(super) fn of(bytes: Bytes, mut index: Index) -> Message {
        let head = bytes.slice(..index.head_end as usize);
        index.text = ByteString::try_from(head).unwrap_or_default();
        Message { bytes, index: Arc::new(index) }
    }

    /// Indexes what we wrote ourselves.
    pub(super) fn own(bytes: Bytes) -> Message {
        let (index, _) = scan(&bytes);
        Message::of(bytes, index)
    }

    /// As it goes on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same, and the index is let go.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Request or response.
    pub fn is_request(&self) -> bool {
        self.index.start.status == 0
    }

    /// The request's method; for a response, the method in CSeq.
    pub fn method(&self) -> Method<'_> {
        match self.is_request() {
            true => Method::from_token(self.str(0, self.index.start.first_end)),
            false => self.cseq().map_or(Method::Other(""), |cseq| cseq.method),
        }
    }

    /// The response's status code; `None` for requests.
    pub fn status(&self) -> Option<u16> {
        (!self.is_request()).then_some(self.index.start.status)
    }

    /// The response's reason phrase; "" for requests.
    pub fn reason(&self) -> &str {
        let start = &self.index.start;
        if self.is_request() { "" } else { lex::trim(self.str(start.second.1, start.end)) }
    }

    /// The request URI as written; empty for responses.
    pub fn request_uri(&self) -> &str {
        let (from, to) = self.index.start.second;
        if self.is_request() { self.str(from, to) } else { "" }
    }

    /// The request URI, read.
    pub fn uri(&self) -> Result<Uri<'_>, Malformed> {
        self.index.reads.uri.get_or_read(|| self.read_uri()).map(|at| at.over(self))
    }

    /// All header lines in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.index.lines().iter().map(|line| Header {
            name: line.name,
            raw_name: self.raw_name(line),
            value: self.raw(line),
        })
    }

    /// Whether a header line of this name is there.
    pub fn has(&self, name: Name) -> bool {
        self.index.has(name)
    }

    /// The first header line of this name, as text (`None` too when it is not UTF-8).
    pub fn text(&self, name: Name) -> Option<&str> {
        self.line_text(self.lines(name).next()?)
    }

    /// The value of every header line of this name, as text; lines that are not UTF-8 are left out.
    pub fn texts(&self, name: Name) -> impl Iterator<Item = &str> {
        self.lines(name).filter_map(|line| self.line_text(line))
    }

    /// Every value of a header whose values are comma-separated (RFC 3261 §7.3.1), over all its lines, in order.
    /// Lines that are not UTF-8 are left out.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        list_values(self.lines(name).filter_map(|line| self.line_text(line)).map(Ok::<_, Infallible>))
            .filter_map(Result::ok)
    }

    /// Whether a comma-separated header lists this token (any case): `has_token(Name::Supported, "timer")`.
    pub fn has_token(&self, name: Name, token: &str) -> bool {
        self.has(name) && self.values(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.index.body as usize..).unwrap_or(b"")
    }

    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'_>, Malformed> {
        self.index.reads.via.get_or_read(|| self.read_via()).map(|at| at.over(self))
    }

    /// All Vias, topmost first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, Malformed>> {
        let mut values = self.addresses(Name::Via);
        let topmost = values.next().map(|_| self.via());
        topmost.into_iter().chain(values.map(|value| Via::parse(value?)))
    }

    /// Call-ID; never empty in a parsed message.
    pub fn call_id(&self) -> &str {
        self.text(Name::CallId).unwrap_or("")
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, Malformed> {
        CSeq::parse(self.text(Name::CSeq).ok_or(Malformed::bad("CSeq is missing"))?)
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address_in_from().map(|at| at.over(self))
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> {
        self.address_in_to().map(|at| at.over(self))
    }

    /// From tag; "" if there is none.
    pub fn from_tag(&self) -> &str {
        self.address_in_from().map_or("", |at| at.tag(self))
    }

    /// To tag; "" if there is none.
    pub fn to_tag(&self) -> &str {
        self.address_in_to().map_or("", |at| at.tag(self))
    }

    /// Contacts; `*` comes as an error of its own in [`Message::contact_star`].
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        let values = self.addresses(Name::Contact).filter(|value| *value != Ok("*"));
        values.map(|value| NameAddr::parse(value?))
    }

    /// Whether Contact is `*`.
    pub fn contact_star(&self) -> bool {
        self.values(Name::Contact).any(|value| value == "*")
    }

    /// Route values, topmost first.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.name_addrs(Name::Route)
    }

    /// Every address of a header whose values are a list of them: Record-Route, Path, Service-Route …
    pub fn name_addrs(&self, name: Name) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> {
        self.addresses(name).map(|value| NameAddr::parse(value?))
    }

    /// Max-Forwards; `None` if absent.
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        let Some(line) = self.lines(Name::MaxForwards).next() else { return Ok(None) };
        let number = self.line_text(line).and_then(lex::decimal);
        number.map(Some).ok_or(Malformed::bad("Max-Forwards is not a number from 0 to 255"))
    }

    /// Expires, in seconds (values over 2^32-1 are cut to it); `None` if absent or malformed.
    pub fn expires(&self) -> Option<u32> {
        lex::decimal_saturating(self.text(Name::Expires)?)
    }

    /// The SDP of the body: the body itself when Content-Type is application/sdp, or that part of a multipart body.
    /// The range is within [`Message::body`].
    pub fn sdp(&self) -> Option<(Range<usize>, &[u8])> {
        let range = multipart::sdp(self.text(Name::ContentType)?, self.body())?;
        Some((range.clone(), self.body().get(range)?))
    }

    /// Where in [`Message::body`] contents of this media type stand: the body itself, or parts of a multipart one.
    pub fn parts(&self, media_type: &str) -> Vec<Range<usize>> {
        let content_type = self.text(Name::ContentType).unwrap_or_default();
        multipart::all(media_type, content_type, self.body())
    }

    /// Begins a set of changes. See [`Edit`].
    pub fn edit(&self) -> Edit<'_> {
        Edit::new(self)
    }

    /// The index entries of this name.
    pub(super) fn lines(&self, name: Name) -> impl Iterator<Item = &Line> + Clone {
        let lines = if self.index.has(name) { self.index.lines() } else { &[] };
        lines.iter().filter(move |line| line.name == name)
    }

    /// A line's name as written.
    pub(super) fn raw_name(&self, line: &Line) -> &[u8] {
        &self.bytes[line.at as usize..][..usize::from(line.name_len)]
    }

    /// A line's value.
    pub(super) fn raw(&self, line: &Line) -> &[u8] {
        &self.bytes[line.value as usize..line.value_end as usize]
    }

    fn address_in_from(&self) -> Result<AddressAt, Malformed> {
        self.index.reads.from.get_or_read(|| self.read_address(Name::From))
    }

    fn address_in_to(&self) -> Result<AddressAt, Malformed> {
        self.index.reads.to.get_or_read(|| self.read_address(Name::To))
    }

    /// Reads what everybody asks for, in a message that nobody else has yet; says what can't be read.
    pub(super) fn read_early(&mut self) -> Result<(), Malformed> {
        let (from, to) = (self.read_address(Name::From)?, self.read_address(Name::To)?);
        let (uri, via) = (self.read_uri(), self.read_via()?);
        via.check()?;
        if self.is_request() {
            uri?.check()?;
        }
        if let Some(index) = Arc::get_mut(&mut self.index) {
            let (from, to, via) = (Once::of(Ok(from)), Once::of(Ok(to)), Once::of(Ok(via)));
            index.reads = Reads { uri: Once::of(uri), from, to, via };
        }
        Ok(())
    }

    fn read_uri(&self) -> Result<UriAt, Malformed> {
        Uri::parse(self.request_uri()).map(|uri| UriAt::of(&self.bytes, &uri))
    }

    fn read_via(&self) -> Result<ViaAt, Malformed> {
        let first = self.addresses(Name::Via).next().unwrap_or(Err(Malformed::bad("Via is missing")));
        first.and_then(Via::parse).map(|via| ViaAt::of(&self.bytes, &via))
    }

    /// The one address of From or To.
    fn read_address(&self, name: Name) -> Result<AddressAt, Malformed> {
        let missing = if name == Name::To { "To is missing" } else { "From is missing" };
        let line = self.lines(name).next().ok_or(Malformed::bad(missing))?;
        Ok(AddressAt::of(&self.bytes, &NameAddr::parse(self.readable(line)?)?))
    }

    /// List values over all lines; a line that cannot be read is an error in its place.
    fn addresses(&self, name: Name) -> impl Iterator<Item = Result<&str, Malformed>> {
        list_values(self.lines(name).map(|line| self.readable(line)))
    }

    /// A piece of the head as text, when it is.
    pub(super) fn text_of(&self, piece: Range<usize>) -> Option<&str> {
        let all = self.index.text.get(piece.clone());
        all.or_else(|| std::str::from_utf8(self.bytes.get(piece)?).ok())
    }

    /// A line's value as text, when it is.
    pub(super) fn line_text(&self, line: &Line) -> Option<&str> {
        self.text_of(line.value as usize..line.value_end as usize)
    }

    fn readable(&self, line: &Line) -> Result<&str, Malformed> {
        self.line_text(line).map_or_else(|| readable(self.raw(line)), Ok)
    }

    fn str(&self, from: u32, to: u32) -> &str {
        self.text_of(from as usize..to as usize).unwrap_or("")
    }
}

/// The comma-separated values of some texts, one after the other; an error stands in its text's place.
fn list_values<'a, E>(
    mut texts: impl Iterator<Item = Result<&'a str, E>>,
) -> impl Iterator<Item = Result<&'a str, E>> {
    let mut values = None;
    std::iter::from_fn(move || {
        loop {
            if let Some(value) = values.as_mut().and_then(Iterator::next) {
                return Some(Ok(value));
            }
            match texts.next()? {
                Ok(text) => values = Some(lex::list(text)),
                Err(bad) => return Some(Err(bad)),
            }
        }
    })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
