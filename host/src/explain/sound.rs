//! Whom a relay hears, how well, and why not: while it happens ([`now`]), and as it was told of.

use std::time::Duration;

use proto::event::{Event, LegQuality, Live, Name, OneWay, Side, Sound};
use proto::icmp::Unreachable;
use proto::tables::Latch;
use serde_json::{Value, json};

use super::{name, seconds};
use crate::history::CallRecord;

/// What a relay heard, or did not.
pub(super) fn heard(event: &Event) -> Vec<String> {
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
        Event::OneWay { silent, since, cause, other_heard, .. } => {
            one_way(*silent, *since, *cause, *other_heard)
        }
        Event::Undelivered { leg, to, why, times, .. } => vec![format!(
            "  relay: what is sent to the {} at {to} is not delivered (ICMP: {}, {times} so far)",
            name(*leg),
            why.words()
        )],
        Event::Flood { leg, over: true, dropped, .. } => {
            vec![format!(
                "  relay: the flood at the port of the {} is over: {dropped} packets were kept out",
                name(*leg)
            )]
        }
        Event::Flood { leg, from, .. } => vec![format!(
            "  relay: the port of the {} is flooded, from {from} for one: what is not its party's is dropped in the kernel",
            name(*leg)
        )],
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

/// That a party can't be heard, while it happens: why, most likely, and what to do.
fn one_way(silent: Side, since: Duration, cause: OneWay, other_heard: bool) -> Vec<String> {
    let (party, other, since) = (name(silent), name(silent.other()), seconds(since));
    let what = match other_heard {
        true => format!("one-way audio: the {other} is heard and the {party} is not, for {since}"),
        false => format!("the {party} is not heard, for {since}"),
    };
    vec![format!("  relay: {what}"), format!("    {}", because(silent, cause))]
}

fn because(silent: Side, cause: OneWay) -> String {
    let (party, other) = (name(silent), name(silent.other()));
    match cause {
        OneWay::NowhereToSend => format!(
            "the {party}'s session description names no address that can be reached, and it waits to hear something: \
             let it send first (keep-alives, comfort noise), or correct the address it names"
        ),
        OneWay::Strangers => {
            format!("packets came from where the {party} is not expected: see the dropped ones above")
        }
        OneWay::Ambiguous => format!(
            "packets came that might be the {party}'s or another call's from the same address, and all calls share the relay's \
             ports (`mode: one-port`): give it more `relay.ports`, or let phones behind one NAT send ICE or a=ssrc"
        ),
        OneWay::Nothing => {
            format!("nothing ever came from the {party}: it sends none, or a firewall on its side stops it")
        }
        OneWay::Stopped => format!("the {party} was heard before: it is muted, or its path broke"),
        OneWay::DigitsOnly => {
            format!("nothing but digits or comfort noise comes from the {party}: it is muted")
        }
        OneWay::Codec(number) => format!(
            "the {party} sends payload type {number}, which the {other} did not list: they agreed on no codec, or the \
             {party} keeps to one of its own"
        ),
        OneWay::Unreceived => format!(
            "what the {party} sends goes on to the {other}, whose RTCP reports say that nothing arrives: a firewall or NAT \
             on the {other}'s side stops it, or it was sent to a wrong address"
        ),
        OneWay::Undelivered(why) => format!(
            "what the {party} sends goes on to the {other} and is not delivered (ICMP: {}): the {other} {}",
            why.words(),
            lost(why)
        ),
        OneWay::Gone(why) => format!(
            "nothing comes from the {party}, and what is sent to it is not delivered (ICMP: {}): it {}",
            why.words(),
            lost(why)
        ),
    }
}

/// What an ICMP error most likely means.
fn lost(why: Unreachable) -> &'static str {
    match why {
        Unreachable::Port => {
            "has closed the port it named or was heard from: its program ended, or its NAT is another now"
        }
        Unreachable::Host | Unreachable::Network => {
            "has lost its network, or named an address that is nowhere"
        }
        Unreachable::Prohibited => "is behind a firewall that lets no media in",
    }
}

/// How a session is at this moment.
pub(super) fn now(live: &Live) -> Vec<String> {
    let lines = [Side::Caller, Side::Callee].into_iter().zip(&live.parties);
    lines.flat_map(|(side, sound)| now_of(side, sound)).collect()
}

fn now_of(side: Side, sound: &Sound) -> Vec<String> {
    let party = name(side);
    let to =
        sound.to.map_or(", and there is no address to send to".into(), |to| format!(", sent to at {to}"));
    let from = match (sound.quiet, sound.from) {
        (Some(quiet), Some(from)) => format!("heard from {from}, last {} ago{to}", seconds(quiet)),
        _ => format!("nothing has come yet{to}"),
    };
    let hold = if sound.held { ", on hold" } else { "" };
    let mut lines = vec![format!("  now: the {party}: {from}{hold}")];
    if sound.quality.packets > 0 {
        lines.push(format!("    {}", figures(&sound.quality)));
    }
    if let Some(cause) = sound.trouble {
        lines.push(format!("    the {} can't hear it: {}", name(side.other()), because(side, cause)));
    }
    lines
}

/// The same for programs.
pub(super) fn now_value(live: &Live) -> Value {
    let of = |sound: &Sound| {
        let mut value = quality_value(&sound.quality);
        value["held"] = sound.held.into();
        value["quiet_ms"] = sound.quiet.map(|quiet| quiet.as_millis() as u64).into();
        value["from"] = sound.from.map(|from| from.to_string()).into();
        value["to"] = sound.to.map(|to| to.to_string()).into();
        value["trouble"] = sound.trouble.map(word).into();
        value
    };
    json!({ "session": &*live.session, "caller": of(&live.parties[0]), "callee": of(&live.parties[1]) })
}

fn word(cause: OneWay) -> &'static str {
    match cause {
        OneWay::NowhereToSend => "nowhere-to-send",
        OneWay::Strangers => "strangers",
        OneWay::Ambiguous => "ambiguous",
        OneWay::Nothing => "nothing",
        OneWay::Stopped => "stopped",
        OneWay::DigitsOnly => "digits-only",
        OneWay::Codec(_) => "codec",
        OneWay::Unreceived => "unreceived",
        OneWay::Undelivered(_) => "undelivered",
        OneWay::Gone(_) => "gone",
    }
}

fn quality(side: Side, leg: &LegQuality) -> String {
    let side = name(side);
    if leg.packets == 0 {
        return format!(
            "  relay: nothing ever came from the {side}: its phone sends no media, or a firewall on its side stops it"
        );
    }
    format!("  relay: from the {side} {}", figures(leg))
}

fn figures(leg: &LegQuality) -> String {
    let mos = if leg.mos == 0 { String::new() } else { format!(", MOS {:.1}", f32::from(leg.mos) / 100.0) };
    let jitter = millis(leg.jitter_us);
    let mut line = format!(
        "{} packets, {} lost, {} late, jitter {jitter:.1} ms{mos}, {} from strangers",
        leg.packets, leg.lost, leg.reordered, leg.strangers
    );
    let mut also = |words: String, there: bool| {
        if there {
            line += &format!(", {words}")
        }
    };
    also(format!("{} of them dropped in the kernel", leg.kept_out), leg.kept_out > 0);
    also(leg.codec.to_owned(), !leg.codec.is_empty());
    also(format!("{} lost in a row", leg.burst), leg.burst > 1);
    also(format!("{} digits", leg.digits), leg.digits > 0);
    also(format!("{:.0} ms away and back", millis(leg.round_trip_us)), leg.round_trip_us > 0);
    also(format!("it missed {} itself", leg.reported_lost), leg.reported_lost > 0);
    also(format!("{} for it not delivered", leg.undelivered), leg.undelivered > 0);
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
        "dropped_in_kernel": leg.kept_out,
        "undelivered": leg.undelivered,
        "reported_lost": leg.reported_lost,
        "reported_jitter_ms": millis(leg.reported_jitter_us),
        "first_packet_ms": leg.heard.map(|[first, _]| first.as_millis() as u64),
        "last_packet_ms": leg.heard.map(|[_, last]| last.as_millis() as u64),
    })
}

/// How the parties' media was, by relay session that has ended.
pub(super) fn qualities(call: &CallRecord) -> Vec<Value> {
    let ended = call.heard.iter().filter_map(|event| match event {
        Event::RelayReleased { session, legs, .. } => Some((session, legs)),
        _ => None,
    });
    let value = |(session, legs): (&Name, &Box<[LegQuality; 2]>)| json!({ "session": &**session, "caller": quality_value(&legs[0]), "callee": quality_value(&legs[1]) });
    ended.map(value).collect()
}

/// What `postern calls` says of a call's media: its scores, and who can't be heard, or could not.
pub(super) fn in_short(call: &CallRecord) -> String {
    let told = call.ended.is_some() && call.heard.iter().any(|event| matches!(event, Event::OneWay { .. }));
    let unheard =
        call.now.iter().flat_map(|live| [Side::Caller, Side::Callee].into_iter().zip(&live.parties));
    let unheard: Vec<&str> =
        unheard.filter(|(_, sound)| sound.trouble.is_some()).map(|(side, _)| name(side)).collect();
    let trouble = match (&unheard[..], told) {
        ([], true) => "  one-way audio".to_owned(),
        ([], false) => String::new(),
        ([silent], _) => format!("  now one-way audio: the {silent} can't be heard"),
        _ => "  now no audio".to_owned(),
    };
    let scores = call.heard.iter().rev().find_map(|event| match event {
        Event::RelayReleased { legs, .. } if legs.iter().any(|leg| leg.mos > 0) => Some(legs),
        _ => None,
    });
    let score = |leg: &LegQuality| {
        if leg.mos == 0 { "-".to_owned() } else { format!("{:.1}", f32::from(leg.mos) / 100.0) }
    };
    let scores = scores.map(|legs| format!("  MOS {}/{}", score(&legs[0]), score(&legs[1])));
    format!("{}{trouble}", scores.unwrap_or_default())
}
