//! Why media went as it did: what was seen of both parties, and the rule that decided.

use std::net::IpAddr;

use proto::event::{MediaDecided, Rule, Side, Sighting};
use proto::tables::Anchor;
use serde_json::{Value, json};

use super::name;

pub(super) fn story(decided: &MediaDecided) -> Vec<String> {
    let chosen = if decided.anchored { "through a relay" } else { "directly" };
    let mut lines = vec![format!("  media: {chosen}")];
    lines.extend(
        [Side::Caller, Side::Callee]
            .into_iter()
            .zip(&decided.seen)
            .map(|(side, seen)| sighted(side, seen, decided.rule)),
    );
    lines.push(format!("    rule: {}", because(decided)));
    if let Some([caller, callee]) = decided.relay {
        lines.push(format!("    relay: {caller} towards the caller, {callee} towards the callee"));
    }
    lines.extend(remedy(decided).map(|words| format!("    {words}")));
    lines
}

/// What was seen of a party, in a line.
fn sighted(side: Side, seen: &Sighting, rule: Rule) -> String {
    let party = name(side);
    match (seen, side) {
        (Sighting::Party { at, transport, sdp }, Side::Caller) => {
            format!("    {party}: signals from {at} over {}{}", transport.via(), described(side, sdp, rule))
        }
        (Sighting::Party { at, transport, sdp }, Side::Callee) => {
            format!("    {party}: is met at {at} over {}{}", transport.via(), described(side, sdp, rule))
        }
        (Sighting::BySibling(Some(ip)), _) => {
            format!("    {party}: at another proxy of ours, which sees it at {ip}")
        }
        (Sighting::BySibling(None), _) => format!("    {party}: at another proxy of ours"),
        (Sighting::Unknown, _) => format!("    {party}: not looked for yet"),
    }
}

fn described(side: Side, sdp: &[IpAddr], rule: Rule) -> String {
    let named: Vec<String> = sdp.iter().map(ToString::to_string).collect();
    match (side, rule) {
        // Configuration had settled it before anybody looked.
        (_, Rule::ConfiguredNever) => String::new(),
        _ if !named.is_empty() => format!(", and its session description names {}", named.join(", ")),
        (Side::Caller, _) => ", and named no address for media (a late offer, or a hold)".into(),
        (Side::Callee, _) => ", and had not answered yet".into(),
    }
}

/// The rule in words.
fn because(decided: &MediaDecided) -> String {
    let side = name(decided.side);
    let words = match decided.rule {
        Rule::SourceDiffers => {
            return format!(
                "the {side} is seen elsewhere than its session description says: a NAT is between"
            );
        }
        Rule::UnreachableAddress => {
            return format!("the {side} names an address that can't be reached from outside");
        }
        Rule::SignsOfNat => return format!("addresses match, but Via or Contact of the {side} show a NAT"),
        Rule::BothPublic if decided.seen.iter().any(|seen| matches!(seen, Sighting::BySibling(_))) => {
            return format!(
                "the {side} has a public address, and nothing shows a NAT; its counterpart is judged by its own proxy"
            );
        }
        Rule::ConfiguredNever => "the configuration says `anchor: never`, or names no relay",
        Rule::ConfiguredAlways => "the configuration says `anchor: always`",
        Rule::SiblingDecided => {
            "another proxy of ours had anchored the caller: its relay session serves both"
        }
        Rule::PrivateToPublic => "one party is in a private network, the other outside",
        Rule::Hidden => {
            "one party is in a network with `hide-topology`, and is not to see the other's address"
        }
        Rule::SameNetwork => "both parties are in the same network",
        Rule::BothPublic => "both parties have public addresses, and nothing shows a NAT",
        Rule::SameNat => {
            "both parties are behind the same public address, and their NAT may not let them meet"
        }
        Rule::FamiliesDiffer => "one party speaks IPv4, the other IPv6",
        Rule::Ice => "the offer has ICE candidates",
        Rule::Unknown => "too little is known of the callee to be sure",
        Rule::DecidedTooLate => "only the answer showed that a relay is needed, too late for this call",
        Rule::Sticky => "the dialog was anchored already, and stays so",
        Rule::KeysDiffer => "the parties protect their media differently (`srtp`): the relay stands between",
        Rule::NoSdp => "there was no address to compare with where the caller is seen",
    };
    words.into()
}

/// What to do when this is not what was wanted.
fn remedy(decided: &MediaDecided) -> Option<&'static str> {
    match (decided.rule, decided.anchor) {
        (Rule::DecidedTooLate, _) => {
            Some("if nobody was heard: call again; this callee is anchored from now on")
        }
        (Rule::ConfiguredNever, _) => {
            Some("if nobody was heard: set `anchor: auto` for this listener, trunk or user")
        }
        (Rule::SameNat, Anchor::Auto) => Some("if they share a LAN: set `proxy.same-nat: direct`"),
        (Rule::BothPublic | Rule::SameNetwork, _) => {
            Some("if nobody was heard: a firewall is between them; set `anchor: always` for one of them")
        }
        _ => None,
    }
}

pub(super) fn value(decided: &MediaDecided) -> Value {
    json!({
        "side": name(decided.side),
        "caller": sighting_value(&decided.seen[0]),
        "callee": sighting_value(&decided.seen[1]),
        "rule": format!("{:?}", decided.rule),
        "because": because(decided),
        "anchored": decided.anchored,
        "relay": decided.relay,
        "remedy": remedy(decided),
    })
}

fn sighting_value(seen: &Sighting) -> Value {
    match seen {
        Sighting::Party { at, transport, sdp } => {
            json!({ "at": at, "transport": transport.uri_param(), "sdp": sdp })
        }
        Sighting::BySibling(peer) => json!({ "sibling": true, "at": peer }),
        Sighting::Unknown => Value::Null,
    }
}
