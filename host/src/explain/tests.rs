//! Stories as an operator reads them.

use proto::node::Transport;

use proto::event::{LegQuality, Live, MediaDecided, OneWay, Rule, Sighting, Sound};
use proto::icmp::Unreachable;
use proto::tables::{Anchor, Latch};

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
        now: Vec::new(),
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
    let lines: Vec<String> = decision::story(&decided).iter().map(|line| line.trim().to_owned()).collect();
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

/// A call that is going on, anchored, with its media as it is now.
fn going_on(caller: Sound, callee: Sound) -> CallRecord {
    CallRecord {
        call: "c1".into(),
        parties: Some(("alice@a".into(), "bob@b".into())),
        begun: SystemTime::UNIX_EPOCH,
        setup: Some(Duration::from_secs(1)),
        decisions: Vec::new(),
        turns: Vec::new(),
        heard: Vec::new(),
        now: vec![Live { session: "s1".into(), parties: [caller, callee] }],
        ended: None,
    }
}

fn heard() -> Sound {
    Sound {
        quality: LegQuality {
            packets: 600,
            codec: "PCMU",
            mos: 438,
            jitter_us: 1200,
            ..LegQuality::default()
        },
        quiet: Some(Duration::from_millis(20)),
        from: Some("192.0.2.1:4000".parse().unwrap()),
        to: Some("192.0.2.1:4000".parse().unwrap()),
        ..Sound::default()
    }
}

#[test]
fn a_call_without_audio_says_why_while_it_goes_on() {
    let silent = |trouble| Sound { to: heard().to, trouble: Some(trouble), ..Sound::default() };
    let call = going_on(heard(), silent(OneWay::Nothing));
    let story = story(&call);
    let now: Vec<&str> =
        story.iter().map(|line| line.trim()).skip_while(|line| !line.starts_with("now:")).collect();
    assert_eq!(
        now,
        [
            "now: the caller: heard from 192.0.2.1:4000, last 0.0 s ago, sent to at 192.0.2.1:4000",
            "600 packets, 0 lost, 0 late, jitter 1.2 ms, MOS 4.4, 0 from strangers, PCMU",
            "now: the callee: nothing has come yet, sent to at 192.0.2.1:4000",
            "the caller can't hear it: nothing ever came from the callee: it sends none, or a firewall on its side stops it",
            "still going on",
        ]
    );
    assert!(
        line(&call).ends_with("talking  now one-way audio: the callee can't be heard"),
        "{}",
        line(&call)
    );
    assert_eq!(value(&call)["now"][0]["callee"]["trouble"], "nothing");
    assert_eq!(value(&call)["now"][0]["caller"]["trouble"], Value::Null);
}

#[test]
fn every_cause_reads_as_a_sentence_and_both_sides_are_named() {
    let told = |cause| {
        let story = story(&going_on(Sound { trouble: Some(cause), ..heard() }, heard()));
        story.iter().find(|line| line.contains("can't hear it")).cloned().unwrap_or_default()
    };
    for (cause, words) in [
        (OneWay::NowhereToSend, "no address that can be reached"),
        (OneWay::Strangers, "where the caller is not expected"),
        (OneWay::Stopped, "was heard before"),
        (OneWay::DigitsOnly, "nothing but digits"),
        (OneWay::Codec(18), "payload type 18, which the callee did not list"),
        (
            OneWay::Undelivered(Unreachable::Port),
            "goes on to the callee and is not delivered (ICMP: port unreachable)",
        ),
        (
            OneWay::Gone(Unreachable::Host),
            "nothing comes from the caller, and what is sent to it is not delivered",
        ),
        (OneWay::Unreceived, "goes on to the callee, whose RTCP reports say that nothing arrives"),
    ] {
        assert!(told(cause).contains(words), "{cause:?}: {}", told(cause));
    }
    let both = going_on(
        Sound { trouble: Some(OneWay::Nothing), ..Sound::default() },
        Sound { trouble: Some(OneWay::Nothing), ..Sound::default() },
    );
    assert!(line(&both).ends_with("talking  now no audio"), "{}", line(&both));
    assert!(
        story(&going_on(Sound { held: true, ..heard() }, heard()))
            .iter()
            .any(|line| line.ends_with("on hold"))
    );
}
