//! From a URI to paths: which flows a request may take, best first (RFC 3263, RFC 3261 §16.6 step 7).

use std::net::{IpAddr, SocketAddr};

use proto::node::{Flow, FlowId, Question, Transport, literal};
use proto::sip::{Scheme, Uri};

use crate::config::{Config, NextHop};

/// Where a URI or next hop leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hops {
    /// These flows, best first; empty: no listener of ours can go there.
    Ready(Vec<Flow>),
    /// A name is involved; give the answer to [`resolved`].
    Ask(Question),
}

/// What RFC 3263 §4 looks at.
struct Wanted<'a> {
    host: &'a str,
    port: Option<u16>,
    transport: Option<Transport>,
    secure: bool,
}

/// The next hop a URI names: of a Route (`maddr`, `transport`, port and host), or a request URI.
pub fn of_uri(uri: &Uri<'_>, config: &Config) -> Hops {
    let secure = uri.scheme == Scheme::Sips;
    let host = uri.params.get("maddr").filter(|maddr| !maddr.is_empty()).unwrap_or(uri.host);
    find(Wanted { host, port: uri.port, transport: uri.transport(), secure }, config)
}

/// The next hop of a static route.
pub fn of_next_hop(next: &NextHop, config: &Config) -> Hops {
    find(Wanted { host: &next.host, port: next.port, transport: next.transport, secure: false }, config)
}

/// The flows for what the resolver found, in its order; those no listener of ours can reach are left out.
pub fn resolved(targets: &[(Transport, SocketAddr)], config: &Config) -> Vec<Flow> {
    targets.iter().filter_map(|&(transport, remote)| flow(transport, remote, config)).collect()
}

fn find(wanted: Wanted<'_>, config: &Config) -> Hops {
    match literal(wanted.host) {
        Some(ip) => Hops::Ready(at_address(ip, &wanted, config).into_iter().collect()),
        None if wanted.host.is_empty() => Hops::Ready(Vec::new()),
        None => Hops::Ask(Question::Resolve {
            host: wanted.host.to_owned(),
            port: wanted.port,
            transport: wanted.transport,
            secure: wanted.secure,
        }),
    }
}

/// An address needs no resolver (§4.1: UDP unless the URI says otherwise or is `sips:`; TCP where no socket of ours
/// speaks UDP).
fn at_address(ip: IpAddr, wanted: &Wanted<'_>, config: &Config) -> Option<Flow> {
    let transports: &[Transport] = match (wanted.transport, wanted.secure) {
        (Some(Transport::Ws), true) => &[Transport::Wss],
        (Some(transport), false) => &[transport],
        (_, true) => &[Transport::Tls],
        (None, false) => &[Transport::Udp, Transport::Tcp],
    };
    transports.iter().find_map(|&transport| {
        let port = wanted.port.unwrap_or(transport.default_port());
        flow(transport, SocketAddr::new(ip, port), config)
    })
}

fn flow(transport: Transport, remote: SocketAddr, config: &Config) -> Option<Flow> {
    let listener = config.listener_towards(transport, remote)?;
    let local = config.listeners.get(listener)?.bind;
    Some(Flow { transport, local, remote, id: FlowId(0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{address, config};

    fn ready(uri: &str) -> Vec<(Transport, SocketAddr)> {
        match of_uri(&Uri::parse(uri).unwrap(), &config()) {
            Hops::Ready(flows) => flows.iter().map(|flow| (flow.transport, flow.remote)).collect(),
            Hops::Ask(question) => panic!("asks {question:?}"),
        }
    }

    #[test]
    fn an_address_means_udp_and_the_default_port_unless_it_says_otherwise() {
        assert_eq!(ready("sip:bob@192.0.2.7"), [(Transport::Udp, address("192.0.2.7:5060"))]);
        assert_eq!(ready("sip:192.0.2.7:7;transport=tcp"), [(Transport::Tcp, address("192.0.2.7:7"))]);
        assert_eq!(ready("sip:a.example;maddr=192.0.2.8"), [(Transport::Udp, address("192.0.2.8:5060"))]);
    }

    #[test]
    fn where_no_listener_can_go_there_is_no_path() {
        assert_eq!(ready("sips:bob@192.0.2.7"), []);
        assert_eq!(ready("sip:bob@[2001:db8::1]"), []);
    }

    #[test]
    fn a_name_is_asked_about_with_what_the_uri_fixes() {
        let uri = Uri::parse("sip:bob@b.example:5070;transport=tcp").unwrap();
        let question = Question::Resolve {
            host: "b.example".into(),
            port: Some(5070),
            transport: Some(Transport::Tcp),
            secure: false,
        };
        assert_eq!(of_uri(&uri, &config()), Hops::Ask(question));
    }
}
