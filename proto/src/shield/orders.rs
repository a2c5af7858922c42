//! What an operator may ask of the shield, and tell it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{ALLOWED, Ban, Counts, Shield, counted_as, is_exempt, why};
use crate::cidr::Cidr;

impl Shield {
    /// The bans that hold, the newest first.
    pub fn banned(&self, now: Instant) -> Vec<Ban> {
        self.bans.list(self.ms(now))
    }

    /// Shuts a source out for so long, whoever is behind it. `None`: it is on the list of those to let pass.
    pub fn ban(&mut self, now: Instant, source: IpAddr, lasts: Duration) -> Option<Ban> {
        if is_exempt(&self.policy, &self.allowed, source) {
            return None;
        }
        let (now, source) = (self.ms(now), counted_as(source));
        let ban = Ban::new(source, "", why::OPERATOR).by_operator();
        Some(self.bans.put(now, self.whole(source), ban, lasts))
    }

    /// Lets a range pass from now on, until the next start; gives back how many bans that lifted. `None`: too many are
    /// let pass already.
    pub fn allow(&mut self, range: Cidr) -> Option<usize> {
        let range = if range.network().is_ipv6() && range.prefix() > 64 {
            Cidr::new(range.network(), 64)
        } else {
            range
        };
        if !self.allowed.contains(&range) {
            if self.allowed.len() >= ALLOWED {
                return None;
            }
            self.allowed.push(range);
        }
        Some(self.bans.retain(|ban| !range.contains(ban.source)))
    }

    /// Whom the operator lets pass until the next start.
    pub fn allowed(&self) -> &[Cidr] {
        &self.allowed
    }

    /// Totals since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
