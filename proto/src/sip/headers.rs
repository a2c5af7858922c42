//! Typed, lazy reads of header values.

use std::net::SocketAddr;

use super::{Malformed, Method, Uri};
use crate::node::Transport;

/// `;name=value` parameters, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(pub &'a str);

impl<'a> Params<'a> {
    /// A parameter's value (unquoted slice: quotes removed, escapes left); `Some("")` when it has none.
    pub fn get(&self, name: &str) -> Option<&'a str> { let _ = name; todo!() }
    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> { std::iter::empty() }
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
}

impl<'a> Via<'a> {
    /// The branch; "" if there is none.
    pub fn branch(&self) -> &'a str { todo!() }
    /// Whether `rport` is there (RFC 3581).
    pub fn wants_rport(&self) -> bool { todo!() }
    /// Known transport, if it is one.
    pub fn known_transport(&self) -> Option<Transport> { todo!() }
    /// Sent-by as `host:port`, the port written or the transport's default.
    pub fn sent_by(&self) -> String { todo!() }
    /// Whether sent-by is exactly this address (default port filled in).
    pub fn is_from(&self, source: SocketAddr) -> bool { let _ = source; todo!() }
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
    /// Reads one value.
    pub fn parse(value: &'a str) -> Result<NameAddr<'a>, Malformed> { let _ = value; todo!() }
    /// The URI, read.
    pub fn uri(&self) -> Result<Uri<'a>, Malformed> { todo!() }
    /// `tag`; "" if there is none.
    pub fn tag(&self) -> &'a str { todo!() }
    /// `q` in thousandths; 1000 if absent.
    pub fn q(&self) -> u16 { todo!() }
    /// `expires`, in seconds.
    pub fn expires(&self) -> Option<u32> { todo!() }
}

/// CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// 0 – 2^31-1.
    pub number: u32,
    /// The method it names.
    pub method: Method<'a>,
}

/// `Digest name=value, …` of the four authentication headers (RFC 7616).
#[derive(Clone, Copy, Debug)]
pub struct Auth<'a>(pub &'a str);

impl<'a> Auth<'a> {
    /// `Digest`, as written.
    pub fn scheme(&self) -> &'a str { todo!() }
    /// A parameter, quotes removed.
    pub fn get(&self, name: &str) -> Option<&'a str> { let _ = name; todo!() }
}
