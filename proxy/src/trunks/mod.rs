//! Trunks: groups of servers of one carrier, PBX or peer, which of them is tried when, and how they are doing.
//!
//! [`trunk`] holds what an operator says, [`health`] asks the servers with OPTIONS, [`load`] counts calls, and
//! [`failover`] goes on to the next server within one call setup. [`Trunks`] puts servers in the order to try them:
//! what is down goes last, then the route's own order of trunks, then priority, then chance by weight (RFC 2782).

pub(crate) mod failover;
pub mod health;
pub(crate) mod load;
pub mod login;
pub mod rules;
mod speaking;
pub mod trunk;
pub mod upstream;

use std::sync::Arc;

use proto::event::Name;
use proto::node::{Dice, Lane};

pub use trunk::{Caps, Server, Trunk};

use crate::config::Config;
use crate::moment::Moment;
use health::{Health, ServerStatus};
use load::Loads;
use upstream::{Standing, Upstream};

/// One server of one trunk, chosen to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// The trunk.
    pub(crate) trunk: Arc<Trunk>,
    /// Which of its servers.
    pub(crate) server: usize,
}

impl Chosen {
    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.trunk.servers[self.server]
    }
}

/// What is known of all trunks while the proxy runs.
#[derive(Debug)]
pub(crate) struct Trunks {
    pub(crate) health: Health,
    pub(crate) loads: Loads,
    pub(crate) upstream: Upstream,
    dice: Dice,
}

/// How a trunk stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkStatus {
    /// Its name.
    pub name: Name,
    /// Calls that are up on it, both ways.
    pub calls: u32,
    /// The most it may have on this lane, if there is a limit.
    pub most: Option<u32>,
    /// Calls that found it full.
    pub full: u64,
    /// How our registration there stands, if there is one on this lane.
    pub standing: Option<Standing>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

impl Trunks {
    /// Nothing known yet.
    pub(crate) fn new(dice: Dice, health: Dice, upstream: Dice, lane: Lane) -> Trunks {
        let upstream = Upstream::new(upstream, lane);
        Trunks { health: Health::new(health), loads: Loads::new(lane), upstream, dice }
    }

    /// Every server of these trunks, in the order to try them.
    pub(crate) fn order<'t>(&mut self, trunks: impl Iterator<Item = &'t Arc<Trunk>>) -> Vec<Chosen> {
        let mut keyed = Vec::new();
        for (place, trunk) in trunks.enumerate() {
            for (server, settings) in trunk.servers.iter().enumerate() {
                let chosen = Chosen { trunk: trunk.clone(), server };
                let down = self.health.is_down(&trunk.name, &settings.name);
                keyed.push(((down, place, settings.priority), self.draw(settings.weight), chosen));
            }
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        keyed.into_iter().map(|(_, _, chosen)| chosen).collect()
    }

    /// A race in which each server wins as often as its weight says: the least of exponential draws.
    fn draw(&mut self, weight: u16) -> f64 {
        let uniform = (self.dice.below(1 << 52) + 1) as f64 / (1u64 << 52) as f64;
        -uniform.ln() / f64::from(weight).max(1e-6)
    }

    /// How every trunk stands.
    pub(crate) fn status(&self, now: Moment, config: &Config) -> Vec<TrunkStatus> {
        let of = |trunk: &Arc<Trunk>| {
            let (calls, full) = self.loads.of(&trunk.name);
            let servers = trunk.servers.iter().map(|server| self.health.status(now, trunk, server)).collect();
            let (most, standing) = (self.loads.most(trunk), self.upstream.standing(now, trunk));
            TrunkStatus { name: trunk.name.clone(), calls, most, full, standing, servers }
        };
        config.trunks.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::Clock;

    fn trunks() -> Trunks {
        let dice = Clock::new().dice();
        Trunks::new(dice.clone(), dice.clone(), dice, Lane::default())
    }

    fn trunk(name: &str, servers: &[(&str, u16, u16)]) -> Arc<Trunk> {
        let server = |&(host, priority, weight): &(&str, u16, u16)| Server {
            priority,
            weight,
            ..Server::at(host, Some(5060), None)
        };
        Arc::new(Trunk { servers: servers.iter().map(server).collect(), ..Trunk::named(name) })
    }

    fn order(trunks: &mut Trunks, of: &[Arc<Trunk>]) -> Vec<String> {
        trunks.order(of.iter()).iter().map(|chosen| chosen.server().next.host.clone()).collect()
    }

    #[test]
    fn trunks_in_the_routes_order_then_servers_by_priority() {
        let a = trunk("a", &[("192.0.2.2", 2, 1), ("192.0.2.1", 1, 1)]);
        let b = trunk("b", &[("192.0.2.3", 0, 1)]);
        assert_eq!(order(&mut trunks(), &[a, b]), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn weight_decides_how_often_a_server_comes_first() {
        let mut trunks = trunks();
        let a = [trunk("a", &[("192.0.2.1", 1, 3), ("192.0.2.2", 1, 1)])];
        let first = (0..1000).filter(|_| order(&mut trunks, &a)[0] == "192.0.2.1").count();
        assert!((700..800).contains(&first), "{first} of 1000");
    }

    #[test]
    fn what_is_down_goes_last() {
        let mut trunks = trunks();
        let a = trunk("a", &[("192.0.2.1", 1, 1)]);
        let b = trunk("b", &[("192.0.2.2", 1, 1)]);
        trunks.health.failed(Clock::new().now(), &a, 0, "no answer to INVITE");
        assert_eq!(order(&mut trunks, &[a, b]), ["192.0.2.2", "192.0.2.1"]);
    }
}
