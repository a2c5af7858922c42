//! Which NAT is this? What real peers say of themselves as they log in, behind a real NAT of every type the laboratory has: read
//! from the capture, and right about each.
//!
//! nftables can choose ports at random, among a block, one after another or as they are inside, and lets what comes too early spoil a
//! mapping where ports are kept, as every Linux router does. It can't be made to spoil a mapping and give the next one at random, nor
//! to keep ports with address-dependent mapping: those are the world's (`world_nat_types`, every combination).

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

/// How ports are chosen, as the laboratory calls it.
const PORTS: [(&str, Allocation); 4] = [
    ("random", Allocation::Random),
    ("preserve", Allocation::Preserving),
    ("sequential", Allocation::Sequential),
    ("block", Allocation::Block),
];

/// Every mapping with every filtering and every choice of ports, the first two with and without hairpinning. Kept ports only
/// where another mapping for other destinations would not be the same port again; and one that what comes too early spoils.
fn every_type() -> Vec<Type> {
    let mut all = Vec::new();
    let mut add = |mapping: &str, filtering: &str, options: String, truth: Verdict| {
        let peer = format!("p{}", all.len());
        let site = format!("-s n{}:{mapping}+{filtering}:{peer}:{options} ", all.len());
        all.push(Type { peer, site, truth });
    };
    for (mapping, _, maps) in DEPENDENCES {
        for (_, filtering, filters) in DEPENDENCES {
            for (word, ports) in PORTS {
                if ports == Allocation::Preserving && maps != Dependence::Endpoint {
                    continue;
                }
                let truth = Verdict { allocation: ports, ..Verdict::nat(maps, filters) };
                add(mapping, filtering, format!("ports={word}"), truth);
                if matches!(ports, Allocation::Random | Allocation::Preserving) {
                    let truth = Verdict { hairpin: true, ..truth };
                    add(mapping, filtering, format!("ports={word},hairpin=1"), truth);
                }
            }
        }
    }
    let closed = Verdict::nat(Dependence::Endpoint, Dependence::AddressAndPort);
    add("eim", "apdf", "ports=preserve,poisons=1".to_owned(), Verdict { poisons: true, ..closed });
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
