//! What changes while a process runs: addresses that go and come back, and a wall clock that is set.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Settings, lower};

/// Clocks that differ by less drift apart by themselves.
const DRIFT: Duration = Duration::from_secs(5);

/// Addresses we listen or lend ports at that this machine does not have just now. Sockets stay bound to them, and work again
/// when the address is back.
pub(super) fn absent(settings: &Settings) -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let there: BTreeSet<IpAddr> = interfaces
        .filter_map(|interface| {
            let storage = interface.address?;
            let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect();
    let listeners = settings.addresses().into_iter().map(|address| address.addr.ip());
    let relay = settings.file.relay.iter();
    let lent =
        relay.flat_map(|relay| lower::relay_networks(settings, relay)).map(|(_, network)| network.bind);
    let wanted: BTreeSet<IpAddr> = listeners.chain(lent).collect();
    let is_absent = |ip: &&IpAddr| !ip.is_unspecified() && !ip.is_loopback() && !there.contains(ip);
    let words = |ip: &IpAddr| {
        format!("{ip} is not an address of this machine just now: nobody is met there until it is back")
    };
    wanted.iter().filter(is_absent).map(words).collect()
}

/// Both clocks at the start of a process.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    began: Instant,
    wall: SystemTime,
}

impl Clocks {
    /// As they are.
    pub fn now() -> Clocks {
        Clocks { began: Instant::now(), wall: SystemTime::now() }
    }

    /// The wall's time as services count it: from the start, whatever the wall clock has been set to since.
    pub fn wall(&self) -> SystemTime {
        self.wall_at(Instant::now())
    }

    fn wall_at(&self, now: Instant) -> SystemTime {
        self.wall + now.saturating_duration_since(self.began)
    }

    /// Whether the wall clock has been set since, and what that means.
    pub fn stepped(&self) -> Option<String> {
        self.stepped_at(Instant::now(), SystemTime::now())
    }

    fn stepped_at(&self, now: Instant, wall: SystemTime) -> Option<String> {
        let (by, way) = match wall.duration_since(self.wall_at(now)) {
            Ok(ahead) => (ahead, "on"),
            Err(behind) => (behind.duration(), "back"),
        };
        (by >= DRIFT).then(|| {
            format!(
                "the wall clock was set {way} by {} s since the start: calls, registrations and nonces go by a clock of \
                 their own and are as they were; other nodes take our proofs within 60 s of their clocks: `postern upgrade` \
                 takes the new time in",
                by.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_by_five_seconds_is_told_and_by_less_is_drift() {
        let clocks = Clocks::now();
        let (now, hour) = (clocks.began + Duration::from_secs(100), Duration::from_secs(3600));
        let right = clocks.wall + Duration::from_secs(100);
        assert_eq!(clocks.stepped_at(now, right), None);
        assert_eq!(clocks.stepped_at(now, right + DRIFT - Duration::from_millis(1)), None);
        assert!(clocks.stepped_at(now, right + DRIFT).unwrap().contains("set on by 5 s"));
        assert!(clocks.stepped_at(now, right + hour).unwrap().contains("set on by 3600 s"));
        assert!(clocks.stepped_at(now, right - hour).unwrap().contains("set back by 3600 s"));
    }
}
