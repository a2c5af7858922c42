//! Client-initiated connections (RFC 5626): as the registrar that knows a device's flows, and as the edge that a flow ends
//! at when the registrar is somebody else.
//!
//! As an edge we keep nothing: the Path (RFC 3327) that a REGISTER leaves with names the flow it came by, sealed:
//!
//! ```text
//! Path: <sip:TOKEN@203.0.113.1:5060;lr;ob>
//!
//! TOKEN    listener (1) · connection (8)                          a stream
//!          listener (1) · connection (8) · address (4) · port (2) a stream over IPv4: who is there is seen, too
//!          listener (1) · address (4 or 16) · port (2)            UDP
//! ```
//!
//! A request that comes back with it as its Route goes by that very flow, or is answered 430.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proto::node::{Flow, FlowId};
use proto::sip::{Message, Method, Name, NameAddr};
use proto::token::Keys;

use crate::config::Config;

/// The option tag.
pub(crate) const TAG: &str = "outbound";
/// What is sealed here is no token of a dialog.
const PURPOSE: u8 = b'E';
/// No token is shorter.
const SHORTEST: usize = 20;
/// Within so many seconds a device over a stream should show that it is there (RFC 5626 §4.4.1, §6).
const FLOW_TIMER: u32 = 120;

/// Whether a REGISTER asks for outbound: it says so, and one of its Contacts names instance and flow (§4.2).
pub(crate) fn is_asked(request: &Message) -> bool {
    let names_flow = |contact: NameAddr<'_>| {
        contact.params.get("+sip.instance").is_some() && contact.params.get("reg-id").is_some()
    };
    supports(request, TAG) && request.contacts().flatten().any(names_flow)
}

/// Whether the sender knows an extension.
pub(crate) fn supports(request: &Message, tag: &str) -> bool {
    [Name::Supported, Name::Require].iter().any(|&name| request.has_token(name, tag))
}

/// Whether somebody stands between us and the device who does not keep its flow (§6): then 439.
pub(crate) fn first_hop_lacks_it(request: &Message) -> bool {
    let keeps_flow = |path: &str| {
        NameAddr::parse(path).and_then(|path| path.uri()).is_ok_and(|uri| uri.params.get("ob").is_some())
    };
    request.vias().count() > 1 && !request.values(Name::Path).last().is_some_and(keeps_flow)
}

/// What the 200 to such a REGISTER says (§6). Over UDP a NAT sets the pace, not we.
pub(crate) fn granted(request: &Message, flow: &Flow) -> Vec<(Name, String)> {
    if !is_asked(request) {
        return Vec::new();
    }
    let timer = flow.transport.is_reliable().then(|| (Name::FlowTimer, FLOW_TIMER.to_string()));
    [(Name::Require, TAG.to_owned())].into_iter().chain(timer).collect()
}

/// RFC 3608: by which way a device that knows of such things sends its requests: by the listener it registered at.
pub(crate) fn service_route(request: &Message, flow: &Flow, config: &Config) -> Option<(Name, String)> {
    if !supports(request, "path") && !supports(request, TAG) {
        return None;
    }
    let listener = &config.listeners[config.listener_at(flow.transport, flow.local)?];
    Some((
        Name::ServiceRoute,
        format!("<sip:{}{};lr>", listener.advertise, crate::forwarding::faces::param(flow.transport)),
    ))
}

/// Whether a request that leaves is a registration that is to come back by us: the device is our neighbour, and knows
/// what a Path is (RFC 3327 §5.2).
pub(crate) fn wants_path(request: &Message) -> bool {
    request.method() == Method::Register && request.vias().count() == 1 && supports(request, "path")
}

/// The user part that names a flow.
pub(crate) fn seal(flow: &Flow, config: &Config, unix: u64) -> Option<String> {
    let listener = u8::try_from(config.listener_at(flow.transport, flow.local)?).ok()?;
    let mut out = vec![listener];
    if flow.id.is_connection() {
        out.extend(flow.id.0.to_be_bytes());
    }
    match flow.remote.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(_) if flow.id.is_connection() => return Some(config.token_keys.seal(PURPOSE, unix, &out)),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(flow.remote.port().to_be_bytes());
    Some(config.token_keys.seal(PURPOSE, unix, &out))
}

/// The flow that a user part names, if we made it.
pub(crate) fn open(user: &str, config: &Config, unix: u64) -> Option<Flow> {
    if user.len() < SHORTEST {
        return None;
    }
    read(&opened(&config.token_keys, unix, user)?, config)
}

fn opened(keys: &Keys, unix: u64, user: &str) -> Option<Vec<u8>> {
    keys.open(PURPOSE, unix, user)
}

fn read(bytes: &[u8], config: &Config) -> Option<Flow> {
    let (listener, rest) = bytes.split_first()?;
    let listener = config.listeners.get(usize::from(*listener))?;
    let (id, rest) = match listener.transport.is_reliable() {
        true => rest.split_first_chunk::<8>().map(|(id, rest)| (FlowId(u64::from_be_bytes(*id)), rest))?,
        false => (FlowId(0), rest),
    };
    let remote = match rest.len() {
        0 => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        6 => SocketAddr::new(Ipv4Addr::from(*rest.first_chunk::<4>()?).into(), port(rest)?),
        18 => SocketAddr::new(Ipv6Addr::from(*rest.first_chunk::<16>()?).into(), port(rest)?),
        _ => return None,
    };
    Some(Flow { transport: listener.transport, local: listener.bind, remote, id })
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.last_chunk::<2>().map(|port| u16::from_be_bytes(*port))
}
