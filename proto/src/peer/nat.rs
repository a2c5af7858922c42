//! What an endpoint knows of the NAT it is behind (RFC 4787's words), as it goes into a login.

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};

/// What a mapping, or the filter of one, depends on (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Dependence {
    /// On nothing remote.
    #[n(0)]
    Endpoint,
    /// On the remote address.
    #[n(1)]
    Address,
    /// On the remote address and port.
    #[n(2)]
    AddressAndPort,
}

/// How a NAT chooses external ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Allocation {
    /// The inside port, where it can.
    #[n(0)]
    Preserving,
    /// One after another.
    #[n(1)]
    Sequential,
    /// At random, within a block of ports that this subscriber has for itself.
    #[n(2)]
    Block,
    /// At random.
    #[n(3)]
    Random,
}

/// What lies between an endpoint and everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Verdict {
    /// What a mapping depends on; [`Dependence::Endpoint`] where nothing is translated.
    #[n(0)]
    pub mapping: Dependence,
    /// What may come in.
    #[n(1)]
    pub filtering: Dependence,
    /// Whether addresses are translated at all.
    #[n(2)]
    pub translated: bool,
    /// Which ports mappings get.
    #[n(3)]
    pub allocation: Allocation,
    /// Whether neighbours reach one another by their outside addresses.
    #[n(4)]
    pub hairpin: bool,
    /// Whether a packet that comes in too early spoils the mapping its answer would have made.
    #[n(5)]
    pub poisons: bool,
    /// How long a mapping lives without traffic from inside, in milliseconds, if it was measured.
    #[n(6)]
    pub life_ms: Option<u32>,
    /// Whether UDP passes.
    #[n(7)]
    pub udp: bool,
}

impl Verdict {
    /// Nothing in between.
    pub const OPEN: Verdict = Verdict {
        mapping: Dependence::Endpoint,
        filtering: Dependence::Endpoint,
        translated: false,
        allocation: Allocation::Preserving,
        hairpin: true,
        poisons: false,
        life_ms: None,
        udp: true,
    };
    /// What is assumed of whom nothing is known: it hears only whom it has spoken to.
    pub const UNKNOWN: Verdict = Verdict::nat(Dependence::Endpoint, Dependence::AddressAndPort);
    /// No UDP at all.
    pub const BLOCKED: Verdict = Verdict { udp: false, ..Verdict::UNKNOWN };

    /// A NAT of these dependences, otherwise ordinary.
    pub const fn nat(mapping: Dependence, filtering: Dependence) -> Verdict {
        Verdict { mapping, filtering, translated: true, hairpin: false, ..Verdict::OPEN }
    }

    /// Its row and column in the table of who can reach whom.
    pub fn class(&self) -> Class {
        match (self.mapping, self.filtering) {
            (Dependence::Endpoint, Dependence::Endpoint) if !self.translated => Class::None,
            (Dependence::Endpoint, Dependence::Endpoint) => Class::Full,
            (Dependence::Endpoint, Dependence::Address) => Class::Address,
            (Dependence::Endpoint, Dependence::AddressAndPort) => Class::Port,
            (Dependence::Address | Dependence::AddressAndPort, _) => Class::Symmetric,
        }
    }

    /// How often something must go out to keep a mapping: 0.8 of its life, and at least every 20 s.
    pub fn keep_alive(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(20);
        let measured = self.life_ms.map(|life| Duration::from_millis(u64::from(life) * 4 / 5));
        measured.map_or(MOST, |life| life.min(MOST)).max(Duration::from_secs(1))
    }

    /// Whether a way in must be kept open by sending at all.
    pub fn needs_keep_alive(&self) -> bool {
        self.translated || self.filtering != Dependence::Endpoint
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.udp, self.class(), self.translated) {
            (false, ..) => f.write_str("no UDP"),
            (_, class, true) if self.poisons => write!(f, "{class}, spoilt by what comes early"),
            (_, class, true) => write!(f, "{class}"),
            (_, Class::None, false) => f.write_str("no NAT"),
            (_, _, false) => f.write_str("a firewall"),
        }
    }
}

/// The NAT types people speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Anybody can send to it.
    None,
    /// Full cone: endpoint-independent mapping and filtering.
    Full,
    /// Address-restricted: hears addresses it has sent to.
    Address,
    /// Port-restricted: hears address and port it has sent to. A firewall is one, too.
    Port,
    /// Symmetric: another mapping for other destinations.
    Symmetric,
}

impl Class {
    /// All of them, from the most open one on.
    pub const ALL: [Class; 5] = [Class::None, Class::Full, Class::Address, Class::Port, Class::Symmetric];

    /// Its name on a command line.
    pub const fn word(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Full => "full-cone",
            Class::Address => "address-restricted",
            Class::Port => "port-restricted",
            Class::Symmetric => "symmetric",
        }
    }

    /// The one of this name.
    pub fn named(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.word() == word)
    }

    /// An ordinary one.
    pub const fn verdict(self) -> Verdict {
        match self {
            Class::None => Verdict::OPEN,
            Class::Full => Verdict::nat(Dependence::Endpoint, Dependence::Endpoint),
            Class::Address => Verdict::nat(Dependence::Endpoint, Dependence::Address),
            Class::Port => Verdict::nat(Dependence::Endpoint, Dependence::AddressAndPort),
            Class::Symmetric => Verdict::nat(Dependence::AddressAndPort, Dependence::AddressAndPort),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::None => "no NAT",
            Class::Full => "full cone",
            Class::Address => "address-restricted",
            Class::Port => "port-restricted",
            Class::Symmetric => "symmetric",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_known_by_its_word_and_an_ordinary_one_is_of_it() {
        for class in Class::ALL {
            assert_eq!((Class::named(class.word()), class.verdict().class()), (Some(class), class));
        }
        assert_eq!(Class::named("cone"), None);
    }
}
