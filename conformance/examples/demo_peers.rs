//! `make demo-peers`: one simulated peer behind each kind of NAT, and one behind a firewall that lets no UDP pass, all buddies
//! of one another. Prints who is online for whom, by which path, and why. Then two of them call each other while the direct
//! path dies and comes back.
#![allow(clippy::disallowed_methods, reason = "a program of floor 3")]

use std::process::ExitCode;
use std::time::Duration;

use conformance::cast::SITES;
use conformance::company::{Company, DOMAIN, Guest};
use conformance::world::Rules;
use endpoint_sim::peer::{Peer, PeerReport, wording};

/// Who is there, by the kind of NAT it is behind.
fn cast() -> Vec<(&'static str, Option<Rules>)> {
    let shut = ("shut", Some(Rules::PORT_RESTRICTED.without_udp()));
    SITES.into_iter().chain([shut]).collect()
}

fn main() -> ExitCode {
    let cast = cast();
    let names: Vec<&str> = cast.iter().map(|(name, _)| *name).collect();
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .enumerate()
        .flat_map(|(n, one)| names[n + 1..].iter().map(move |other| (*one, *other)))
        .collect();
    let mut company = Company::with_reflector(1, &pairs);
    let mut guests: Vec<Guest> = Vec::new();
    for (name, site) in cast {
        let guest = company.add(name, site);
        company.until_logged_in(guest);
        company.world.run_for(Duration::from_secs(3));
        guests.push(guest);
    }
    println!("Six peers come online one after the other, each named for its NAT and a buddy of all others.");
    println!("By which path each reaches them, and why:\n");
    let reports: Vec<PeerReport> = guests.iter().map(|guest| company.report(*guest)).collect();
    reports.iter().for_each(|report| tell(report, &names));
    let all = reports.iter().all(|report| report.buddies.values().all(|buddy| buddy.online));
    println!("{}", if all { "Everybody sees everybody." } else { "SOMEBODY IS NOT SEEN." });
    let heard = call();
    ExitCode::from(u8::from(!all || !heard))
}

/// A call that begins at the relay, goes over to the direct path, back when that is cut, and over again.
fn call() -> bool {
    let mut company = Company::with_proxy(1, &[("port", "addr")]);
    let guests = [("addr", Rules::ADDRESS_RESTRICTED), ("port", Rules::PORT_RESTRICTED)]
        .map(|(name, rules)| company.add(name, Some(rules)));
    company.world.run_for(Duration::from_secs(5));
    println!("\nport calls addr by a SIP proxy, whose relay stands ready while media goes directly:");
    let whom = format!("addr@{DOMAIN}");
    company.world.with(guests[1].node, |peer: &mut Peer, now| peer.call(now, &whom));
    company.world.run_for(Duration::from_millis(350));
    tell_call(&company, guests, "as it is answered");
    company.world.run_for(Duration::from_secs(3));
    tell_call(&company, guests, "3 s later");
    let outside = guests.map(|guest| company.report(guest).external.map(|at| at.ip().to_string()));
    let [Some(one), Some(other)] = outside else { return false };
    for (is_cut, seconds, words) in [(true, 1, "the direct path is cut"), (false, 30, "it is whole again")] {
        company.world.cut(&one, &other, is_cut);
        company.world.cut(&other, &one, is_cut);
        company.world.run_for(Duration::from_secs(seconds));
        tell_call(&company, guests, words);
    }
    guests.iter().all(|guest| company.report(*guest).call.phone.audio_both_ways)
}

fn tell_call(company: &Company, guests: [Guest; 2], what: &str) {
    println!("  {what}:");
    for guest in guests {
        let PeerReport { name, call, .. } = company.report(guest);
        let heard = wording::heard(call.phone.received, call.phone.lost, call.phone.largest_gap_ms);
        println!("    {:5} media goes {:13} {heard}", short(&name), wording::line(call.path));
    }
}

fn tell(report: &PeerReport, order: &[&str]) {
    let seen = report.external.map_or("nowhere".to_owned(), |at| at.to_string());
    println!("{}: {}, seen at {seen}", short(&report.name), report.nat);
    for name in order {
        let Some(buddy) = report.buddies.get(&format!("{name}@{DOMAIN}")) else { continue };
        let path = match buddy.online {
            true => wording::way(buddy.path, buddy.address),
            false => "OFFLINE".to_owned(),
        };
        println!("    {name:5} {path:34} ({})", buddy.why);
    }
    println!();
}

fn short(aor: &str) -> &str {
    aor.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('@')).unwrap_or(aor)
}
