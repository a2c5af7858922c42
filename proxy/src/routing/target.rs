//! From a URI to paths: which flows a request may take, best first (RFC 3263, RFC 3261 §16.6 step 7).

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use proto::node::{Flow, FlowId, Question, Transport, literal};
use proto::sip::{Scheme, Uri};
use proto::tables::Binding;

use crate::config::{Config, NextHop};

/// Where a URI or next hop leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hops {
    /// These flows, best first; empty: no listener of ours can go there.
    Ready(Vec<Flow>),
    /// A name is involved; give the answer to [`resolved`].
    Ask(Question),
}

/// The next hop a URI names: of a Route (`maddr`, `transport`, port and host), or a request URI.
pub fn of_uri(uri: &Uri<'_>, config: &Config) -> Hops {
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return Hops::Ready(Vec::new());
    }
    let host = uri.params.get("maddr").filter(|maddr| !maddr.is_empty()).unwrap_or(uri.host);
    // A transport we have no word for (RFC 3261 §19.1.1 lets anybody invent one) is one we can't go by.
    if uri.params.get("transport").is_some() && uri.transport().is_none() {
        return Hops::Ready(Vec::new());
    }
    hops(host, uri.port, uri.transport(), uri.scheme == Scheme::Sips, config)
}

/// The next hop of a static route.
pub fn of_next_hop(next: &NextHop, config: &Config) -> Hops {
    hops(&next.host, next.port, next.transport, false, config)
}

/// The flows for what the resolver found, in its order; those no listener of ours can reach are left out.
pub fn resolved(targets: &[(Transport, SocketAddr)], config: &Config) -> Vec<Flow> {
    targets.iter().filter_map(|&(transport, remote)| path_to(transport, remote, config)).collect()
}

/// The bindings a request may go to now, the most wanted first. Those whose time is over or that answer no keep-alive
/// are left out; if none of the others is left, the unreachable ones are tried after all, for a keep-alive may be wrong.
pub fn by_preference(bindings: &[Binding], wall: SystemTime) -> Vec<&Binding> {
    let live = || bindings.iter().filter(|binding| binding.is_live(wall));
    let mut chosen: Vec<_> = live().filter(|binding| !binding.is_unreachable()).collect();
    if chosen.is_empty() {
        chosen = live().collect();
    }
    chosen.sort_by_key(|binding| std::cmp::Reverse(binding.q));
    chosen
}

fn hops(host: &str, port: Option<u16>, transport: Option<Transport>, secure: bool, config: &Config) -> Hops {
    match literal(host) {
        Some(ip) => Hops::Ready(of_address(ip, port, transport, secure, config)),
        None => Hops::Ask(Question::Resolve { host: host.to_string(), port, transport, secure }),
    }
}

/// RFC 3263 §4.1 for an address: the transport that is named, else UDP, or TLS for `sips:`. Where we have no UDP
/// listener TCP is as good a guess.
fn of_address(
    ip: IpAddr,
    port: Option<u16>,
    transport: Option<Transport>,
    secure: bool,
    config: &Config,
) -> Vec<Flow> {
    let guesses: &[Transport] = match (transport, secure) {
        (None | Some(Transport::Udp | Transport::Tcp | Transport::Tls), true) => &[Transport::Tls],
        (Some(Transport::Ws | Transport::Wss), true) => &[Transport::Wss],
        (None, false) => &[Transport::Udp, Transport::Tcp],
        (Some(named), false) => &[named],
    };
    let to = |transport: Transport| SocketAddr::new(ip, port.unwrap_or(transport.default_port()));
    guesses.iter().find_map(|&transport| path_to(transport, to(transport), config)).into_iter().collect()
}

/// The path by the listener that stands towards `remote`. Port 0 is nobody's.
pub(crate) fn path_to(transport: Transport, remote: SocketAddr, config: &Config) -> Option<Flow> {
    let listener = config.listener_towards(transport, remote)?;
    let local = config.listeners.get(listener)?.bind;
    (remote.port() != 0).then_some(Flow { transport, local, remote, id: FlowId(0) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Listener, Network};
    use crate::tests::testing::{address, binding, config, udp};

    fn of(uri: &str) -> Hops {
        of_uri(&Uri::parse(uri).unwrap(), &config())
    }

    fn path(transport: Transport, remote: &str) -> Hops {
        Hops::Ready(vec![Flow { transport, ..udp(remote) }])
    }

    fn ask(host: &str, port: Option<u16>, transport: Option<Transport>, secure: bool) -> Hops {
        Hops::Ask(Question::Resolve { host: host.into(), port, transport, secure })
    }

    #[test]
    fn an_address_is_a_path_by_udp_and_the_default_port() {
        assert_eq!(of("sip:bob@192.0.2.9"), path(Transport::Udp, "192.0.2.9:5060"));
        assert_eq!(of("sip:bob@192.0.2.9:5080"), path(Transport::Udp, "192.0.2.9:5080"));
    }

    #[test]
    fn the_transport_parameter_decides() {
        assert_eq!(of("sip:bob@192.0.2.9;transport=TCP"), path(Transport::Tcp, "192.0.2.9:5060"));
        assert_eq!(of("sip:bob@192.0.2.9;transport=tls"), Hops::Ready(vec![]), "no such listener");
        assert_eq!(of("sip:bob@192.0.2.9;transport=sctp"), Hops::Ready(vec![]), "no such transport");
    }

    #[test]
    fn sips_goes_by_tls_or_not_at_all() {
        assert_eq!(of("sips:bob@192.0.2.9"), Hops::Ready(vec![]));
        let mut config = config();
        config.listeners[1].transport = Transport::Tls;
        let hops = of_uri(&Uri::parse("sips:bob@192.0.2.9;transport=tcp").unwrap(), &config);
        assert_eq!(hops, path(Transport::Tls, "192.0.2.9:5061"));
    }

    #[test]
    fn maddr_is_where_it_goes() {
        assert_eq!(of("sip:bob@example.net;maddr=192.0.2.9"), path(Transport::Udp, "192.0.2.9:5060"));
    }

    #[test]
    fn a_name_is_asked_with_all_that_the_uri_fixes() {
        assert_eq!(of("sip:bob@b.example"), ask("b.example", None, None, false));
        let fixed = of("sips:bob@b.example:5999;transport=tcp");
        assert_eq!(fixed, ask("b.example", Some(5999), Some(Transport::Tcp), true));
    }

    #[test]
    fn what_is_no_sip_uri_leads_nowhere() {
        assert_eq!(of("tel:+4930123"), Hops::Ready(vec![]));
        assert_eq!(of("sip:bob@192.0.2.9:0"), Hops::Ready(vec![]));
    }

    #[test]
    fn without_a_udp_listener_tcp_is_tried() {
        let mut config = config();
        config.listeners.remove(0);
        let hops = of_uri(&Uri::parse("sip:bob@192.0.2.9").unwrap(), &config);
        assert_eq!(hops, path(Transport::Tcp, "192.0.2.9:5060"));
    }

    #[test]
    fn a_static_route_goes_where_it_says() {
        let next = |host: &str| NextHop { host: host.into(), port: Some(5070), transport: None };
        assert_eq!(of_next_hop(&next("192.0.2.9"), &config()), path(Transport::Udp, "192.0.2.9:5070"));
        assert_eq!(of_next_hop(&next("pbx.lan"), &config()), ask("pbx.lan", Some(5070), None, false));
    }

    #[test]
    fn each_network_is_reached_from_the_listener_that_stands_in_it() {
        let mut config = config();
        let network = |name: &str, cidr: &str| Network {
            name: name.into(),
            cidrs: vec![cidr.parse().unwrap()],
            hides: false,
        };
        config.networks = vec![network("outside", "0.0.0.0/0"), network("inside", "10.0.0.0/8")];
        let inside = address("10.0.0.1:5060");
        config.listeners.push(Listener { network: 1, bind: inside, ..config.listeners[0].clone() });
        let from = |remote| resolved(&[(Transport::Udp, address(remote))], &config)[0].local;
        assert_eq!(from("10.1.1.1:5060"), inside);
        assert_eq!(from("192.0.2.9:5060"), address("203.0.113.1:5060"));
    }

    #[test]
    fn what_was_resolved_keeps_its_order_without_what_we_cannot_reach() {
        let found = [
            (Transport::Tls, address("192.0.2.1:5061")),
            (Transport::Tcp, address("192.0.2.2:5060")),
            (Transport::Udp, address("[2001:db8::1]:5060")),
            (Transport::Udp, address("192.0.2.3:5060")),
        ];
        let remotes: Vec<_> = resolved(&found, &config()).into_iter().map(|flow| flow.remote).collect();
        assert_eq!(remotes, [address("192.0.2.2:5060"), address("192.0.2.3:5060")]);
    }

    fn contacts(bindings: &[Binding], now: SystemTime) -> Vec<&str> {
        by_preference(bindings, now).into_iter().map(|binding| binding.contact.as_str()).collect()
    }

    #[test]
    fn the_most_wanted_binding_comes_first() {
        let now = SystemTime::UNIX_EPOCH;
        let with = |contact: &str, q| Binding { q, ..binding(contact, now + Duration::from_secs(60)) };
        assert_eq!(contacts(&[with("a", 100), with("b", 1000), with("c", 100)], now), ["b", "a", "c"]);
    }

    #[test]
    fn bindings_that_are_over_or_unreachable_are_left_out_unless_nothing_else_is_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let live = |contact| binding(contact, now + Duration::from_secs(60));
        let lost = Binding { unanswered: 3, ..live("lost") };
        let over = binding("over", now);
        assert_eq!(contacts(&[lost.clone(), over.clone(), live("here")], now), ["here"]);
        assert_eq!(contacts(&[lost, over], now), ["lost"]);
    }
}
