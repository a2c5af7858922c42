//! A firewall that lets no UDP pass, in the simulated world: STUN, login, words and media by TLS, through the access server.

use std::time::Duration;

use access::Access;
use conformance::cast::{P1, SITES};
use conformance::company::{ACCESS, ACCESS_TLS, Company, Guest, STUN};
use conformance::world::{Entry, Fate, INTERNET, Mute, Rules};
use endpoint_sim::peer::Peer;
use proto::node::Transport;
use proto::peer::channel;
use proto::peer::words::{LOGIN, Login, PROFILE, read};
use proto::sip::Name;
use proto::stun;

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 2] = ["e1@example.com", "e2@example.com"];

fn blocked() -> Option<Rules> {
    Some(Rules::PORT_RESTRICTED.without_udp())
}

/// e2 is online, then e1 comes, and they see one another.
fn meet(mut company: Company, sites: [Option<Rules>; 2]) -> (Company, [Guest; 2]) {
    let e2 = company.add("e2", sites[1]);
    company.until_logged_in(e2);
    let e1 = company.add("e1", sites[0]);
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e2, "e1", true, 10 * SECOND);
    (company, [e1, e2])
}

fn path(company: &Company, guests: [Guest; 2]) -> [&'static str; 2] {
    [0, 1].map(|n| company.report(guests[n]).buddies[NAMES[1 - n]].path)
}

fn with_body<T: for<'b> minicbor::Decode<'b, ()>>(entry: &Entry, kind: &str) -> Option<T> {
    let message = entry.sip().filter(|message| message.text(Name::ContentType) == Some(kind))?;
    read(message.body())
}

/// STUN over UDP unanswered, STUN by TLS, login by TLS with what that said, profile.
#[test]
fn a_peer_whose_udp_is_blocked_asks_stun_and_logs_in_by_tls() {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let e1 = company.add("e1", blocked());
    company.until_logged_in(e1);
    let by = |entry: &Entry| entry.from == e1.node;
    let to = |entry: &Entry, at: &str| entry.sent.1 == at.parse().unwrap();
    let first = company.place(0, "STUN over UDP", |e| by(e) && to(e, STUN[0]) && stun::is_stun(&e.bytes));
    assert_eq!(company.world.packets()[first].fate, Fate::Dropped("nat-e1: no UDP".to_owned()));
    let asked =
        company.place(first, "STUN by TLS", |e| by(e) && to(e, ACCESS_TLS) && stun::is_stun(&e.bytes));
    let login = company.place(asked, "login", |e| by(e) && with_body::<Login>(e, LOGIN).is_some());
    let profile = company.place(login, "profile", |e| {
        e.sip().is_some_and(|message| message.text(Name::ContentType) == Some(PROFILE))
    });
    let packets = company.world.packets();
    let Fate::Arrived { seen, .. } = &packets[login].fate else { panic!("{}", company.world.ladder()) };
    let said: Login = with_body(&packets[login], LOGIN).unwrap();
    assert_eq!((said.external, said.verdict.udp), (Some(seen.0), false), "what STUN saw is what is observed");
    assert_eq!(packets[profile].transport, Some(Transport::Tls));
    assert_eq!(company.report(e1).nat, "no UDP");
}

#[test]
fn whoever_has_no_udp_sees_every_buddy_talks_and_calls_by_tls() {
    let mut others: Vec<(&str, Option<Rules>)> = SITES.to_vec();
    others.push(("blocked", blocked()));
    for (name, other) in others {
        for sites in [[blocked(), other], [other, blocked()]] {
            let (mut company, guests) = meet(Company::with_reflector(1, &[("e1", "e2")]), sites);
            assert_eq!(path(&company, guests), ["tunnel"; 2], "{name}");
            for (n, text) in ["ping", "pong"].into_iter().enumerate() {
                let to = NAMES[1 - n];
                company.world.with(guests[n].node, |peer: &mut Peer, now| peer.message(now, to, text));
            }
            company.world.run_for(SECOND);
            let heard = guests.map(|guest| company.report(guest).messages.len());
            assert_eq!(heard, [1, 1], "{name}\n{}", company.world.ladder());
            company.world.with(guests[0].node, |peer: &mut Peer, now| peer.call(now, NAMES[1]));
            company.world.run_for(4 * SECOND);
            for (n, guest) in guests.into_iter().enumerate() {
                let call = company.report(guest).call;
                let fine = call.phone.heard_only(NAMES[1 - n]) && call.phone.audio_both_ways;
                assert!(fine && call.path == "tunnel", "{name}: {call:#?}\n{}", company.world.ladder());
                assert!(call.phone.lost == 0 && call.phone.received > 150, "{name}: {call:#?}");
            }
            company.world.with(guests[1].node, |peer: &mut Peer, now| peer.hang_up(now));
            company.world.run_for(SECOND);
            let ended = guests.map(|guest| company.report(guest).call.phone.ended_by.is_some());
            assert_eq!(ended, [true; 2], "{name}");
        }
    }
}

/// With a proxy, too: its relay can't be reached, so the call doesn't go by it.
#[test]
fn a_call_to_a_buddy_without_udp_leaves_the_proxy_out() {
    let (mut company, guests) =
        meet(Company::with_proxy(1, &[("e1", "e2")]), [Some(Rules::FULL_CONE), blocked()]);
    company.world.with(guests[0].node, |peer: &mut Peer, now| peer.call(now, NAMES[1]));
    company.world.run_for(4 * SECOND);
    for guest in guests {
        let call = company.report(guest).call;
        assert!(call.path == "tunnel" && call.phone.audio_both_ways, "{call:#?}\n{}", company.world.ladder());
    }
}

/// The connection breaks: the server tells the buddy, and the peer comes back.
#[test]
fn a_connection_that_breaks_is_made_anew() {
    let (mut company, guests) = meet(Company::new(1, &[("e1", "e2")]), [blocked(), Some(Rules::SYMMETRIC)]);
    company.world.rebind(guests[0].nat.unwrap(), Some("198.51.100.77"));
    company.until_sees(guests[1], "e1", false, SECOND);
    company.until_sees(guests[1], "e1", true, 20 * SECOND);
    company.until_sees(guests[0], "e2", true, SECOND);
    company.world.with(guests[1].node, |peer: &mut Peer, now| peer.message(now, NAMES[0], "back?"));
    company.world.run_for(SECOND);
    assert_eq!(company.report(guests[0]).messages.len(), 1, "{}", company.world.ladder());
}

/// It knows nobody any more: whoever came by a connection loses that, whoever did by UDP finds out by a keep-alive.
#[test]
fn the_server_restarts_and_everybody_is_back_by_the_same_door() {
    let (mut company, guests) = meet(Company::new(1, &[("e1", "e2")]), [blocked(), None]);
    company.world.restart(company.access);
    company.world.run_for(45 * SECOND);
    company.until_sees(guests[1], "e1", true, 20 * SECOND);
    assert_eq!(company.world.node::<Access>(company.access).status().online, 2);
    assert_eq!(path(&company, guests), ["tunnel"; 2]);
}

/// Only by the path of whoever logged in, only to who permits it, and only between those who can't do without.
#[test]
fn what_a_stranger_says_by_a_channel_goes_nowhere() {
    let (mut company, guests) = meet(Company::new(1, &[("e1", "e2")]), [blocked(), None]);
    let outside = company.world.host(INTERNET, "192.0.2.66");
    let mallory = company.world.attach(outside, "mallory", &["udp 192.0.2.66:5060"], |_| Mute::default());
    let arrived = |company: &Company| {
        let packets = company.world.packets().iter();
        packets.filter(|entry| guests.iter().any(|guest| entry.receiver() == Some(guest.node))).count()
    };
    company.world.run_for(SECOND);
    let before = arrived(&company);
    for channel in 0..4 {
        let forged = channel::wrap(channel::FIRST + channel, b"\x80 a packet of nobody's");
        company.world.inject(mallory, "192.0.2.66:5060", ACCESS, &forged);
    }
    // Its own path, and a channel that it does not have.
    let wrong = channel::wrap(channel::FIRST + 9, b"\x80 to nobody");
    company.world.inject(guests[1].node, "192.0.2.10:5060", ACCESS, &wrong);
    company.world.run_for(SECOND);
    assert_eq!(arrived(&company), before, "{}", company.world.ladder());

    company.world.with(guests[0].node, |peer: &mut Peer, now| peer.permit(now, NAMES[1], false));
    company.until_sees(guests[1], "e1", false, 5 * SECOND);
    company.world.run_for(SECOND);
    let before = arrived(&company);
    let once_right = channel::wrap(channel::FIRST, b"\x80 to one who has taken its permission back");
    company.world.inject(guests[1].node, "192.0.2.10:5060", ACCESS, &once_right);
    company.world.run_for(SECOND / 2);
    assert_eq!(arrived(&company), before, "{}", company.world.ladder());
}

/// A line is lent to whoever is logged in by TLS alone, and leads to the proxies and relays of the configuration alone; its port is
/// given back with the connection.
#[test]
fn a_line_leads_to_nobody_else_and_ends_with_its_connection() {
    const VICTIM: &str = "192.0.2.99:5060";
    let mut company = Company::with_proxy(1, &[("e1", "e2")]);
    let victim = VICTIM.parse().unwrap();
    let (access, proxy) = (company.access, P1.parse().unwrap());
    let e1 = company.add_with("e1", blocked(), |config| config.proxy = Some(victim));
    let e2 = company.add("e2", None);
    [e1, e2].into_iter().for_each(|guest| company.until_logged_in(guest));
    let outside = company.world.host(INTERNET, "192.0.2.66");
    let mallory = company.world.attach(outside, "mallory", &["udp 192.0.2.66:5060"], |_| Mute::default());
    let line = channel::wrap_line(proxy, b"OPTIONS sip:x SIP/2.0\r\n\r\n");
    company.world.inject(mallory, "192.0.2.66:5060", ACCESS, &line);
    company.world.inject(e2.node, "192.0.2.20:5060", ACCESS, &line);
    company.world.run_for(40 * SECOND);
    let strayed = |company: &Company| {
        let packets = company.world.packets().iter();
        packets.filter(|e| e.from == access && (e.sent.1 == victim || e.sent.1 == proxy)).count()
    };
    assert_eq!(
        (strayed(&company), company.world.media_sockets(access)),
        (0, 0),
        "{}",
        company.world.ladder()
    );

    // The control: one whose proxy is the right one has a port, for as long as it is there.
    let mut company = Company::with_proxy(1, &[("e1", "e2")]);
    let e1 = company.add("e1", blocked());
    company.until_logged_in(e1);
    company.world.run_for(5 * SECOND);
    assert!(strayed(&company) > 0 && company.world.media_sockets(access) == 1);
    company.world.kill(e1.node);
    company.world.run_for(SECOND);
    assert_eq!(company.world.media_sockets(access), 0, "{}", company.world.ladder());
}
