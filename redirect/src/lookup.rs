//! INVITE: who serves the callee (RFC 3261 §8.3, §16.5 from the other end).

use std::net::SocketAddr;
use std::time::SystemTime;

use proto::node::{Transport, literal};
use proto::sip::{Builder, Message, Name, Scheme, Uri, reply};
use proto::tables::{Binding, Tables};

use crate::refusal::{Refusal, refusal};

/// The next hops towards a callee, the preferred one first. Never empty.
#[derive(Debug)]
pub(crate) struct Found {
    hops: Vec<Binding>,
}

/// The address of record a request is for.
pub(crate) fn address_of_record(request: &Message) -> Result<String, Refusal> {
    let uri = request.uri().map_err(|_| refusal(400, "the request URI can't be read"))?;
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return Err(refusal(416, "the request URI is not a SIP URI"));
    }
    uri.aor().ok_or(refusal(404, "the request URI names no user"))
}

/// Who serves `aor`, leaving out the asker: it asks because it doesn't.
pub(crate) fn look_up(
    aor: &str,
    request: &Message,
    wall: SystemTime,
    tables: &dyn Tables,
) -> Result<Found, Refusal> {
    let bindings = tables.bindings(aor);
    let known = !bindings.is_empty() || tables.owner(aor).is_some();
    let secure = request.uri().is_ok_and(|uri| uri.scheme == Scheme::Sips);
    let asker = request.via().map(|via| via.sent_by()).unwrap_or_default();
    let may_serve =
        |b: &Binding| b.is_live(wall) && !is_at(&b.contact, &asker) && (!secure || is_secure(&b.contact));
    let mut hops: Vec<Binding> = bindings.into_iter().filter(may_serve).collect();
    hops.sort_by_key(|hop| (std::cmp::Reverse((hop.q, hop.expires)), hop.contact.clone()));
    match (hops.is_empty(), known) {
        (false, _) => Ok(Found { hops }),
        (true, true) => Err(refusal(480, "known, but nobody serves it now")),
        (true, false) => Err(refusal(404, "nobody ever said to serve it")),
    }
}

impl Found {
    /// The 302. Preferences are written when there is a choice.
    pub(crate) fn reply(&self, request: &Message, to_tag: &str) -> Builder {
        let choice = self.hops.len() > 1;
        self.hops.iter().fold(reply(request, 302, to_tag), |response, hop| {
            let q = if choice { format!(";q={}", q_value(hop.q)) } else { String::new() };
            response.header(Name::Contact, format_args!("<{}>{q}", with_lr(&hop.contact)))
        })
    }

    /// The first hop's address, when it is one.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        let uri = Uri::parse(&self.hops.first()?.contact).ok()?;
        Some(SocketAddr::new(literal(uri.host)?, port(&uri)))
    }
}

/// `0.7`, in thousandths on our side.
pub(crate) fn q_value(thousandths: u16) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Whether a URI names this `host:port`.
pub(crate) fn is_at(uri: &str, host_port: &str) -> bool {
    let here = |uri: Uri<'_>| format!("{}:{}", uri.host, port(&uri)).eq_ignore_ascii_case(host_port);
    Uri::parse(uri).is_ok_and(here)
}

fn is_secure(uri: &str) -> bool {
    let secure =
        |uri: Uri<'_>| uri.scheme == Scheme::Sips || uri.transport().is_some_and(Transport::is_secure);
    Uri::parse(uri).is_ok_and(secure)
}

fn port(uri: &Uri<'_>) -> u16 {
    let usual = if uri.scheme == Scheme::Sips { Transport::Tls } else { Transport::Udp };
    uri.port.unwrap_or(uri.transport().unwrap_or(usual).default_port())
}

/// A next hop is routed through, not to: `lr`, whether the proxy wrote it or not.
fn with_lr(uri: &str) -> String {
    match Uri::parse(uri) {
        Ok(parsed) if !parsed.has_lr() => match uri.split_once('?') {
            Some((uri, headers)) => format!("{uri};lr?{headers}"),
            None => format!("{uri};lr"),
        },
        _ => uri.to_owned(),
    }
}
