//! Which NAT is this? What real peers say of themselves as they log in, behind a real NAT of every type the laboratory has: read
//! from the capture, and right about each.

use std::fmt::Write;
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, told};
use proto::peer::nat::{Allocation, Dependence, Verdict};
use proto::peer::words::{LOGIN, Login, read};

use crate::steps::carrying;

/// The nine of RFC 4787, as the laboratory calls them.
const DEPENDENCES: [(&str, &str, Dependence); 3] = [
    ("eim", "eif", Dependence::Endpoint),
    ("adm", "adf", Dependence::Address),
    ("apdm", "apdf", Dependence::AddressAndPort),
];

/// One NAT, who is behind it, and what can be known of it from inside.
struct Type {
    peer: String,
    site: String,
    truth: Verdict,
}

/// Every mapping with every filtering, with and without hairpinning, ports at random; kept ports, too, where another mapping for
/// other destinations would not be the same port again.
fn every_type() -> Vec<Type> {
    let mut all = Vec::new();
    for (mapping, _, maps) in DEPENDENCES {
        for (_, filtering, filters) in DEPENDENCES {
            for ports in [Allocation::Random, Allocation::Preserving] {
                if ports == Allocation::Preserving && maps != Dependence::Endpoint {
                    continue;
                }
                for hairpin in [false, true] {
                    let peer = format!("p{}", all.len());
                    let word = if ports == Allocation::Random { "random" } else { "preserve" };
                    let options = format!("ports={word},hairpin={}", u8::from(hairpin));
                    let site = format!("-s n{}:{mapping}+{filtering}:{peer}:{options} ", all.len());
                    let truth = Verdict { allocation: ports, hairpin, ..Verdict::nat(maps, filters) };
                    all.push(Type { peer, site, truth });
                }
            }
        }
    }
    all
}

#[test]
fn a_peer_is_right_about_every_type_of_nat() {
    let types = every_type();
    let sites: String = types.iter().map(|one| one.site.as_str()).collect();
    let accounts: Vec<&str> = types.iter().map(|one| one.peer.as_str()).collect();
    let Some(hub) = Hub::with(&sites, &[], &accounts.join(" "), FOUR) else { return };
    let recorder = hub.lab.capture(&["hub"]);
    let mut peers: Vec<Online> = types.iter().map(|one| hub.peer(&one.peer, &one.peer, 60, &[])).collect();
    hub.until_online(types.len() as u64);
    std::thread::sleep(Duration::from_secs(1));
    let wire = recorder.stop();
    peers.iter_mut().for_each(Online::leave);
    let mut wrong = String::new();
    for one in &types {
        let from = format!("<sip:{}@", one.peer);
        let mut logins = wire.packets.iter().filter(|p| String::from_utf8_lossy(&p.payload).contains(&from));
        let login: Option<Login> = logins.find_map(|p| carrying(p, LOGIN).and_then(read));
        let said = login.unwrap_or_else(|| panic!("{} has not logged in\n{}", one.peer, told(&wire))).verdict;
        if said != one.truth {
            let _ = writeln!(wrong, "{}\n  said {said:?}\n  is   {:?}", one.site, one.truth);
        }
    }
    assert!(wrong.is_empty(), "of {}:\n{wrong}", types.len());
}
