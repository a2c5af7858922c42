//! Which services run, on how many lanes, and who sits where.

use crate::config::Settings;
use crate::config::values::SipAddress;
use crate::lanes::post::{Address, Seats};

/// One group of lanes that share the work of a service, and the addresses in front of it.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) count: usize,
    pub(super) addresses: Vec<SipAddress>,
    /// It sits on the first lane, beside the service there.
    pub(super) shares: bool,
}

/// Which services run, on how many lanes, behind which addresses; in the order of [`Settings::addresses`].
pub(super) fn plans(settings: &Settings) -> Vec<Plan> {
    let file = &settings.file;
    let proxy = file.proxy.iter().map(|proxy| Plan {
        name: "proxy",
        count: usize::from(proxy.lanes.max(1)),
        addresses: file.listeners.iter().map(|listener| listener.address).collect(),
        shares: false,
    });
    let relay = file.relay.iter().map(|relay| Plan {
        name: "relay",
        count: usize::from(relay.threads.max(1)),
        addresses: relay.addresses().collect(),
        shares: relay.threads == 0 && file.proxy.is_some(),
    });
    let redirect = file.redirect.iter().map(|redirect| Plan {
        name: "redirect",
        count: 1,
        addresses: vec![redirect.address],
        shares: false,
    });
    let access = file.access.iter().map(|access| Plan {
        name: "access",
        count: 1,
        addresses: access.addresses(),
        shares: false,
    });
    let reflector = file.reflector.iter().map(|reflector| Plan {
        name: "reflector",
        count: usize::from(reflector.threads),
        addresses: vec![reflector.address],
        shares: false,
    });
    proxy.chain(relay).chain(redirect).chain(access).chain(reflector).collect()
}

/// Every service has lanes of its own, but one that shares the first lane.
pub(super) fn seats_of(plans: &[Plan]) -> impl Iterator<Item = Seats> + '_ {
    let mut first = 0;
    plans.iter().map(move |plan| {
        if plan.shares {
            return Seats::from([Address { lane: 0, seat: 1 }]);
        }
        let lanes = first..first + plan.count;
        first += plan.count;
        lanes.map(|lane| Address { lane, seat: 0 }).collect()
    })
}

pub(super) fn lane_count(plans: &[Plan]) -> usize {
    plans.iter().filter(|plan| !plan.shares).map(|plan| plan.count).sum()
}
