//! `make demo-peers`: one simulated peer behind each kind of NAT, all buddies of one another. Prints who is online for
//! whom, by which path, and why.
#![allow(clippy::disallowed_methods, reason = "a program of floor 3")]

use std::process::ExitCode;
use std::time::Duration;

use conformance::cast::SITES;
use conformance::company::{Company, DOMAIN, Guest};
use endpoint_sim::peer::PeerReport;

fn main() -> ExitCode {
    let names = SITES.map(|(name, _)| name);
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .enumerate()
        .flat_map(|(n, one)| names[n + 1..].iter().map(move |other| (*one, *other)))
        .collect();
    let mut company = Company::with_reflector(1, &pairs);
    let mut guests: Vec<Guest> = Vec::new();
    for (name, site) in SITES {
        let guest = company.add(name, site);
        company.until_logged_in(guest);
        company.world.run_for(Duration::from_secs(3));
        guests.push(guest);
    }
    let reports: Vec<PeerReport> = guests.iter().map(|guest| company.report(*guest)).collect();
    reports.iter().for_each(tell);
    let all = reports.iter().all(|report| report.buddies.values().all(|buddy| buddy.online));
    println!("\n{}", if all { "Everybody sees everybody." } else { "SOMEBODY IS NOT SEEN." });
    ExitCode::from(u8::from(!all))
}

fn tell(report: &PeerReport) {
    let seen = report.external.map_or("nowhere".to_owned(), |at| at.to_string());
    println!("{} is behind: {}, seen at {seen}", short(&report.name), report.nat);
    for (name, buddy) in &report.buddies {
        let online = if buddy.online { "online" } else { "OFFLINE" };
        let at = buddy.address.map(|at| at.to_string()).unwrap_or_default();
        println!("    {:5} {online:8} {:10} {at:20} {}", short(name), buddy.path, buddy.why);
    }
}

fn short(aor: &str) -> &str {
    aor.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('@')).unwrap_or(aor)
}
