//! One SIP message: the bytes as they came, and an index of where things are.

use bytes::Bytes;

use super::{CSeq, Edit, NameAddr, Uri, Via};

/// One SIP message. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
}

/// Why bytes are not a SIP message. Knows the status to answer a request with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// 400, 413, 505 …: what RFC 3261 and 4475 ask for; 0: nothing to answer to.
    pub status: u16,
    /// What was seen and what was expected.
    pub why: &'static str,
}

/// A method (RFC 3261 §7.1; extension methods as they are written).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    Invite, Ack, Bye, Cancel, Register, Options, Prack, Update, Info, Refer, Subscribe, Notify, Publish, Message,
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// As written on the wire.
    pub fn as_str(&self) -> &'a str { todo!() }
    /// From the wire: case-sensitive.
    pub fn from_token(token: &'a str) -> Method<'a> { let _ = token; todo!() }
}

/// The headers we know, compact forms folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    Accept, Allow, AllowEvents, Authorization, AuthenticationInfo, CallId, Contact, ContentDisposition, ContentEncoding,
    ContentLength, ContentType, CSeq, Date, Event, Expires, From, HistoryInfo, Identity, MaxForwards, MinExpires,
    MinSe, NodeAuth, PAssertedIdentity, PPreferredIdentity, Path, Privacy, ProxyAuthenticate, ProxyAuthorization,
    ProxyRequire, RAck, RSeq, Reason, RecordRoute, ReferTo, ReferredBy, RelayLeg, RelayNetwork, RelayPeer,
    RelayPolicy, RelaySession, RelayVerdict, Replaces, Require, RetryAfter, Route, Server, ServiceRoute, SessionExpires, Subject,
    SubscriptionState, Supported, To, Unsupported, UserAgent, Via, Warning, WwwAuthenticate,
    /// Any other; compare [`Header::raw_name`].
    Other,
}

impl Name {
    /// The long form, as we write it.
    pub fn as_str(self) -> &'static str { todo!() }
    /// From the wire, any case, long or compact.
    pub fn from_token(token: &[u8]) -> Name { let _ = token; todo!() }
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

impl Message {
    /// Indexes a datagram or a framed message: start line, headers, body cut to Content-Length (RFC 3261 §18.3).
    /// What the index itself cannot make sense of is [`Malformed`]; a header no one looks at may say anything.
    pub fn parse(bytes: Bytes) -> Result<Message, Malformed> { let _ = bytes; todo!() }
    /// As it goes on the wire.
    pub fn bytes(&self) -> &Bytes { &self.bytes }
    /// Request or response.
    pub fn is_request(&self) -> bool { todo!() }
    /// The request's method; for a response, the method in CSeq.
    pub fn method(&self) -> Method<'_> { todo!() }
    /// The response's status code; `None` for requests.
    pub fn status(&self) -> Option<u16> { todo!() }
    /// The response's reason phrase.
    pub fn reason(&self) -> &str { todo!() }
    /// The request URI as written; empty for responses.
    pub fn request_uri(&self) -> &str { todo!() }
    /// The request URI, read.
    pub fn uri(&self) -> Result<Uri<'_>, Malformed> { todo!() }
    /// All header lines in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> { std::iter::empty() }
    /// The first header line of this name, as text (`None` too when it is not UTF-8).
    pub fn text(&self, name: Name) -> Option<&str> { let _ = name; todo!() }
    /// Every value of a header whose values are comma-separated (RFC 3261 §7.3.1), over all its lines, in order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> { let _ = name; std::iter::empty() }
    /// Whether a comma-separated header lists this token (any case): `has_token(Name::Supported, "timer")`.
    pub fn has_token(&self, name: Name, token: &str) -> bool { let _ = (name, token); todo!() }
    /// The body.
    pub fn body(&self) -> &[u8] { todo!() }
    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'_>, Malformed> { todo!() }
    /// All Vias, topmost first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, Malformed>> { std::iter::empty() }
    /// Call-ID; never empty in a parsed message.
    pub fn call_id(&self) -> &str { todo!() }
    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, Malformed> { todo!() }
    /// From.
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> { todo!() }
    /// To.
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> { todo!() }
    /// From tag; "" if there is none.
    pub fn from_tag(&self) -> &str { todo!() }
    /// To tag; "" if there is none.
    pub fn to_tag(&self) -> &str { todo!() }
    /// Contacts; `*` comes as an error of its own in [`Message::contact_star`].
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> { std::iter::empty() }
    /// Whether Contact is `*`.
    pub fn contact_star(&self) -> bool { todo!() }
    /// Route values, topmost first.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, Malformed>> { std::iter::empty() }
    /// Max-Forwards; `None` if absent.
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> { todo!() }
    /// Expires, in seconds (values over 2^32-1 are cut to it); `None` if absent or malformed.
    pub fn expires(&self) -> Option<u32> { todo!() }
    /// The SDP of the body: the body itself when Content-Type is application/sdp, or that part of a multipart body.
    /// The range is within [`Message::body`].
    pub fn sdp(&self) -> Option<(std::ops::Range<usize>, &[u8])> { todo!() }
    /// Begins a set of changes. See [`Edit`].
    pub fn edit(&self) -> Edit<'_> { todo!() }
}
