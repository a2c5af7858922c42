//! System 3 in the simulated world (US 8,139,578): the NAT type decides whether a buddy is told directly or by the
//! reflector.

use std::time::Duration;

use conformance::cast::SITES;
use conformance::company::{Company, Guest, REFLECTOR, verdict};
use conformance::world::{Dependence, Entry, Mute, Rules};
use endpoint_sim::peer::{Peer, PeerConfig};
use proto::peer::nat::{self, Verdict};
use proto::peer::ticket::{MAGIC, TOKEN, Why, read_reflected};
use proto::peer::words::{LOGIN, Login, PROFILE, Profile, read};
use proto::sip::Name;
use reflector::Reflector;

const SECOND: Duration = Duration::from_secs(1);

fn symmetric() -> Option<Rules> {
    Some(Rules::SYMMETRIC)
}

/// Whether it is a packet for the reflector to pass on.
fn is_for_reflector(entry: &Entry) -> bool {
    entry.sent.1 == REFLECTOR.parse().unwrap() && entry.bytes.starts_with(&MAGIC)
}

fn is_notify(bytes: &[u8]) -> bool {
    bytes.starts_with(b"NOTIFY")
}

/// e2 (symmetric) and e3 (full cone) are online, then e1 (symmetric) comes; where the record begins that is e1's.
fn three() -> (Company, [Guest; 3], usize) {
    let mut company = Company::with_reflector(1, &[("e1", "e2"), ("e1", "e3")]);
    let e2 = company.add("e2", symmetric());
    let e3 = company.add("e3", Some(Rules::FULL_CONE));
    company.until_logged_in(e2);
    company.until_logged_in(e3);
    company.world.run_for(2 * SECOND);
    let begun = company.world.packets().len();
    let e1 = company.add("e1", symmetric());
    (company, [e1, e2, e3], begun)
}

/// On a line of 400 ms the reflector's answer comes after the question was repeated: it counts all the same (RFC 8489 §6.2.1).
#[test]
fn on_a_slow_line_a_login_takes_three_round_trips() {
    let mut company = Company::with_reflector(1, &[("e1", "e2")]);
    for server in [company.access, company.stun, company.reflector.unwrap()] {
        company.world.link_of(server).latency = Duration::from_millis(190);
    }
    let begun = company.world.now();
    let known = |config: &mut PeerConfig| config.remembered = Some(verdict(symmetric()));
    let e1 = company.add_with("e1", symmetric(), known);
    company.until_logged_in(e1);
    let took = (company.world.now() - begun).as_secs_f64() / 0.4;
    assert!(took <= 3.01, "{took} round trips\n{}", company.world.ladder());
}

/// 3a, [C1] to [C4].
#[test]
fn exactly_one_packet_goes_to_the_reflector_for_e2_and_e3_is_told_directly() {
    let (mut company, [e1, e2, e3], begun) = three();
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e1, "e3", true, 10 * SECOND);
    let packets = &company.world.packets()[begun..];
    let by_e1 = |entry: &&Entry| entry.from == e1.node;
    let login = packets.iter().find_map(|entry| body::<Login>(entry, LOGIN)).expect("a login");
    let external = login.external.unwrap();
    assert_eq!(external.ip().to_string(), "198.51.100.3", "[C1] the IP of e1's NAT and the external port");
    assert_eq!(login.verdict.class(), nat::Class::Symmetric, "[C1] and the NAT type");
    let profile = packets.iter().find_map(|entry| body::<Profile>(entry, PROFILE)).expect("a profile");
    let classes: Vec<_> = profile.buddies.iter().map(|buddy| buddy.verdict.unwrap().class()).collect();
    assert_eq!(classes, [nat::Class::Symmetric, nat::Class::Full], "[C2]");
    assert!(profile.buddies.iter().all(|buddy| buddy.online && buddy.external.is_some()), "[C2]");

    let reflected: Vec<_> = packets.iter().filter(by_e1).filter(|entry| is_for_reflector(entry)).collect();
    assert_eq!(reflected.len(), 1, "[C3] one packet\n{}", company.world.ladder());
    assert!(is_notify(&reflected[0].bytes[TOKEN..]), "[C3] it says: online");
    let passed = packets.iter().find(|entry| entry.receiver() == Some(e2.node) && reflects_notify(entry));
    assert!(passed.is_some_and(|entry| entry.bytes.len() + 20 == reflected[0].bytes.len()), "[C3] shorter");
    let direct: Vec<_> = packets.iter().filter(by_e1).filter(|entry| is_notify(&entry.bytes)).collect();
    assert_eq!(direct.len(), 1, "[C4]");
    assert_eq!(direct[0].receiver(), Some(e3.node), "[C4]");
    let login = company.place(begun, "login", |entry| body::<Login>(entry, LOGIN).is_some());
    let start = company.world.packets()[login].at;
    insta::assert_snapshot!(company.world.ladder_of(start..=start + SECOND));
}

/// 3a, thrice: whoever it is and whenever, e2 costs each newcomer one packet to the reflector, and e3 none.
#[test]
fn three_senders_give_the_reflector_one_packet_each() {
    let senders = [("s1", symmetric()), ("s2", symmetric()), ("s3", Some(Rules::PORT_RESTRICTED))];
    let pairs: Vec<_> = senders.iter().flat_map(|(name, _)| [(*name, "e2"), (*name, "e3")]).collect();
    let mut company = Company::with_reflector(1, &pairs);
    let e2 = company.add("e2", symmetric());
    let e3 = company.add("e3", Some(Rules::FULL_CONE));
    company.until_logged_in(e2);
    company.until_logged_in(e3);
    company.world.run_for(2 * SECOND);
    let begun = company.world.packets().len();
    let guests = senders.map(|(name, rules)| company.add(name, rules));
    for guest in guests {
        company.until_sees(guest, "e2", true, 10 * SECOND);
        company.until_sees(guest, "e3", true, 10 * SECOND);
    }
    for (guest, (name, _)) in guests.iter().zip(senders) {
        let by_it = || company.world.packets()[begun..].iter().filter(|entry| entry.from == guest.node);
        let reflected = by_it().filter(|entry| is_for_reflector(entry) && is_notify(&entry.bytes[TOKEN..]));
        let direct = by_it().filter(|entry| is_notify(&entry.bytes));
        let told: Vec<_> = direct.map(|entry| entry.receiver()).collect();
        assert_eq!((reflected.count(), told), (1, vec![Some(e3.node)]), "{name}\n{}", company.world.ladder());
        company.until_sees(e2, name, true, SECOND);
        company.until_sees(e3, name, true, SECOND);
    }
    let counts = company.world.node::<Reflector>(company.reflector.unwrap()).counts();
    assert_eq!(counts.passed, 6, "three times \"online\", and their answers");
    let login = company.place(begun, "login", |entry| body::<Login>(entry, LOGIN).is_some());
    let start = company.world.packets()[login].at;
    insta::assert_snapshot!("3a_three_senders", company.world.ladder_of(start..=start + SECOND));
}

fn reflects_notify(entry: &Entry) -> bool {
    read_reflected(&entry.bytes).is_some_and(|(_, inside)| is_notify(inside))
}

fn body<T: for<'b> minicbor::Decode<'b, ()>>(entry: &Entry, kind: &str) -> Option<T> {
    let message = entry.sip().filter(|message| message.text(Name::ContentType) == Some(kind))?;
    read(message.body())
}

/// 3b, as far as messages go.
#[test]
fn between_two_symmetric_nats_answers_are_reflected_too() {
    let (mut company, [e1, e2, _], begun) = three();
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e2, "e1", true, 10 * SECOND);
    let answers = company.world.packets()[begun..].iter().filter(|entry| entry.receiver() == Some(e1.node));
    let answers = answers.filter_map(|entry| read_reflected(&entry.bytes));
    let answered = answers.filter(|(_, inside)| inside.starts_with(b"SIP/2.0 200")).count();
    assert_eq!(answered, 1, "{}", company.world.ladder());
    for (from, to, text) in [(e1, "e2", "ping"), (e2, "e1", "pong")] {
        let to = format!("{to}@example.com");
        company.world.with(from.node, |peer: &mut Peer, now| peer.message(now, &to, text));
    }
    let said = company.world.now();
    company.world.run_for(2 * SECOND);
    assert_eq!([e1, e2].map(|guest| company.report(guest).messages.len()), [1, 1]);
    insta::assert_snapshot!("3b", company.world.ladder_of(said..=said + SECOND));
}

/// 3c.
#[test]
fn every_pair_of_nats_uses_the_path_of_the_table() {
    for (from, rules) in SITES {
        for (to, other) in SITES {
            let mut company = Company::with_reflector(1, &[("e1", "e2")]);
            let e2 = company.add("e2", other);
            company.until_logged_in(e2);
            company.world.run_for(2 * SECOND);
            let begun = company.world.packets().len();
            let e1 = company.add("e1", rules);
            company.until_sees(e1, "e2", true, 10 * SECOND);
            company.until_sees(e2, "e1", true, 10 * SECOND);
            let unknown = |r: Option<Rules>| r.is_some_and(|r| r.mapping != Dependence::Endpoint);
            let closed = |r: Option<Rules>| r.is_some_and(|r| r.filtering == Dependence::AddressAndPort);
            let apart = unknown(rules) && closed(other) || closed(rules) && unknown(other);
            let expected = if apart { "reflector" } else { "direct" };
            assert_eq!(company.report(e1).buddies["e2@example.com"].path, expected, "{from} → {to}");
            let packets = &company.world.packets()[begun..];
            assert_eq!(packets.iter().any(is_for_reflector), apart, "{from} → {to}: counted on the wire");
        }
    }
}

/// 3d: a new instance for every packet.
#[test]
fn a_reflector_that_starts_anew_for_every_packet_loses_nothing() {
    let (mut company, [e1, e2, _], _) = three();
    company.until_sees(e2, "e1", true, 10 * SECOND);
    let (reflector, said) = (company.reflector.unwrap(), company.world.now());
    for n in 0..20 {
        company.world.restart(reflector);
        let text = n.to_string();
        company.world.with(e1.node, |peer: &mut Peer, now| peer.message(now, "e2@example.com", &text));
        company.world.run_for(Duration::from_millis(22));
        company.world.restart(reflector);
        company.world.run_for(Duration::from_millis(300));
    }
    let texts: Vec<String> = company.report(e2).messages.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    insta::assert_snapshot!("3d", company.world.ladder_of(said..=said + SECOND));
}

/// 3e, [C5] and [C6].
#[test]
fn with_the_access_server_stopped_a_buddy_that_leaves_is_shown_offline() {
    let (mut company, [e1, e2, e3], _) = three();
    for buddy in ["e2", "e3"] {
        company.until_sees(e1, buddy, true, 10 * SECOND);
    }
    company.until_sees(e2, "e1", true, 10 * SECOND);
    company.until_sees(e3, "e1", true, 10 * SECOND);
    company.world.kill(company.access);
    let stopped = company.world.now();
    for (guest, name) in [(e2, "e2"), (e3, "e3")] {
        company.world.with(guest.node, |peer: &mut Peer, now| peer.leave(now));
        company.until_sees(e1, name, false, SECOND);
    }
    insta::assert_snapshot!("3e", company.world.ladder_of(stopped..=Duration::MAX));
}

/// 3f: by consent where the path is direct, by the server's lease where it is not.
#[test]
fn a_buddy_that_crashes_is_shown_offline_by_lease() {
    let (mut company, [e1, e2, e3], _) = three();
    for buddy in ["e2", "e3"] {
        company.until_sees(e1, buddy, true, 10 * SECOND);
    }
    let killed = company.world.now();
    company.world.kill(e2.node);
    company.world.kill(e3.node);
    company.until_sees(e1, "e3", false, 25 * SECOND);
    company.until_sees(e1, "e2", false, 75 * SECOND);
    insta::assert_snapshot!("3f", company.world.ladder_of(killed..=Duration::MAX));
}

/// 3g: e2 says full cone and is port-restricted.
#[test]
fn a_wrong_nat_type_costs_less_than_a_second() {
    let mut company = Company::with_reflector(1, &[("e1", "e2")]);
    let full = Verdict::nat(nat::Dependence::Endpoint, nat::Dependence::Endpoint);
    let e2 = company.add_with("e2", Some(Rules::PORT_RESTRICTED), |config| config.remembered = Some(full));
    company.until_logged_in(e2);
    company.world.run_for(2 * SECOND);
    let e1 = company.add("e1", Some(Rules::PORT_RESTRICTED));
    company.until_logged_in(e1);
    let begun = company.world.packets().len();
    company.until_sees(e2, "e1", true, SECOND);
    let passed = company.world.packets()[begun..].iter().filter(|entry| reflects_notify(entry)).count();
    assert_eq!(passed, 1, "by the reflector\n{}", company.world.ladder());
    // e2 asks its server who that is, and opens the direct path from its side.
    company.until_sees(e1, "e2", true, 3 * SECOND);
    assert_eq!(company.report(e1).buddies["e2@example.com"].path, "direct");
    let start = company.world.packets()[begun].at;
    insta::assert_snapshot!("3g", company.world.ladder_of(start..=start + 2 * SECOND));
}

#[test]
fn a_path_to_an_unknown_port_is_opened_by_a_spray_when_it_is_asked_for() {
    for (rules, other) in
        [(Rules::PORT_RESTRICTED, Rules::SYMMETRIC), (Rules::SYMMETRIC, Rules::PORT_RESTRICTED)]
    {
        let mut company = Company::with_reflector(1, &[("e1", "e2")]);
        let e2 = company.add("e2", Some(other));
        company.until_logged_in(e2);
        let e1 = company.add("e1", Some(rules));
        company.until_sees(e1, "e2", true, 10 * SECOND);
        company.until_sees(e2, "e1", true, 10 * SECOND);
        company.world.run_for(5 * SECOND);
        let path = |company: &Company| {
            [(e1, "e2"), (e2, "e1")]
                .map(|(guest, of)| company.report(guest).buddies[&format!("{of}@example.com")].path)
        };
        assert_eq!(path(&company), ["reflector"; 2], "no spray at login");
        company.world.with(e1.node, |peer: &mut Peer, now| peer.open(now, "e2@example.com"));
        company.world.run_for(2 * SECOND);
        assert_eq!(path(&company), ["direct"; 2]);
        company.world.with(e2.node, |peer: &mut Peer, now| peer.message(now, "e1@example.com", "directly"));
        company.world.run_for(SECOND);
        assert_eq!(company.report(e1).messages.len(), 1);
    }
}

/// 770 sockets and guesses a spray, two sprays a pair and minute, whoever asks and however often.
#[test]
fn a_pair_has_two_sprays_a_minute_and_no_more() {
    let mut company = Company::with_reflector(1, &[("e1", "e2")]);
    let e2 = company.add("e2", symmetric());
    company.until_logged_in(e2);
    let e1 = company.add("e1", Some(Rules::PORT_RESTRICTED));
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e2, "e1", true, 10 * SECOND);
    let mut spent_in = |minutes: u32| {
        let begun = company.world.packets().len();
        for _ in 0..minutes * 20 {
            company.world.with(e1.node, |peer: &mut Peer, now| peer.open(now, "e2@example.com"));
            company.world.run_for(3 * SECOND);
        }
        let packets = &company.world.packets()[begun..];
        let checks = packets.iter().filter(|entry| proto::stun::is_stun(&entry.bytes));
        let by = |guest: Guest| checks.clone().filter(move |entry| entry.from == guest.node).count();
        [by(e1), by(e2)]
    };
    let first = spent_in(1);
    // The guesses of e1 end as soon as one meets; the 770 sockets of e2 are open by then.
    assert!(first[1] > 770 && first.iter().all(|spent| *spent < 2 * 2 * 770), "{first:?}");
    let more = spent_in(2);
    assert!(more.iter().all(|spent| *spent < 2 * 2 * 2 * 770), "{more:?}");
    assert_eq!(company.report(e1).buddies["e2@example.com"].path, "direct", "and the path stays open");
}

/// Who shows a ticket that is not the reflector's for that address gets no token towards it: a colluding pair can't aim.
#[test]
fn no_token_is_minted_towards_who_has_not_proven_to_hear() {
    let (mut company, [e1, ..], begun) = three();
    company.until_sees(e1, "e2", true, 10 * SECOND);
    let login = company.place(begun, "login", |entry| body::<Login>(entry, LOGIN).is_some());
    let login = body::<Login>(&company.world.packets()[login], LOGIN).unwrap();
    let (address, ticket) = login.bind.expect("a bind ticket");
    let keys = company.keys();
    let unix = 1_767_225_600 + company.world.now().as_secs() as u32;
    assert!(keys.is_bound(&ticket, address, unix), "the true one");
    assert!(!keys.is_bound(&ticket, "198.51.100.200:53".parse().unwrap(), unix), "a victim's address");
}

#[test]
fn forged_replayed_and_reflected_packets_are_dropped_and_counted_and_nothing_is_sent() {
    let (mut company, [_, e2, _], begun) = three();
    company.until_sees(e2, "e1", true, 10 * SECOND);
    let place = company.place(begun, "a reflected packet", is_for_reflector);
    let packet = company.world.packets()[place].bytes.to_vec();
    let outside = company.world.host(conformance::world::INTERNET, "192.0.2.66");
    let mallory = company.world.attach(outside, "mallory", &["udp 192.0.2.66:5060"], |_| Mute::default());
    let before = company.world.packets().iter().filter(|entry| entry.receiver() == Some(e2.node)).count();
    let mut forged = packet.clone();
    forged[23] ^= 1;
    let mut longer = packet.clone();
    longer[4] = 0xff;
    let (from, to) = ("192.0.2.66:5060", REFLECTOR);
    company.world.inject(mallory, from, to, &packet); // replayed from elsewhere
    company.world.inject(mallory, from, to, &forged);
    company.world.inject(mallory, from, to, &longer);
    company.world.inject(mallory, from, to, &packet[..TOKEN]);
    company.world.inject(
        mallory,
        from,
        to,
        b"\xf7\x53 something else that is long enough to be looked at, is it not?",
    );
    company.world.run_for(SECOND / 10);
    let counts = company.world.node::<Reflector>(company.reflector.unwrap()).counts();
    let dropped = [Why::Length, Why::Magic, Why::Expired, Why::Forged].map(|why| counts.dropped_by(why));
    assert_eq!(dropped, [1, 1, 1, 2]);
    let after = company.world.packets().iter().filter(|entry| entry.receiver() == Some(e2.node)).count();
    assert_eq!(after, before, "nothing was sent");
    assert!(company.world.node::<Mute>(mallory).heard.is_empty());
}
