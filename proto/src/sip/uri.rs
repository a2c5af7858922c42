//! URIs: sip, sips, tel, urn and whatever else stands in angle brackets (RFC 3261 §19.1, RFC 3966).

use super::{Malformed, Params};
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
pub enum Scheme { Sip, Sips, Tel, Other }

impl<'a> Uri<'a> {
    /// Reads a URI (without angle brackets).
    pub fn parse(raw: &'a str) -> Result<Uri<'a>, Malformed> { let _ = raw; todo!() }
    /// `transport` parameter, if known.
    pub fn transport(&self) -> Option<Transport> { todo!() }
    /// Loose routing.
    pub fn has_lr(&self) -> bool { todo!() }
    /// `user@host`, canonical: user unescaped where it need not be escaped, host lower case, port and parameters
    /// left out (RFC 3261 §10.3 step 5). `None` when there is no user or no host.
    pub fn aor(&self) -> Option<String> { todo!() }
    /// Comparison by RFC 3261 §19.1.4.
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool { let _ = other; todo!() }
}
