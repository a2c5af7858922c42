//! Calls of system 1 told in the simulated world, from socket to socket, each with its ladder or its verdict.

use std::net::SocketAddr;
use std::time::Duration;

use conformance::cast::{Cast, Plot, SITES, alice_calls, without_chance};
use conformance::world::{Entry, INTERNET, Link, Mute, NodeId, Rules};
use endpoint_sim::{Act, After, Answer, EndedBy, Phone, Step};
use proto::event::{Event, OneWay, Side};
use proto::icmp::Unreachable;
use proto::node::Transport;
use proto::sdp::Sdp;
use proto::sip::{Message, Name};

const SECOND: Duration = Duration::from_secs(1);

/// The call, from its first INVITE to a second after its last BYE, CANCEL or ACK: what comes before and after is the
/// same in every story.
fn ladder(cast: &Cast) -> String {
    let titled = |entry: &&Entry, words: &[&str]| {
        entry.title().is_some_and(|title| words.iter().any(|word| title.starts_with(word)))
    };
    let mut packets = cast.world.packets().iter();
    let begin = packets.find(|e| titled(e, &["INVITE"])).map_or(Duration::ZERO, |entry| entry.at);
    let end = packets.rfind(|e| titled(e, &["BYE", "CANCEL", "ACK"])).map_or(begin, |entry| entry.at);
    without_chance(&cast.world.ladder_of(begin..=end + SECOND))
}

#[test]
fn a_call_through_two_firewalls() {
    let cast = Plot::default().play();
    cast.assert_audio_both_ways();
    cast.assert_no_media_to_strangers();
    insta::assert_snapshot!(ladder(&cast));
}

/// SYSTEMS §1, acceptance 1a: relay response, then redirect request, then forward; each side sees only the relay.
#[test]
fn the_steps_of_the_claim_come_in_order() {
    let cast = Plot { sites: [Some(Rules::PORT_RESTRICTED), None], ..Plot::default() }.play();
    let steps = [
        cast.place(cast.alice, cast.p1, "INVITE"),
        cast.place(cast.p1, cast.relay, "INVITE"),
        cast.place(cast.relay, cast.p1, "200 INVITE"),
        cast.place(cast.p1, cast.redirect, "INVITE"),
        cast.place(cast.redirect, cast.p1, "302 INVITE"),
        cast.place(cast.p1, cast.p2, "INVITE"),
        cast.place(cast.p2, cast.p1, "200 INVITE"),
        cast.place(cast.p1, cast.alice, "200 INVITE"),
    ];
    assert!(steps.is_sorted(), "{steps:?}\n{}", ladder(&cast));
    assert!(!cast.heard_by(cast.bob, "10.0.0.2:40000") && !cast.heard_by(cast.bob, "IN IP4 10.0.0.2"));
    assert!(!cast.heard_by(cast.alice, "IN IP4 192.0.2.20"));
    cast.assert_audio_both_ways();
}

#[test]
fn every_pair_of_nats_has_audio_both_ways() {
    for (a, alice) in SITES {
        for (b, bob) in SITES {
            let cast = Plot { sites: [alice, bob], ..Plot::default() }.play();
            cast.assert_audio_both_ways();
            cast.assert_no_media_to_strangers();
            let relayed = !cast.relay_ports().is_empty();
            assert_eq!(relayed, (a, b) != ("none", "none"), "{a} to {b}\n{}", ladder(&cast));
            assert!(!cast.heard_by(cast.bob, "IN IP4 10.0.0.2") || alice.is_none(), "{a} to {b}");
            assert!(!cast.heard_by(cast.alice, "IN IP4 10.0.0.2") || bob.is_none(), "{a} to {b}");
        }
    }
}

/// Acceptance 1c.
#[test]
fn two_public_phones_talk_directly_and_the_relay_hears_nothing() {
    let cast = Plot { sites: [None, None], ..Plot::default() }.play();
    assert!(!cast.world.packets().iter().any(|entry| entry.receiver() == Some(cast.relay)));
    cast.assert_audio_both_ways();
    insta::assert_snapshot!(ladder(&cast));
}

#[test]
fn a_call_survives_thirty_percent_loss_on_both_lines() {
    for seed in 1..=5 {
        let mut plot = Plot { seed, ..Plot::default() };
        plot.alice.steps[1].at_ms = 40_000;
        let mut cast = plot.begin();
        for host in cast.hosts {
            *cast.world.link(host) = Link { loss: 300, jitter: Duration::from_millis(4), ..Link::default() };
        }
        cast.until_alice_is_done();
        cast.assert_clean();
        cast.assert_audio_both_ways();
        assert_eq!(cast.report(cast.alice).call_status, Some(200), "seed {seed}\n{}", ladder(&cast));
    }
}

#[test]
fn a_forked_call_is_cancelled_where_nobody_answered() {
    let mut cast = Plot::default().begin();
    let mobile = cast.add_mobile(Answer { after_ms: 60_000, ..Answer::default() });
    cast.until_alice_is_done();
    cast.assert_clean();
    cast.assert_audio_both_ways();
    let said = cast.between(mobile, cast.p2);
    assert!(said.contains(&"487 INVITE".to_owned()), "{said:?}\n{}", ladder(&cast));
    assert!(!cast.world.node::<Phone>(mobile).report().answered);
    insta::assert_snapshot!(ladder(&cast));
}

/// A second phone of bob's, also behind P2. Alice behind a NAT: P1 anchors, P2 forks.
fn with_a_mobile(bob: Answer, mobile: Answer, talk_ms: u64) -> (Cast, NodeId) {
    let mut plot = Plot { alice: alice_calls(talk_ms), ..Plot::default() };
    plot.bob.answer = bob;
    let mut cast = plot.begin();
    let mobile = cast.add_mobile(mobile);
    (cast, mobile)
}

/// Where the first INVITE or answer to one that a phone received wants media.
fn media_told(cast: &Cast, from: NodeId, to: NodeId, title: &str) -> Vec<SocketAddr> {
    let fits = |e: &&Entry| {
        e.from == from && e.receiver() == Some(to) && e.title().is_some_and(|t| t.starts_with(title))
    };
    let told = cast.world.packets().iter().filter(fits).filter_map(Entry::sip);
    let media = |m: Message| Sdp::parse(m.sdp()?.1).ok()?.media.first()?.address();
    let mut told: Vec<SocketAddr> = told.filter_map(media).collect();
    told.dedup();
    told
}

/// DESIGN §5: each branch has its own relay session, though one was there before the fork; the loser's is freed.
#[test]
fn early_media_on_two_branches_keeps_to_two_ports() {
    let early = |after_ms| Answer { after_ms, early_media: true, ..Answer::default() };
    for (desk, other) in [(2000, 60_000), (60_000, 2000)] {
        let (mut cast, mobile) = with_a_mobile(early(desk), early(other), 4000);
        cast.until_answered();
        cast.world.run_for(SECOND);
        let ports = [cast.bob, mobile].map(|phone| media_told(&cast, cast.p2, phone, "INVITE"));
        assert!(
            ports.iter().all(|told| told.len() == 1) && ports[0] != ports[1],
            "{ports:?}\n{}",
            ladder(&cast)
        );
        assert_eq!(media_told(&cast, cast.p1, cast.alice, "183 INVITE").len(), 2, "{}", ladder(&cast));
        cast.until_alice_is_done();
        let (winner, loser) = if desk < other { (cast.bob, mobile) } else { (mobile, cast.bob) };
        let [alice, winner, loser] = [cast.alice, winner, loser].map(|phone| cast.report(phone).clone());
        assert!(alice.audio_both_ways && winner.audio_both_ways, "{alice:#?}{winner:#?}\n{}", ladder(&cast));
        assert!(!loser.answered);
        cast.assert_clean();
    }
}

/// RFC 3261 §16.6: the devices of a user ring by falling q; one that is declined everywhere (6xx) rings nowhere else.
#[test]
fn a_device_that_is_less_wanted_rings_when_the_other_has_declined() {
    for (status, answered) in [(486, true), (603, false)] {
        let mut plot = Plot { alice: alice_calls(3000), ..Plot::default() };
        plot.bob.answer = Answer { after_ms: 0, reject: Some(status), ..Answer::default() };
        let mut cast = plot.begin();
        let mobile = cast.add_mobile_wanted(Answer { after_ms: 300, ..Answer::default() }, 300);
        cast.until_alice_is_done();
        let rang = cast.between(cast.p2, mobile).iter().filter(|title| title.starts_with("INVITE")).count();
        assert_eq!(rang, usize::from(answered), "{}", ladder(&cast));
        let [alice, mobile] = [cast.alice, mobile].map(|phone| cast.report(phone).clone());
        assert_eq!(alice.call_status, Some(if answered { 200 } else { status }), "{}", ladder(&cast));
        assert_eq!(mobile.answered && alice.audio_both_ways && mobile.audio_both_ways, answered);
        cast.assert_clean();
    }
}

/// Hold, resume and a move in the dialog that P2's session serves, or in the one that P1's does; with a late offer too, and
/// P1 restarted in between. Over TCP P1 has two Record-Routes, one for each side.
#[test]
fn a_branch_with_a_session_of_its_own_changes_as_any_call_does() {
    for (by_desk, transport) in
        [(true, Transport::Udp), (false, Transport::Udp), (true, Transport::Tcp), (false, Transport::Tcp)]
    {
        for (late_offer, killed) in [(false, false), (true, false), (false, true)] {
            let mut plot =
                Plot { alice: alice_calls(9000), transport, bob_by: Some(Transport::Udp), ..Plot::default() };
            plot.alice.steps[1].late_offer = late_offer;
            plot.alice.steps.truncate(2);
            for (act, at_ms) in
                [(Act::Hold, 2000), (Act::Resume, 4000), (Act::Move, 6000), (Act::HangUp, 9000)]
            {
                plot.alice.steps.push(Step::new(act, After::Answered, at_ms));
            }
            let answers =
                |first: bool| Answer { after_ms: if first { 1000 } else { 60_000 }, ..Answer::default() };
            plot.bob.answer = answers(by_desk);
            let mut cast = plot.begin();
            let mobile = cast.add_mobile(answers(!by_desk));
            cast.until_answered();
            if killed {
                // The ACK is through: one on a connection that dies is lost for good.
                cast.world.run_for(SECOND / 5);
                cast.world.kill(cast.p1);
                cast.world.restart(cast.p1);
            }
            let asked = cast.between(cast.p1, cast.relay).len();
            cast.until_alice_is_done();
            let answerer = if by_desk { cast.bob } else { mobile };
            let [alice, answerer] = [cast.alice, answerer].map(|phone| cast.report(phone).clone());
            let fine = alice.audio_both_ways && answerer.audio_both_ways && alice.changes == 3;
            let which = format!("desk {by_desk} {transport} late {late_offer} killed {killed}");
            assert!(fine, "{which} {alice:#?}{answerer:#?}\n{}", ladder(&cast));
            let asks = cast.between(cast.p1, cast.relay).len() > asked;
            assert!(!(by_desk && killed && asks), "{which}: P2's session is enough\n{}", ladder(&cast));
            cast.assert_clean_within(3600 * SECOND);
            cast.assert_no_media_to_strangers();
        }
    }
}

/// RFC 3261 §13.2.2.4: both 200s reach the caller, each with ports of its own, and the end of one dialog is not the end of
/// the other.
#[test]
fn two_answers_keep_two_sessions_until_one_is_hung_up() {
    let (mut cast, mobile) = with_a_mobile(Answer::default(), Answer::default(), 8000);
    cast.until_answered();
    cast.world.run_for(3 * SECOND);
    assert_eq!(media_told(&cast, cast.p1, cast.alice, "200 INVITE").len(), 2, "{}", ladder(&cast));
    assert_eq!(cast.report(cast.alice).extra_answers, 1);
    let before = cast.report(cast.alice).received;
    cast.world.run_for(2 * SECOND);
    let heard = cast.report(cast.alice).received - before;
    assert!(heard >= 90, "{heard}\n{}", ladder(&cast));
    cast.until_alice_is_done();
    cast.assert_clean();
    let both = [cast.bob, mobile].map(|phone| cast.report(phone).clone());
    assert!(both.iter().all(|phone| phone.answered && phone.ended_by == Some(EndedBy::Them)), "{both:#?}");
    assert!(both.iter().any(|phone| phone.audio_both_ways), "{both:#?}\n{}", ladder(&cast));
}

#[test]
fn a_caller_who_gives_up_cancels_and_frees_everything() {
    let mut plot = Plot { alice: alice_calls(0), ..Plot::default() };
    plot.alice.steps.pop();
    plot.alice.steps.push(Step::new(Act::HangUp, After::Ringing, 1000));
    plot.bob.answer.after_ms = 60_000;
    let cast = plot.play();
    assert_eq!(cast.report(cast.alice).call_status, Some(487), "{}", ladder(&cast));
    insta::assert_snapshot!(ladder(&cast));
}

#[test]
fn a_proxy_killed_in_mid_call_routes_the_bye_and_frees_the_relay() {
    for proxy in [1, 2] {
        let mut cast = Plot { alice: alice_calls(8000), ..Plot::default() }.begin();
        let killed = if proxy == 1 { cast.p1 } else { cast.p2 };
        cast.until_answered();
        cast.world.run_for(3 * SECOND);
        cast.world.kill(killed);
        let before = cast.report(cast.alice).received;
        cast.world.run_for(2 * SECOND);
        assert!(cast.report(cast.alice).received >= before + 90, "media goes on without the proxy");
        cast.world.restart(killed);
        cast.until_alice_is_done();
        cast.assert_clean();
        assert_eq!(cast.report(cast.bob).ended_by, Some(EndedBy::Them), "P{proxy}\n{}", ladder(&cast));
        cast.assert_audio_both_ways();
    }
}

/// A proxy restarted while bob's phone rings knows nothing of the INVITE: the 200 finds alice all the same (RFC 3261 §16.7), her
/// ACK finds bob, and what the relay holds is used and freed. Over connections she is met on the one she has opened since.
#[test]
fn a_proxy_killed_while_it_rings_brings_the_answer_back() {
    for transport in [Transport::Udp, Transport::Tcp] {
        for (killed, sites) in [
            ([true, false], [Some(Rules::PORT_RESTRICTED); 2]),
            ([false, true], [Some(Rules::PORT_RESTRICTED); 2]),
            ([true, true], [Some(Rules::PORT_RESTRICTED); 2]),
            ([true, true], [None; 2]),
        ] {
            let mut plot = Plot { alice: alice_calls(8000), transport, sites, ..Plot::default() };
            plot.bob.answer.after_ms = 60_000;
            let mut cast = plot.begin();
            let alice = cast.alice;
            let ringing =
                cast.world.run_until(|w| w.node::<Phone>(alice).report().ringing_ms.is_some(), 30 * SECOND);
            assert!(ringing, "{}", ladder(&cast));
            cast.world.run_for(SECOND);
            for (_, proxy) in killed.iter().zip([cast.p1, cast.p2]).filter(|(killed, _)| **killed) {
                cast.world.kill(proxy);
                cast.world.restart(proxy);
            }
            cast.until_alice_is_done();
            let which = format!("{transport} {killed:?} {sites:?}");
            assert_eq!(cast.report(cast.alice).call_status, Some(200), "{which}\n{}", ladder(&cast));
            cast.assert_audio_both_ways();
            assert_eq!(cast.report(cast.bob).ended_by, Some(EndedBy::Them), "{which}\n{}", ladder(&cast));
            cast.assert_clean();
        }
    }
}

/// Acceptance 1g.
#[test]
fn an_exhausted_relay_is_a_503_with_retry_after() {
    let cast = Plot { relay_sessions: 0, ..Plot::default() }.play();
    let place = cast.place(cast.p1, cast.alice, "503 INVITE");
    let refusal = cast.world.packets()[place].sip().unwrap();
    assert!(refusal.text(Name::RetryAfter).is_some());
    assert_eq!(cast.report(cast.alice).call_status, Some(503));
    assert!(
        cast.between(cast.p2, cast.bob).iter().all(|title| !title.starts_with("INVITE")),
        "bob never rang"
    );
    insta::assert_snapshot!(ladder(&cast));
}

/// Acceptance 1f.
#[test]
fn a_silent_redirect_server_is_a_408_and_nothing_is_held() {
    let mut cast = Plot::default().begin();
    cast.world.run_for(SECOND);
    cast.world.kill(cast.redirect);
    cast.until_alice_is_done();
    cast.assert_clean();
    let status = cast.report(cast.alice).call_status;
    assert!(matches!(status, Some(408 | 480 | 504)), "{status:?}\n{}", ladder(&cast));
}

#[test]
fn nobody_serves_a_stranger() {
    let mut plot = Plot::default();
    plot.alice.steps[1].to = Some("sip:nobody@example.com".to_owned());
    let cast = plot.play();
    assert_eq!(cast.report(cast.alice).call_status, Some(404), "{}", ladder(&cast));
}

/// Acceptance 1i: a new port, then a new address; a forger who knows the ports gets nothing in or out.
#[test]
fn audio_is_back_within_a_second_of_a_rebinding_and_a_forger_is_not_heard() {
    for external in [None, Some("198.51.100.77")] {
        let mut cast = Plot { alice: alice_calls(8000), ..Plot::default() }.begin();
        let host = cast.world.host(INTERNET, "192.0.2.66");
        let forger = cast.world.attach(host, "forger", &["udp 192.0.2.66:4000"], |_| Mute::default());
        cast.until_answered();
        cast.world.run_for(3 * SECOND);
        let ports = cast.relay_ports();
        cast.world.rebind(cast.nats[0].unwrap(), external);
        for n in 0..50_u8 {
            for port in &ports {
                let rtp = [0x80, 0, 1, n, 0, 0, n, 0, 6, 6, 6, 6, 1, 2, 3, 4];
                cast.world.inject(forger, "192.0.2.66:4000", &port.to_string(), &rtp);
            }
            cast.world.run_for(SECOND / 50);
        }
        let before = (cast.report(cast.alice).received, cast.report(cast.bob).received);
        cast.world.run_for(SECOND);
        let after = (cast.report(cast.alice).received, cast.report(cast.bob).received);
        assert!(
            after.0 >= before.0 + 45 && after.1 >= before.1 + 45,
            "{before:?} {after:?}\n{}",
            ladder(&cast)
        );
        assert!(cast.world.node::<Mute>(forger).heard.is_empty());
        cast.until_alice_is_done();
        cast.assert_clean();
        cast.assert_audio_both_ways();
        let forged =
            |entry: &Entry| entry.from == cast.relay && entry.bytes.get(8..12) == Some(&[6, 6, 6, 6]);
        assert!(!cast.world.packets().iter().any(forged), "the relay passed forged media on");
    }
}

/// The world's hosts answer for closed ports as real ones do, through NATs, too.
#[test]
fn a_phone_that_dies_in_mid_call_is_told_of_by_what_its_host_says() {
    let mut cast = Plot { alice: alice_calls(20_000), ..Plot::default() }.begin();
    cast.until_answered();
    cast.world.run_for(3 * SECOND);
    cast.world.kill(cast.bob);
    cast.world.run_for(4 * SECOND);
    let from_relay = |event: &&(Duration, NodeId, Event)| event.1 == cast.relay;
    let told: Vec<&Event> =
        cast.world.events().iter().filter(from_relay).map(|(_, _, event)| event).collect();
    let closed = |event: &&&Event| {
        matches!(event, Event::Undelivered { leg: Side::Callee, why: Unreachable::Port, .. })
    };
    assert_eq!(told.iter().filter(closed).count(), 1, "{told:?}");
    cast.world.run_for(10 * SECOND);
    let gone = |(_, _, event): &(Duration, NodeId, Event)| {
        matches!(event, Event::OneWay { silent: Side::Callee, cause: OneWay::Gone(Unreachable::Port), .. })
    };
    assert!(cast.world.events().iter().any(gone));
    assert!(cast.report(cast.alice).sent > 600, "her leg goes on: {:?}", cast.report(cast.alice));
}

/// Acceptance 1k.
#[test]
fn a_callee_idle_for_three_minutes_behind_a_30_second_nat_still_rings() {
    let mut plot = Plot::default();
    plot.sites[1] = Some(Rules::PORT_RESTRICTED.timeout(30 * SECOND));
    plot.alice.steps[1].at_ms = 180_000;
    let cast = plot.play();
    assert_eq!(cast.report(cast.alice).call_status, Some(200), "{}", ladder(&cast));
    cast.assert_audio_both_ways();
}

#[test]
fn hold_resume_and_a_move_keep_the_audio() {
    let mut plot = Plot { alice: alice_calls(9000), ..Plot::default() };
    plot.alice.steps.truncate(2);
    for (act, at_ms) in [(Act::Hold, 2000), (Act::Resume, 4000), (Act::Move, 6000), (Act::HangUp, 9000)] {
        plot.alice.steps.push(Step::new(act, After::Answered, at_ms));
    }
    let cast = plot.play();
    assert_eq!(cast.report(cast.alice).changes, 3, "{}", ladder(&cast));
    cast.assert_audio_both_ways();
    cast.assert_no_media_to_strangers();
}

#[test]
fn a_late_offer_has_audio_both_ways() {
    let mut plot = Plot::default();
    plot.alice.steps[1].late_offer = true;
    let cast = plot.play();
    cast.assert_audio_both_ways();
}

#[test]
fn early_media_is_heard_before_the_answer() {
    let mut plot = Plot::default();
    plot.bob.answer = Answer { after_ms: 2000, early_media: true, ..Answer::default() };
    let cast = plot.play();
    cast.assert_audio_both_ways();
}
