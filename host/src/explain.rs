//! A call in plain words: what was seen, which rule decided, what was chosen, and what to do if that is not wanted.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proto::event::{CallEnded, EndedBy, Event, LegQuality, MediaDecided, Name, OneWay, Rule, Side, Sighting};
use proto::tables::{Anchor, Latch};
use serde_json::{Value, json};

use crate::history::CallRecord;

/// The story of a call, line by line.
pub fn story(call: &CallRecord) -> Vec<String> {
    let mut lines = vec![format!("call {}", call.call)];
    if let Some((from, to)) = &call.parties {
        lines.push(format!("  from {from} to {to}"));
    }
    lines.extend(call.turns.iter().filter_map(turn));
    for decided in &call.decisions {
        lines.extend(media(decided));
    }
    if call.decisions.is_empty() {
        lines.push("  media: nothing was decided: no session description passed".into());
    }
    lines.extend(call.setup.map(|setup| format!("  answered after {}", seconds(setup))));
    lines.extend(call.heard.iter().flat_map(heard));
    lines.push(call.ended.as_ref().map_or("  still going on".into(), end));
    lines
}

/// One line for `postern calls`.
pub fn line(call: &CallRecord) -> String {
    let (from, to) = call.parties.as_ref().map_or(("?", "?"), |(from, to)| (from, to));
    let anchored = if call.decisions.iter().any(|decided| decided.anchored) { "relayed" } else { "direct" };
    let state = match (&call.ended, call.setup) {
        (Some(ended), _) if ended.status < 300 => format!("ended after {}", seconds(ended.duration)),
        (Some(ended), _) => format!("failed with {}", ended.status),
        (None, Some(_)) => "talking".into(),
        (None, None) => "ringing".into(),
    };
    format!("{}  {from} → {to}  {anchored}  {state}{}", call.call, sound(call))
}

fn turn(event: &Event) -> Option<String> {
    match event {
        Event::Refused { method, status, why, .. } => {
            Some(format!("  {method} was refused with {status}: {why}"))
        }
        Event::Redirected { target: Some(target), .. } => {
            Some(format!("  the redirect server says that {target} serves the callee"))
        }
        Event::Redirected { status, .. } => Some(format!("  the redirect server knows nobody ({status})")),
        _ => None,
    }
}

fn media(decided: &MediaDecided) -> Vec<String> {
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

/// What a relay heard, or did not.
fn heard(event: &Event) -> Vec<String> {
    match event {
        Event::LegLatched { leg, from, rebound: false, .. } => {
            vec![format!("  relay: hears the {} from {from}", name(*leg))]
        }
        Event::LegLatched { leg, from, .. } => {
            vec![format!("  relay: the {} moved to {from}, and proved it", name(*leg))]
        }
        Event::LegSilent { leg, silent, .. } => {
            vec![format!("  relay: heard nothing from the {} for {}", name(*leg), seconds(*silent))]
        }
        Event::OneWay { silent, since, cause, .. } => one_way(*silent, *since, *cause),
        Event::StrangerDropped { leg, from, expected, latch, .. } => vec![
            format!("  relay: dropped packets from {from}: the {} was expected from {expected}", name(*leg)),
            format!("    {}", may_be(*latch)),
        ],
        Event::RelayReleased { legs, .. } => [Side::Caller, Side::Callee]
            .iter()
            .zip(legs.iter())
            .map(|(side, leg)| quality(*side, leg))
            .collect(),
        _ => Vec::new(),
    }
}

/// What to do when the stranger is the party after all.
fn may_be(latch: Latch) -> &'static str {
    match latch {
        Latch::Strict => {
            "if that is the party: it sends media from another address than its signalling; set `latch: prefix`"
        }
        Latch::Prefix => "if that is the party: set `latch: any` for this user or trunk",
        Latch::Any => "somebody else had been heard first",
    }
}

/// Audio in one direction only, while it happens: why, most likely, and what to do.
fn one_way(silent: Side, since: Duration, cause: OneWay) -> Vec<String> {
    let (silent, heard, since) = (name(silent), name(silent.other()), seconds(since));
    let why = match cause {
        OneWay::NowhereToSend => format!(
            "the {silent}'s session description names no address that can be reached, and it waits to hear something: \
             let it send first (keep-alives, comfort noise), or correct the address it names"
        ),
        OneWay::Strangers => {
            format!("packets came from where the {silent} is not expected: see the dropped ones above")
        }
        OneWay::Nothing => {
            format!("nothing ever came from the {silent}: it sends none, or a firewall on its side stops it")
        }
        OneWay::Stopped => format!("the {silent} was heard before: it is muted, or its path broke"),
    };
    vec![
        format!("  relay: one-way audio: the {heard} is heard and the {silent} is not, for {since}"),
        format!("    {why}"),
    ]
}

fn quality(side: Side, leg: &LegQuality) -> String {
    let side = name(side);
    if leg.packets == 0 {
        return format!(
            "  relay: nothing ever came from the {side}: its phone sends no media, or a firewall on its side stops it"
        );
    }
    let mos = if leg.mos == 0 { String::new() } else { format!(", MOS {:.1}", f32::from(leg.mos) / 100.0) };
    let jitter = millis(leg.jitter_us);
    let mut line = format!(
        "  relay: from the {side} {} packets, {} lost, {} late, jitter {jitter:.1} ms{mos}, {} from strangers",
        leg.packets, leg.lost, leg.reordered, leg.strangers
    );
    let mut also = |words: String, there: bool| {
        if there {
            line += &format!(", {words}")
        }
    };
    also(leg.codec.to_owned(), !leg.codec.is_empty());
    also(format!("{} lost in a row", leg.burst), leg.burst > 1);
    also(format!("{} digits", leg.digits), leg.digits > 0);
    also(format!("{:.0} ms away and back", millis(leg.round_trip_us)), leg.round_trip_us > 0);
    also(format!("it missed {} itself", leg.reported_lost), leg.reported_lost > 0);
    line
}

fn millis(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1000.0
}

/// The same for programs.
fn quality_value(leg: &LegQuality) -> Value {
    json!({
        "packets": leg.packets,
        "bytes": leg.bytes,
        "lost": leg.lost,
        "burst": leg.burst,
        "late": leg.reordered,
        "jitter_ms": millis(leg.jitter_us),
        "round_trip_ms": (leg.round_trip_us > 0).then(|| millis(leg.round_trip_us)),
        "mos": (leg.mos > 0).then(|| f64::from(leg.mos) / 100.0),
        "codec": leg.codec,
        "digits": leg.digits,
        "strangers": leg.strangers,
        "reported_lost": leg.reported_lost,
        "reported_jitter_ms": millis(leg.reported_jitter_us),
        "first_packet_ms": leg.heard.map(|[first, _]| first.as_millis() as u64),
        "last_packet_ms": leg.heard.map(|[_, last]| last.as_millis() as u64),
    })
}

/// How the parties' media was, by relay session that has ended.
fn qualities(call: &CallRecord) -> Vec<Value> {
    let ended = call.heard.iter().filter_map(|event| match event {
        Event::RelayReleased { session, legs, .. } => Some((session, legs)),
        _ => None,
    });
    let value = |(session, legs): (&Name, &Box<[LegQuality; 2]>)| json!({ "session": &**session, "caller": quality_value(&legs[0]), "callee": quality_value(&legs[1]) });
    ended.map(value).collect()
}

/// What `postern calls` says of a call's media: its scores, and that one party was not heard.
fn sound(call: &CallRecord) -> String {
    let one_way = call.heard.iter().any(|event| matches!(event, Event::OneWay { .. }));
    let scores = call.heard.iter().rev().find_map(|event| match event {
        Event::RelayReleased { legs, .. } if legs.iter().any(|leg| leg.mos > 0) => Some(legs),
        _ => None,
    });
    let score = |leg: &LegQuality| {
        if leg.mos == 0 { "-".to_owned() } else { format!("{:.1}", f32::from(leg.mos) / 100.0) }
    };
    let scores = scores.map(|legs| format!("  MOS {}/{}", score(&legs[0]), score(&legs[1])));
    format!("{}{}", scores.unwrap_or_default(), if one_way { "  one-way audio" } else { "" })
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
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

fn end(ended: &CallEnded) -> String {
    let by = match ended.by {
        EndedBy::Caller => "the caller",
        EndedBy::Callee => "the callee",
        EndedBy::Silence => "us: no media came from either side",
        EndedBy::Timeout => "us: it took too long",
        EndedBy::Us => "us",
    };
    match ended.status {
        ..300 => format!("  ended by {by} after {}", seconds(ended.duration)),
        status => format!("  failed with {status}, ended by {by}"),
    }
}

fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f32())
}

/// The same for programs.
pub fn value(call: &CallRecord) -> Value {
    let decisions: Vec<Value> = call.decisions.iter().map(decision_value).collect();
    let begun = call.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    json!({
        "call": &*call.call,
        "from": call.parties.as_ref().map(|(from, _)| from.to_string()),
        "to": call.parties.as_ref().map(|(_, to)| to.to_string()),
        "begun_ms": begun,
        "setup_ms": call.setup.map(|setup| setup.as_millis() as u64),
        "decisions": decisions,
        "heard": call.heard.iter().flat_map(heard).map(|line| line.trim().to_owned()).collect::<Vec<_>>(),
        "quality": qualities(call),
        "ended": call.ended.as_ref().map(|ended| json!({
            "status": ended.status,
            "duration_ms": ended.duration.as_millis() as u64,
            "by": format!("{:?}", ended.by).to_lowercase(),
            "anchored": ended.anchored,
        })),
    })
}

fn decision_value(decided: &MediaDecided) -> Value {
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

#[cfg(test)]
mod tests {
    use proto::node::Transport;

    use super::*;

    #[test]
    fn an_anchored_call_names_what_was_seen_the_rule_and_the_relay() {
        let decided = MediaDecided {
            call: "c1".into(),
            side: Side::Caller,
            seen: [party("203.0.113.9:40000", &["10.0.0.5"]), Sighting::Unknown],
            anchor: Anchor::Auto,
            rule: Rule::SourceDiffers,
            anchored: true,
            session: Some("s1".into()),
            relay: Some(["198.51.100.1:30000".parse().unwrap(), "198.51.100.1:30002".parse().unwrap()]),
        };
        let call = CallRecord {
            call: "c1".into(),
            parties: Some(("alice@a".into(), "bob@b".into())),
            begun: SystemTime::UNIX_EPOCH,
            setup: Some(Duration::from_millis(1500)),
            decisions: vec![decided],
            turns: Vec::new(),
            heard: vec![Event::StrangerDropped {
                session: "s1".into(),
                leg: Side::Callee,
                from: "192.0.2.66:9".parse().unwrap(),
                expected: "192.0.2.7".parse().unwrap(),
                latch: Latch::Strict,
            }],
            ended: None,
        };
        let story = story(&call).join("\n");
        for words in [
            "203.0.113.9:40000",
            "10.0.0.5",
            "a NAT is between",
            "198.51.100.1:30002",
            "answered after 1.5 s",
            "192.0.2.66:9",
            "expected from 192.0.2.7",
            "latch: prefix",
        ] {
            assert!(story.contains(words), "{words} is missing in\n{story}");
        }
    }

    fn party(at: &str, sdp: &[&str]) -> Sighting {
        let sdp = sdp.iter().map(|ip| ip.parse().unwrap()).collect();
        Sighting::Party { at: at.parse().unwrap(), transport: Transport::Udp, sdp }
    }

    #[track_caller]
    fn reads(rule: Rule, side: Side, seen: [Sighting; 2], words: &str) {
        let direct = matches!(rule, Rule::BothPublic | Rule::SameNetwork | Rule::DecidedTooLate);
        let decided = MediaDecided {
            call: "c1".into(),
            side,
            seen,
            anchor: Anchor::Auto,
            rule,
            anchored: !direct,
            session: None,
            relay: None,
        };
        let lines: Vec<String> = media(&decided).iter().map(|line| line.trim().to_owned()).collect();
        let words: Vec<&str> = words.trim().lines().map(str::trim).collect();
        assert_eq!(lines, words);
    }

    #[test]
    fn two_phones_in_one_network() {
        reads(
            Rule::SameNetwork,
            Side::Callee,
            [party("127.0.0.1:51328", &["127.0.0.1"]), party("127.0.0.1:51444", &[])],
            "media: directly
             caller: signals from 127.0.0.1:51328 over UDP, and its session description names 127.0.0.1
             callee: is met at 127.0.0.1:51444 over UDP, and had not answered yet
             rule: both parties are in the same network
             if nobody was heard: a firewall is between them; set `anchor: always` for one of them",
        );
    }

    #[test]
    fn a_caller_behind_a_nat_and_a_callee_elsewhere() {
        reads(
            Rule::UnreachableAddress,
            Side::Caller,
            [party("203.0.113.9:40000", &["10.0.0.5"]), Sighting::BySibling(None)],
            "media: through a relay
             caller: signals from 203.0.113.9:40000 over UDP, and its session description names 10.0.0.5
             callee: at another proxy of ours
             rule: the caller names an address that can't be reached from outside",
        );
    }

    #[test]
    fn a_callee_behind_a_nat() {
        reads(
            Rule::SignsOfNat,
            Side::Callee,
            [party("198.51.100.7:5060", &["198.51.100.7"]), party("203.0.113.9:40000", &[])],
            "media: through a relay
             caller: signals from 198.51.100.7:5060 over UDP, and its session description names 198.51.100.7
             callee: is met at 203.0.113.9:40000 over UDP, and had not answered yet
             rule: addresses match, but Via or Contact of the callee show a NAT",
        );
    }

    #[test]
    fn a_caller_that_another_proxy_has_anchored() {
        reads(
            Rule::SiblingDecided,
            Side::Caller,
            [Sighting::BySibling(Some("203.0.113.9".parse().unwrap())), party("192.0.2.7:5060", &[])],
            "media: through a relay
             caller: at another proxy of ours, which sees it at 203.0.113.9
             callee: is met at 192.0.2.7:5060 over UDP, and had not answered yet
             rule: another proxy of ours had anchored the caller: its relay session serves both",
        );
    }

    #[test]
    fn an_offer_that_comes_late() {
        reads(
            Rule::NoSdp,
            Side::Caller,
            [party("198.51.100.7:5060", &[]), party("192.0.2.7:5060", &[])],
            "media: through a relay
             caller: signals from 198.51.100.7:5060 over UDP, and named no address for media (a late offer, or a hold)
             callee: is met at 192.0.2.7:5060 over UDP, and had not answered yet
             rule: there was no address to compare with where the caller is seen",
        );
    }

    #[test]
    fn a_trunk_and_a_phone_on_the_lan() {
        reads(
            Rule::PrivateToPublic,
            Side::Caller,
            [party("192.168.1.20:5060", &["192.168.1.20"]), party("203.0.113.20:5060", &[])],
            "media: through a relay
             caller: signals from 192.168.1.20:5060 over UDP, and its session description names 192.168.1.20
             callee: is met at 203.0.113.20:5060 over UDP, and had not answered yet
             rule: one party is in a private network, the other outside",
        );
    }

    #[test]
    fn an_answer_that_came_too_late() {
        reads(
            Rule::DecidedTooLate,
            Side::Callee,
            [party("198.51.100.7:5060", &["198.51.100.7"]), party("192.0.2.7:5060", &["192.168.7.7"])],
            "media: directly
             caller: signals from 198.51.100.7:5060 over UDP, and its session description names 198.51.100.7
             callee: is met at 192.0.2.7:5060 over UDP, and its session description names 192.168.7.7
             rule: only the answer showed that a relay is needed, too late for this call
             if nobody was heard: call again; this callee is anchored from now on",
        );
    }
}
