//! System 2 in the simulated world (US 8,000,325): login with NAT facts, the punch before the profile, presence between
//! peers. Every step marked [C] is looked for on the wire.

use std::time::Duration;

use access::Access;
use conformance::cast::SITES;
use conformance::company::{ACCESS, Company, Guest, STUN, verdict};
use conformance::world::{Dependence, Entry, Fate, INTERNET, Mute, Rules};
use endpoint_sim::peer::{Peer, PeerConfig};
use proto::peer::words::{LOGIN, NOTICE, Notice, PROFILE, Profile, read};
use proto::sip::Name;
use proto::stun;

const SECOND: Duration = Duration::from_secs(1);

fn port_restricted() -> Option<Rules> {
    Some(Rules::PORT_RESTRICTED)
}

/// e2 is online, then e1 comes; where the record begins that is e1's.
fn two(e1: Option<Rules>, e2: Option<Rules>) -> (Company, [Guest; 2], usize) {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e2 = company.add("e2", e2);
    company.until_logged_in(e2);
    company.world.run_for(5 * SECOND);
    let begun = company.world.packets().len();
    let e1 = company.add("e1", e1);
    (company, [e1, e2], begun)
}

fn has_body(entry: &Entry, content_type: &str) -> bool {
    entry.sip().is_some_and(|message| message.text(Name::ContentType) == Some(content_type))
}

fn is_check(entry: &Entry) -> bool {
    stun::Message::parse(&entry.bytes).is_some_and(|message| message.username().is_some())
}

fn is_to(entry: &Entry, address: &str) -> bool {
    entry.sent.1 == address.parse().unwrap()
}

/// 2a, [C1] to [C8].
#[test]
fn both_port_restricted_punch_comes_before_profile_and_notify_after_it() {
    let (mut company, [e1, e2], begun) = two(port_restricted(), port_restricted());
    company.until_sees(e1, "e2", true, 10 * SECOND);
    let by = |guest: Guest| move |entry: &Entry| entry.from == guest.node;
    let asks =
        company.place(begun, "STUN request", |e| by(e1)(e) && is_to(e, STUN[0]) && stun::is_stun(&e.bytes));
    let login = company.place(asks, "login", |e| by(e1)(e) && has_body(e, LOGIN));
    let instruction = company.place(login, "punch instruction", |e| has_body(e, NOTICE));
    let profile = company.place(login, "profile", |e| has_body(e, PROFILE));
    let punch =
        company.place(instruction, "punch", |e| by(e2)(e) && is_check(e) && is_to(e, "198.51.100.2:5060"));
    let notify = company.place(profile, "NOTIFY", |e| e.title().is_some_and(|t| t.starts_with("NOTIFY")));
    assert!(asks < login && login < instruction && instruction < profile && punch < notify);

    let packets = company.world.packets();
    assert_eq!(packets[instruction].receiver(), Some(e2.node), "the instruction goes to e2");
    assert_eq!(packets[punch].fate, Fate::Dropped("hop limit".to_owned()), "the first punch is short-lived");
    let Fate::Arrived { seen, to, .. } = &packets[notify].fate else { panic!("{}", company.world.ladder()) };
    assert_eq!(
        (seen.0, *to),
        ("198.51.100.2:5060".parse().unwrap(), e2.node),
        "from e1's own mapping, directly"
    );
    let message = packets[profile].sip().unwrap();
    let profile: Profile = read(message.body()).unwrap();
    assert_eq!(profile.buddies[0].external, Some("198.51.100.1:5060".parse().unwrap()));
    assert!(profile.keep_alive_ms.is_some_and(|ms| ms <= 20_000));
    company.until_sees(e2, "e1", true, SECOND);
    insta::assert_snapshot!(ladder_from(&company, begun));
}

fn ladder_from(company: &Company, begun: usize) -> String {
    ladder_for(company, begun, Duration::MAX)
}

/// From the first login since then on, for a while.
fn ladder_for(company: &Company, begun: usize, long: Duration) -> String {
    let login = company.place(begun, "login", |e| has_body(e, LOGIN));
    let start = company.world.packets()[login].at;
    company.world.ladder_of(start..=start.saturating_add(long))
}

/// 2b: both are well and everything else is as in 2a; only what the server says does not reach e2 for a while. Once it
/// does, e2 learns of e1 after all, be it by the server.
#[test]
fn only_the_instruction_is_missing_and_the_notify_is_dropped() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e2 = company.add("e2", port_restricted());
    company.until_logged_in(e2);
    company.world.run_for(5 * SECOND);
    let server = ACCESS.split_once(':').unwrap().0;
    company.world.cut(server, "198.51.100.1", true);
    let begun = company.world.packets().len();
    let e1 = company.add("e1", port_restricted());
    company.until_logged_in(e1);
    company.world.run_for(2 * SECOND);
    let instruction = company.place(begun, "punch instruction", |e| has_body(e, NOTICE));
    assert_eq!(company.world.packets()[instruction].fate, Fate::Dropped("cut".to_owned()));
    let notify = company.place(begun, "NOTIFY", |e| e.title().is_some_and(|t| t.starts_with("NOTIFY")));
    assert_eq!(company.world.packets()[notify].fate, Fate::Dropped("nat-e2: filtered".to_owned()));
    assert!(!company.report(e2).buddies["e1@example.com"].online, "{}", company.world.ladder());
    company.world.cut(server, "198.51.100.1", false);
    company.until_sees(e2, "e1", true, 10 * SECOND);
}

/// And when e2 is dead, nothing opens its NAT either.
#[test]
fn without_the_punch_the_notify_is_dropped() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e2 = company.add("e2", port_restricted());
    company.until_logged_in(e2);
    company.world.run_for(5 * SECOND);
    company.world.kill(e2.node);
    let begun = company.world.packets().len();
    let e1 = company.add("e1", port_restricted());
    company.world.run_for(10 * SECOND);
    let notify = company.place(begun, "NOTIFY", |e| e.title().is_some_and(|t| t.starts_with("NOTIFY")));
    assert_eq!(company.world.packets()[notify].fate, Fate::Dropped("nat-e2: filtered".to_owned()));
    assert!(!company.report(e1).buddies["e2@example.com"].online);
    insta::assert_snapshot!(ladder_from(&company, begun));
}

/// 2c: the first channel outlives a NAT that forgets after 30 s, and does not without keep-alives.
#[test]
fn after_three_idle_minutes_e2_is_reached_only_if_it_kept_its_channel_open() {
    // Without keep-alives: while it still counts as online and its NAT has forgotten it, and when its lease has run out as well.
    for (keeps_alive, idle) in [(true, 180), (false, 35), (false, 180)] {
        let rules = Rules::PORT_RESTRICTED.timeout(30 * SECOND);
        let mut company = Company::new(1, &[("e1", "e2")]);
        let e2 = company.add_with("e2", Some(rules), |config| config.keeps_alive = keeps_alive);
        company.until_logged_in(e2);
        company.world.run_for(idle * SECOND);
        let begun = company.world.packets().len();
        let e1 = company.add("e1", port_restricted());
        company.world.run_for(8 * SECOND);
        let name = match (keeps_alive, idle) {
            (true, _) => "2c_with_keep_alives",
            (false, 35) => "2c_without",
            (false, _) => "2c_without_and_without_a_lease",
        };
        insta::assert_snapshot!(name, ladder_for(&company, begun, SECOND));
        assert_eq!(company.report(e2).punches, u32::from(keeps_alive), "{}", company.world.ladder());
        assert_eq!(company.report(e1).buddies["e2@example.com"].online, keeps_alive);
    }
}

/// 2d.
#[test]
fn a_public_e2_is_not_told_to_punch() {
    let (mut company, [e1, e2], begun) = two(port_restricted(), None);
    company.until_sees(e1, "e2", true, 10 * SECOND);
    let told = company.world.packets()[begun..].iter().any(|entry| has_body(entry, NOTICE));
    assert!(!told && company.report(e2).punches == 0, "{}", company.world.ladder());
    assert_eq!(company.report(e2).buddies["e1@example.com"].path, "direct");
    insta::assert_snapshot!("2d", ladder_from(&company, begun));
}

/// 2e.
#[test]
fn a_stranger_is_in_no_profile_and_is_refused() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e2 = company.add("e2", None);
    company.until_logged_in(e2);
    let e3 = company.add("e3", None);
    company.until_logged_in(e3);
    company.world.run_for(3 * SECOND);
    assert!(company.report(e3).buddies.is_empty());
    let forged = "MESSAGE sip:e2@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKx\r\n\
                  From: <sip:e1@example.com>;tag=1\r\nTo: <sip:e2@example.com>\r\nCall-ID: x\r\nCSeq: 1 MESSAGE\r\n\
                  Max-Forwards: 70\r\nContent-Length: 5\r\n\r\nhello";
    let begun = company.world.packets().len();
    company.world.inject(e3.node, "192.0.2.20:5060", "192.0.2.10:5060", forged.as_bytes());
    company.world.run_for(SECOND);
    let refused = company.place(begun, "403", |e| e.title().is_some_and(|t| t.starts_with("403")));
    assert_eq!(company.world.packets()[refused].receiver(), Some(e3.node));
    let report = company.report(e2);
    assert!(report.messages.is_empty() && report.strangers == 1);
    let start = company.world.packets()[begun].at;
    insta::assert_snapshot!("2e", company.world.ladder_of(start..=Duration::MAX));
}

/// 2f.
#[test]
fn a_dead_e2_is_shown_offline_and_the_login_completes() {
    let (mut company, [e1, e2], begun) = two(port_restricted(), port_restricted());
    company.world.kill(e2.node);
    company.until_logged_in(e1);
    company.world.run_for(40 * SECOND);
    insta::assert_snapshot!("2f", ladder_from(&company, begun));
    let report = company.report(e1);
    assert!(report.logged_in && !report.buddies["e2@example.com"].online);
}

/// 2g: found by e1's next keep-alive; from then on it takes less than a second.
#[test]
fn a_nat_that_binds_anew_is_noticed_and_paths_are_opened_again() {
    for external in [None, Some("198.51.100.77")] {
        let (mut company, [e1, e2], _) = two(port_restricted(), port_restricted());
        company.until_sees(e1, "e2", true, 10 * SECOND);
        company.until_sees(e2, "e1", true, 10 * SECOND);
        // Somebody else takes the port that the NAT would give again.
        company.world.rebind(e1.nat.unwrap(), Some(external.unwrap_or("198.51.100.2")));
        let moved = company.world.packets().len();
        company.world.run_for(25 * SECOND);
        let seen = external.map(|ip| format!("{ip}:5060").parse().unwrap());
        if let Some(seen) = seen {
            let learnt = company.place(moved, "keep-alive from the new address", |e| {
                e.from == e1.node
                    && is_to(e, ACCESS)
                    && matches!(&e.fate, Fate::Arrived { seen: s, .. } if s.0 == seen)
            });
            let at = company.world.packets()[learnt].at;
            let again = company.place(learnt, "NOTIFY from the new address", |e| {
                e.title().is_some_and(|t| t.starts_with("NOTIFY")) && e.receiver() == Some(e2.node)
            });
            let took = company.world.packets()[again].at - at;
            insta::assert_snapshot!("2g", company.world.ladder_of(at..=at + SECOND));
            assert!(took < SECOND, "{took:?}\n{}", company.world.ladder());
            assert_eq!(company.report(e2).buddies["e1@example.com"].address, Some(seen));
        }
        assert!(company.report(e1).buddies["e2@example.com"].online);
        company
            .world
            .with(e2.node, |peer: &mut Peer, now| peer.message(now, "e1@example.com", "still there?"));
        company.world.run_for(2 * SECOND);
        assert_eq!(company.report(e1).messages.len(), 1, "{}", company.world.ladder());
    }
}

/// Longer than a peer waits until it asks again whether a path still carries.
#[test]
fn a_path_with_a_round_trip_of_half_a_second_is_kept() {
    let (mut company, [e1, e2], _) = two(port_restricted(), port_restricted());
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e2, "e1", true, 10 * SECOND);
    company.world.link(e1.host).latency = SECOND / 4;
    let begun = company.world.packets().len();
    company.world.run_for(60 * SECOND);
    let since = &company.world.packets()[begun..];
    let between = |entry: &&Entry| is_check(entry) && entry.receiver() == Some(e2.node);
    assert!(since.iter().filter(between).count() >= 3, "it is asked about\n{}", company.world.ladder());
    assert!(
        !since.iter().any(|entry| has_body(entry, LOGIN)),
        "nobody logs in again\n{}",
        company.world.ladder()
    );
    let report = company.report(e1);
    assert_eq!(
        (report.buddies["e2@example.com"].path, report.buddies["e2@example.com"].online),
        ("direct", true)
    );
}

/// From e1's first packet to the moment e2 knows of it, in round trips of 40 ms, which is what every way takes here: from a
/// peer to a server, and from peer to peer. `late` is added to each way of the servers' line.
fn round_trips_until_told(sites: [Rules; 2], late: Duration) -> f64 {
    let mut company = Company::new(1, &[("e1", "e2")]);
    // A peer's line and its NAT's take 5 ms each: 20 ms between two peers.
    for server in [company.access, company.stun] {
        company.world.link_of(server).latency = Duration::from_millis(10) + late;
    }
    let remembers =
        |rules: Rules| move |config: &mut PeerConfig| config.remembered = Some(verdict(Some(rules)));
    let e2 = company.add_with("e2", Some(sites[1]), remembers(sites[1]));
    company.until_logged_in(e2);
    company.world.run_for(5 * SECOND);
    let begun = company.world.now();
    let _ = company.add_with("e1", Some(sites[0]), remembers(sites[0]));
    company.until_sees(e2, "e1", true, 10 * SECOND);
    (company.world.now() - begun).as_secs_f64() / 0.040
}

/// "First STUN packet to buddy notified": STUN, challenge, login, and half a round trip to the buddy. It holds where the buddy's
/// port is known: one behind a symmetric NAT has to be heard first.
#[test]
fn a_buddy_is_notified_three_and_a_half_round_trips_after_the_first_packet() {
    let nats = SITES.iter().filter_map(|(_, rules)| *rules);
    let known = nats.clone().filter(|rules| rules.mapping == Dependence::Endpoint);
    for (from, to) in nats.flat_map(|from| known.clone().map(move |to| (from, to))) {
        let closed = to.filtering == Dependence::AddressAndPort;
        if from.mapping != Dependence::Endpoint && closed {
            continue;
        }
        let took = round_trips_until_told([from, to], Duration::ZERO);
        assert!(took <= 3.5 + TINY, "{took} round trips, {from:?} → {to:?}");
        // The servers answer 4 ms later in all, a tenth of a round trip: the same measure sees it.
        let took = round_trips_until_told([from, to], Duration::from_micros(667));
        assert!(took > 3.5 + TINY && took <= 3.6 + TINY, "{took} round trips, {from:?} → {to:?}");
    }
}

/// Of a round trip: what a machine's own steps may add.
const TINY: f64 = 0.01;

#[test]
fn every_pair_of_nats_sees_one_another_and_can_talk() {
    for (from, rules) in SITES {
        for (to, other) in SITES {
            let (mut company, [e1, e2], _) = two(rules, other);
            company.until_sees(e1, "e2", true, 10 * SECOND);
            company.until_sees(e2, "e1", true, 10 * SECOND);
            company.world.with(e2.node, |peer: &mut Peer, now| peer.message(now, "e1@example.com", "hello"));
            company.world.with(e1.node, |peer: &mut Peer, now| peer.message(now, "e2@example.com", "hello"));
            company.world.run_for(2 * SECOND);
            let heard = [e1, e2].map(|guest| company.report(guest).messages.len());
            assert_eq!(heard, [1, 1], "{from} → {to}\n{}", company.world.ladder());
            let sym = |r: Option<Rules>| r.is_some_and(|r| r.mapping != Dependence::Endpoint);
            let closed = |r: Option<Rules>| r.is_some_and(|r| r.filtering == Dependence::AddressAndPort);
            let unknown = sym(rules) && closed(other) || closed(rules) && sym(other);
            let path = company.report(e1).buddies["e2@example.com"].path;
            assert_eq!(path, if unknown { "server" } else { "direct" }, "{from} → {to}");
        }
    }
}

#[test]
fn consent_is_mutual_and_can_be_taken_back() {
    let mut company = Company::new(1, &[]);
    let [e1, e2] = ["e1", "e2"].map(|name| company.add(name, Some(Rules::PORT_RESTRICTED)));
    company.until_logged_in(e1);
    company.until_logged_in(e2);
    company.world.with(e1.node, |peer: &mut Peer, now| peer.permit(now, "e2@example.com", true));
    company.world.run_for(2 * SECOND);
    assert!(company.report(e1).buddies.is_empty() && company.report(e2).buddies.is_empty());
    company.world.with(e2.node, |peer: &mut Peer, now| peer.permit(now, "e1@example.com", true));
    company.until_sees(e1, "e2", true, 5 * SECOND);
    company.until_sees(e2, "e1", true, 5 * SECOND);
    company.world.with(e1.node, |peer: &mut Peer, now| peer.permit(now, "e2@example.com", false));
    company.until_sees(e2, "e1", false, 5 * SECOND);
}

#[test]
fn who_hides_its_address_is_talked_to_through_the_server_and_never_named() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e2 = company.add_with("e2", port_restricted(), |config| config.allows.direct = false);
    company.until_logged_in(e2);
    let e1 = company.add("e1", port_restricted());
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.world.with(e1.node, |peer: &mut Peer, now| peer.message(now, "e2@example.com", "psst"));
    company.world.run_for(2 * SECOND);
    assert_eq!(company.report(e2).messages.len(), 1);
    assert_eq!(company.report(e1).buddies["e2@example.com"].path, "server");
    for entry in company.world.packets().iter().filter(|entry| entry.receiver() == Some(e1.node)) {
        let Some(message) = entry.sip() else { continue };
        if let Some(profile) = read::<Profile>(message.body()) {
            assert!(profile.buddies.iter().all(|buddy| buddy.external.is_none()));
        }
        if let Some(Notice::Punch(buddy, _)) = read::<Notice>(message.body()) {
            assert_eq!(buddy.external, None);
        }
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        assert!(!text.contains("198.51.100.1:") && !text.contains("198.51.100.1;"), "{text}");
    }
}

/// A restart: the server knows nobody. Who has not missed it finds out by its next keep-alive; those who did, by one each second,
/// and they come back over ten.
#[test]
fn after_a_restart_everybody_is_logged_in_again_within_twenty_seconds() {
    for away in [Duration::ZERO, 40 * SECOND] {
        let names: Vec<String> = (0..40).map(|n| format!("e{n}")).collect();
        let buddies: Vec<(&str, &str)> =
            names.windows(2).map(|two| (two[0].as_str(), two[1].as_str())).collect();
        let mut company = Company::new(1, &buddies);
        let guests: Vec<Guest> = names.iter().map(|name| company.add(name, port_restricted())).collect();
        guests.iter().for_each(|guest| company.until_logged_in(*guest));
        company.world.run_for(300 * SECOND);
        let online = |company: &Company| company.world.node::<Access>(company.access).status().online;
        assert_eq!(online(&company), names.len());
        company.world.kill(company.access);
        company.world.run_for(away);
        let begun = company.world.packets().len();
        company.world.restart(company.access);
        company.world.run_for(20 * SECOND);
        assert_eq!(online(&company), names.len(), "away for {away:?}");
        let packets = company.world.packets()[begun..].iter();
        let logins: Vec<Duration> = packets.filter(|e| has_body(e, PROFILE)).map(|e| e.at).collect();
        let within = |at: Duration| logins.iter().filter(|other| (at..at + SECOND).contains(*other)).count();
        let most = logins.iter().map(|at| within(*at)).max().unwrap_or_default();
        assert!(
            most <= names.len() / 4,
            "{most} of {} came within one second, away for {away:?}",
            names.len()
        );
    }
}

/// Peers in public keep nothing open to the server: it says hello to them when it starts again.
#[test]
fn peers_without_keep_alives_are_greeted_by_a_server_that_was_restarted() {
    for away in [Duration::ZERO, 40 * SECOND] {
        let names: Vec<String> = (0..20).map(|n| format!("e{n}")).collect();
        let buddies: Vec<(&str, &str)> =
            names.windows(2).map(|two| (two[0].as_str(), two[1].as_str())).collect();
        let mut company = Company::new(1, &buddies);
        let guests: Vec<Guest> = names.iter().map(|name| company.add(name, None)).collect();
        guests.iter().for_each(|guest| company.until_logged_in(*guest));
        company.world.run_for(20 * SECOND);
        let leaves = guests[0].node;
        company.world.with(leaves, |peer: &mut Peer, now| peer.leave(now));
        company.world.run_for(5 * SECOND);
        company.world.kill(company.access);
        company.world.run_for(away);
        let begun = company.world.packets().len();
        company.world.restart(company.access);
        company.world.run_for(2 * SECOND);
        let online = company.world.node::<Access>(company.access).status().online;
        assert_eq!(online, names.len() - 1, "away for {away:?}, all but the one that left");
        let hellos = company.world.packets()[begun..].iter().filter(|entry| {
            proto::stun::Message::parse(&entry.bytes)
                .is_some_and(|it| it.class() == proto::stun::Class::Indication)
        });
        assert_eq!(hellos.count(), names.len() - 1, "away for {away:?}");
    }
}

/// Anybody can say hello: the server is asked, and it knows the peer, so nothing comes of it.
#[test]
fn a_hello_of_a_stranger_costs_one_question_in_ten_seconds_and_no_login() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e1 = company.add("e1", None);
    company.until_logged_in(e1);
    company.world.run_for(SECOND);
    let stranger = company.world.host(INTERNET, "203.0.113.66");
    let stranger =
        company.world.attach(stranger, "stranger", &["udp 203.0.113.66:4000"], |_| Mute::default());
    let hello = proto::stun::Writer::new(proto::stun::Class::Indication, [7; 12]).finish();
    let begun = company.world.packets().len();
    for _ in 0..90 {
        company.world.inject(stranger, ACCESS, "192.0.2.10:5060", &hello);
        company.world.run_for(SECOND / 10);
    }
    let sent: Vec<_> =
        company.world.packets()[begun..].iter().filter(|entry| entry.from == e1.node).collect();
    assert_eq!(sent.len(), 1, "{}", company.world.ladder());
    assert!(sent[0].sip().is_none(), "it is no login");
}

/// Of a login's answer nothing is kept: the same login that comes again is answered anew, and is no second one.
#[test]
fn a_profile_that_was_lost_is_written_anew() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e1 = company.add("e1", None);
    let proves =
        |e: &Entry| has_body(e, LOGIN) && e.sip().is_some_and(|m| m.text(Name::Authorization).is_some());
    let has_proven = |world: &conformance::world::World| world.packets().iter().any(proves);
    assert!(company.world.run_until(has_proven, 10 * SECOND));
    let server = ACCESS.split_once(':').unwrap().0;
    company.world.cut(server, "192.0.2.10", true);
    company.world.run_for(SECOND / 5);
    assert!(!company.report(e1).logged_in);
    company.world.cut(server, "192.0.2.10", false);
    company.until_logged_in(e1);
    let profiles: Vec<_> =
        company.world.packets().iter().filter(|e| has_body(e, PROFILE)).filter_map(Entry::sip).collect();
    assert_eq!(profiles.len(), 2, "{}", company.world.ladder());
    assert_eq!(profiles[0].bytes(), profiles[1].bytes(), "nothing has changed in between");
}

#[test]
fn a_message_for_somebody_offline_waits_for_its_login() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e1 = company.add("e1", port_restricted());
    company.until_logged_in(e1);
    for n in 0..40 {
        company
            .world
            .with(e1.node, |peer: &mut Peer, now| peer.message(now, "e2@example.com", &n.to_string()));
        company.world.run_for(SECOND);
    }
    let e2 = company.add("e2", port_restricted());
    company.until_logged_in(e2);
    company.world.run_for(3 * SECOND);
    let texts: Vec<String> = company.report(e2).messages.into_iter().map(|(_, text)| text).collect();
    let newest: Vec<String> = (8..40).map(|n| n.to_string()).collect();
    assert_eq!(texts, newest, "the newest 32, in order");
}
