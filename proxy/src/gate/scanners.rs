//! Programs that look for victims. Most of them say so, by a name in User-Agent.

use proto::sip::{Message, Name};

/// Their names, ready to be looked for.
#[derive(Debug)]
pub(super) struct Scanners {
    names: Vec<String>,
    /// Which bytes a name may begin with: most of a User-Agent needs no closer look.
    beginnings: [bool; 256],
}

impl Scanners {
    pub(super) fn new(names: &[String]) -> Scanners {
        let mut beginnings = [false; 256];
        for first in names.iter().filter_map(|name| name.bytes().next()) {
            beginnings[usize::from(first.to_ascii_lowercase())] = true;
            beginnings[usize::from(first.to_ascii_uppercase())] = true;
        }
        Scanners { names: names.to_vec(), beginnings }
    }

    /// Whether the sender says it is one, in any case and anywhere among other words.
    pub(super) fn are_named_in(&self, request: &Message) -> bool {
        let agent = request.text(Name::UserAgent).unwrap_or_default().as_bytes();
        let begins_here = |rest: &[u8]| {
            let begins = |name: &[u8]| rest.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name));
            self.names.iter().any(|name| !name.is_empty() && begins(name.as_bytes()))
        };
        (0..agent.len()).any(|at| self.beginnings[usize::from(agent[at])] && begins_here(&agent[at..]))
    }
}
