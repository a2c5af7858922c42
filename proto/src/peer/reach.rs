//! Who can reach whom, and how: one pure function of two NAT verdicts and two policies.
//!
//! The row opens to the column. D: the first packet passes; P: after the other side has sent; B: by a bounded spray of
//! guesses; B²: by one on both sides.
//!
//! ```text
//!   →     none  full  addr  port  sym
//!   none   D     D     P     P     P
//!   full   D     D     P     P     P
//!   addr   D     D     P     P     P    the initiator primes towards the other's address first
//!   port   D     D     P     P     B
//!   sym    D     D     P     B     B²   P: the punch goes towards the initiator's address, any port
//! ```
//!
//! It follows from two questions. Is a side's outside port the same for everybody (*known*: its mapping is
//! endpoint-independent)? And whom does its filter let in? What goes to a known port of an open filter passes. Two known
//! ports need one punch. One unknown port is learnt from the packet that comes from it, if the other side's filter looks
//! at addresses only; else it must be guessed. Where that is not allowed, first messages are reflected and media goes
//! through a relay.

use std::net::IpAddr;

use super::nat::{Dependence, Verdict};

/// What the function must know of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its NAT.
    pub verdict: Verdict,
    /// Its outside address.
    pub ip: IpAddr,
    /// What it allows.
    pub policy: Policy,
}

/// What a side allows and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether others may learn its address.
    pub direct: bool,
    /// Whether it takes part in a spray against one unknown port.
    pub spray: bool,
    /// Whether it takes part in one against two.
    pub spray_both: bool,
    /// Whether it has proven that it hears a reflector.
    pub reflector: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { direct: true, spray: true, spray_both: false, reflector: true }
    }
}

/// How messages of the initiator get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// D: just send.
    Direct,
    /// P: the responder sends first.
    Punch,
    /// B: the side with unknown ports opens many, the other guesses.
    Spray,
    /// B²: both open many and guess.
    SprayBoth,
    /// By the reflector; media by a relay.
    Reflect,
    /// Through the access server; media by a relay.
    Server,
    /// UDP does not pass for one of them: relayed by the access server, by a channel over the connection (TLS) that one has to
    /// it. Media too.
    Tunnel,
}

/// What the initiator and the responder must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// How messages get there.
    pub path: Path,
    /// The initiator first sends something to the responder's address (any port), so that the punch is let in.
    pub prime: bool,
    /// The punch opens the responder's filter for the initiator's address; its port is not known, and need not be.
    pub any_port: bool,
    /// The punch must not arrive before the initiator has sent: it would spoil the initiator's mapping. All of its
    /// packets are short-lived.
    pub pinned: bool,
    /// Both are behind the same outside address: their own addresses are tried first.
    pub neighbours: bool,
}

impl Reach {
    /// Whether the responder has to send before the initiator's first message can pass.
    pub fn needs_punch(&self) -> bool {
        matches!(self.path, Path::Punch | Path::Spray | Path::SprayBoth)
    }

    /// Whether media goes without a relay.
    pub fn is_direct(&self) -> bool {
        self.path <= Path::SprayBoth
    }

    const fn by(path: Path) -> Reach {
        Reach { path, prime: false, any_port: false, pinned: false, neighbours: false }
    }
}

/// How `from` reaches `to`.
pub fn reach(from: &Side, to: &Side) -> Reach {
    let both = |allows: fn(&Side) -> bool| allows(from) && allows(to);
    let fallback = if both(|s| s.policy.reflector && s.verdict.udp) { Path::Reflect } else { Path::Server };
    if !both(|s| s.verdict.udp) {
        return Reach::by(Path::Tunnel);
    }
    if !both(|s| s.policy.direct) {
        // A reflector's token names the address it goes to.
        return Reach::by(Path::Server);
    }
    if from.ip.is_ipv4() != to.ip.is_ipv4() {
        return Reach::by(Path::Server);
    }
    let neighbours = from.ip == to.ip && both(|s| s.verdict.translated);
    if neighbours && !both(|s| s.verdict.hairpin) {
        return Reach { neighbours, ..Reach::by(fallback) };
    }
    let found = open(&from.verdict, &to.verdict);
    let allowed = match found.path {
        Path::Spray => both(|s| s.policy.spray),
        Path::SprayBoth => both(|s| s.policy.spray_both),
        _ => true,
    };
    Reach { neighbours, ..if allowed { found } else { Reach::by(fallback) } }
}

/// The table.
fn open(from: &Verdict, to: &Verdict) -> Reach {
    use Dependence::{Address, AddressAndPort, Endpoint};
    let known = |verdict: &Verdict| verdict.mapping == Endpoint;
    let punch = Reach { pinned: from.poisons, ..Reach::by(Path::Punch) };
    match (known(from), known(to)) {
        (_, true) if to.filtering == Endpoint => Reach::by(Path::Direct),
        (true, true) => punch,
        // The punch comes from where nobody knew, and must be let in.
        (true, false) => match from.filtering {
            Endpoint => Reach { pinned: false, ..punch },
            Address => Reach { prime: true, pinned: false, ..punch },
            AddressAndPort => Reach::by(Path::Spray),
        },
        // The initiator comes from where nobody knew, and must be let in.
        (false, true) if to.filtering == Address => Reach { any_port: true, ..punch },
        (false, true) => Reach::by(Path::Spray),
        (false, false) => Reach::by(Path::SprayBoth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dependence::{Address, AddressAndPort, Endpoint};

    const FIVE: [Verdict; 5] = [
        Verdict::OPEN,
        Verdict::nat(Endpoint, Endpoint),
        Verdict::nat(Endpoint, Address),
        Verdict::nat(Endpoint, AddressAndPort),
        Verdict::nat(AddressAndPort, AddressAndPort),
    ];

    fn side(verdict: Verdict, ip: &str) -> Side {
        Side { verdict, ip: ip.parse().unwrap(), policy: Policy::default() }
    }

    fn pair(from: Verdict, to: Verdict) -> (Side, Side) {
        (side(from, "198.51.100.1"), side(to, "198.51.100.2"))
    }

    fn generous(mut side: Side) -> Side {
        side.policy.spray_both = true;
        side
    }

    #[test]
    fn is_the_table() {
        let table = FIVE.map(|from| {
            FIVE.map(|to| {
                let (from, to) = pair(from, to);
                let reach = reach(&generous(from), &generous(to));
                let name = match reach.path {
                    Path::Direct => "D",
                    Path::Punch => "P",
                    Path::Spray => "B",
                    Path::SprayBoth => "B²",
                    Path::Reflect | Path::Server | Path::Tunnel => "-",
                };
                let extra = if reach.prime { " primed" } else { "" };
                format!("{name}{extra}{}", if reach.any_port { " at the address" } else { "" })
            })
            .join(" | ")
        });
        assert_eq!(
            table,
            [
                "D | D | P | P | P",
                "D | D | P | P | P",
                "D | D | P | P | P primed",
                "D | D | P | P | B",
                "D | D | P at the address | B | B²",
            ]
        );
    }

    #[test]
    fn two_unknown_ports_are_reflected_unless_both_allow_a_spray() {
        let (from, to) = pair(FIVE[4], FIVE[4]);
        assert_eq!(reach(&from, &to).path, Path::Reflect);
        assert_eq!(reach(&generous(from), &to).path, Path::Reflect);
        assert_eq!(reach(&generous(from), &generous(to)).path, Path::SprayBoth);
    }

    #[test]
    fn a_spray_that_one_side_forbids_is_reflected() {
        let (from, mut to) = pair(FIVE[3], FIVE[4]);
        assert_eq!(reach(&from, &to).path, Path::Spray);
        to.policy.spray = false;
        assert_eq!(reach(&from, &to).path, Path::Reflect);
        to.policy.reflector = false;
        assert_eq!(reach(&from, &to).path, Path::Server);
    }

    #[test]
    fn who_hides_its_address_is_reached_through_the_server_only() {
        for from in FIVE {
            let (from, mut to) = pair(from, Verdict::OPEN);
            to.policy.direct = false;
            assert_eq!(reach(&from, &to).path, Path::Server);
            assert_eq!(reach(&to, &from).path, Path::Server);
        }
    }

    #[test]
    fn without_udp_everything_is_relayed_by_tls_hidden_or_not() {
        let (from, mut to) = pair(Verdict::BLOCKED, Verdict::OPEN);
        assert_eq!(reach(&from, &to).path, Path::Tunnel);
        assert_eq!(reach(&to, &from).path, Path::Tunnel);
        to.policy.direct = false;
        assert_eq!(reach(&from, &to).path, Path::Tunnel);
        assert!(!reach(&from, &to).is_direct());
    }

    #[test]
    fn a_poisonable_initiator_is_punched_to_by_short_lived_packets_only() {
        let (mut from, to) = pair(FIVE[3], FIVE[3]);
        assert!(!reach(&from, &to).pinned);
        from.verdict.poisons = true;
        assert!(reach(&from, &to).pinned);
    }

    #[test]
    fn neighbours_use_their_own_addresses_and_hairpin_where_both_can() {
        let mut one = side(FIVE[3], "198.51.100.1");
        assert_eq!(reach(&one, &one), Reach { neighbours: true, ..Reach::by(Path::Reflect) });
        one.verdict.hairpin = true;
        assert_eq!(reach(&one, &one), Reach { neighbours: true, ..Reach::by(Path::Punch) });
    }

    #[test]
    fn a_firewall_is_a_port_restricted_nat() {
        let wall = Verdict { translated: false, ..Verdict::nat(Endpoint, AddressAndPort) };
        let (from, to) = (side(wall, "2001:db8:1::1"), side(wall, "2001:db8:2::1"));
        assert_eq!(reach(&from, &to).path, Path::Punch);
    }

    #[test]
    fn families_that_differ_meet_at_the_server() {
        let (from, to) = (side(Verdict::OPEN, "2001:db8::1"), side(Verdict::OPEN, "192.0.2.1"));
        assert_eq!(reach(&from, &to).path, Path::Server);
    }

    #[test]
    fn mapping_by_address_alone_is_as_unknown_as_by_address_and_port() {
        let by_address = Verdict::nat(Address, Address);
        for other in FIVE {
            let (a, b) = pair(by_address, other);
            let (s, _) = pair(FIVE[4], other);
            assert_eq!(reach(&a, &b).path, reach(&s, &b).path);
        }
    }
}
