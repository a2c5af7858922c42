//! The table of ways out, byte for byte as `forward.bpf.c` has it, and how it is kept true.
//!
//! Streams that leave through the same neighbour share a way. A neighbour that gets another address, or loses it, is
//! written at once. Where routes, rules or interfaces change, nobody asks what that means for each stream: every way there is
//! becomes one by which the kernel looks for the route packet by packet, until its last stream has ended, and streams that
//! are handed down later get new ones.

use std::collections::HashMap;
use std::net::IpAddr;

use aya::maps::{Array, MapData};

use super::netlink::{self, Change, Ethernet, Hop, Link};

/// Bytes of `struct way`.
pub(super) const WAY: usize = 48;

const INTERFACE: usize = 0;
const HOW: usize = 4;
const FAMILY: usize = 8;
const NEXT_HOP: usize = 12;
const TO: usize = 28;
const FROM: usize = 34;

/// `enum how`.
const ROUTE: u32 = 0;
const NEIGHBOUR: u32 = 1;
const ADDRESS: u32 = 2;
const PEER: u32 = 3;

/// `struct way`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way(pub(super) [u8; WAY]);

impl Way {
    /// With as much as is known of it.
    pub(super) fn new(hop: Hop, link: Option<Link>, neighbour: Option<Ethernet>) -> Way {
        let mut way = Way([0; WAY]);
        way.set_u32(INTERFACE, hop.interface);
        way.set_u32(HOW, ROUTE);
        let Some(next) = hop.next else { return way };
        let family = match next {
            IpAddr::V4(ip) => {
                way.0[NEXT_HOP..NEXT_HOP + 4].copy_from_slice(&ip.octets());
                libc::AF_INET
            }
            IpAddr::V6(ip) => {
                way.0[NEXT_HOP..NEXT_HOP + 16].copy_from_slice(&ip.octets());
                libc::AF_INET6
            }
        };
        way.set_u32(FAMILY, family as u32);
        way.set_u32(HOW, NEIGHBOUR);
        if let (Some(link), Some(neighbour)) = (link, neighbour) {
            way.0[TO..TO + 6].copy_from_slice(&neighbour);
            way.0[FROM..FROM + 6].copy_from_slice(&link.address);
            way.set_u32(HOW, if link.cable { PEER } else { ADDRESS });
        }
        way
    }

    /// The same with nothing but the interface.
    fn by_route(self) -> Way {
        let mut way = Way([0; WAY]);
        way.0[INTERFACE..INTERFACE + 4].copy_from_slice(&self.0[INTERFACE..INTERFACE + 4]);
        way
    }

    /// The same, but its neighbour's address is the kernel's to find.
    fn by_neighbour(mut self) -> Way {
        self.set_u32(HOW, NEIGHBOUR);
        self
    }

    fn has_addresses(self) -> bool {
        self.u32(HOW) >= ADDRESS
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u32(self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }
}

/// Where ways are written: the kernel's table.
pub(super) trait Table {
    fn len(&self) -> u32;
    fn set(&mut self, number: u32, way: Way) -> Result<(), String>;
}

impl Table for Array<MapData, [u8; WAY]> {
    fn len(&self) -> u32 {
        Array::len(self)
    }

    fn set(&mut self, number: u32, way: Way) -> Result<(), String> {
        Array::set(self, number, way.0, 0).map_err(|error| error.to_string())
    }
}

/// See the module.
pub(super) struct Ways<T> {
    table: T,
    /// Those that are true, by where they lead.
    known: HashMap<Hop, u32>,
    /// By number: what is written, and how many streams leave by it.
    written: Vec<(Way, usize)>,
    free: Vec<u32>,
    /// Changes are heard of.
    watched: bool,
}

impl<T> std::fmt::Debug for Ways<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ways({:?})", self.known)
    }
}

impl<T: Table> Ways<T> {
    pub(super) fn new(table: T) -> Ways<T> {
        Ways { table, known: HashMap::new(), written: Vec::new(), free: Vec::new(), watched: true }
    }

    /// One stream more that leaves through this neighbour: the number of its way.
    pub(super) fn take(&mut self, hop: Hop) -> Result<u32, String> {
        if let Some(number) = self.known.get(&hop) {
            self.written[*number as usize].1 += 1;
            return Ok(*number);
        }
        let way = match self.watched {
            true => Way::new(hop, netlink::link(hop.interface), netlink::neighbour(hop)),
            false => Way::new(hop, None, None).by_route(),
        };
        self.enter(hop, way)
    }

    fn enter(&mut self, hop: Hop, way: Way) -> Result<u32, String> {
        let number = self.free.last().copied().unwrap_or(self.written.len() as u32);
        if number >= self.table.len() {
            return Err("there is no room for more ways out".to_owned());
        }
        self.table.set(number, way)?;
        match self.free.pop() {
            Some(_) => self.written[number as usize] = (way, 1),
            None => self.written.push((way, 1)),
        }
        self.known.insert(hop, number);
        Ok(number)
    }

    /// One stream less.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some((_, streams)) = self.written.get_mut(number as usize) else { return };
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            self.known.retain(|_, known| *known != number);
            self.free.push(number);
        }
    }

    /// Something changed on this machine or around it.
    pub(super) fn hear(&mut self, change: Change) {
        match change {
            Change::Ways => self.doubt_all(),
            Change::Neighbour(hop, address) => {
                let Some(number) = self.known.get(&hop).copied() else { return };
                let link = address.and_then(|_| netlink::link(hop.interface));
                self.write(number, Way::new(hop, link, address));
            }
        }
    }

    /// Nothing more will be heard: the kernel looks for every packet's route.
    pub(super) fn hear_no_more(&mut self) {
        self.watched = false;
        self.doubt_all();
    }

    fn doubt_all(&mut self) {
        self.known.clear();
        for number in 0..self.written.len() {
            let (way, streams) = self.written[number];
            if streams > 0 {
                self.write(number as u32, way.by_route());
            }
        }
    }

    /// The kernel may be reading: addresses change while it does not use them.
    fn write(&mut self, number: u32, way: Way) {
        let Some((written, _)) = self.written.get_mut(number as usize) else { return };
        let before = std::mem::replace(written, way);
        if before == way {
            return;
        }
        let steps = if before.has_addresses() { vec![before.by_neighbour()] } else { Vec::new() };
        let steps = steps.into_iter().chain(way.has_addresses().then(|| way.by_neighbour())).chain([way]);
        for step in steps {
            if let Err(error) = self.table.set(number, step) {
                tracing::warn!(error, "a way out of the kernel path can't be written");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Written(Vec<(u32, u32)>);

    impl Table for Written {
        fn len(&self) -> u32 {
            2
        }

        fn set(&mut self, number: u32, way: Way) -> Result<(), String> {
            self.0.push((number, way.u32(HOW)));
            Ok(())
        }
    }

    const NEAR: Ethernet = [2, 0, 0, 0, 0, 1];
    const LINK: Link = Link { address: NEAR, cable: false };

    fn hop(last: u8) -> Hop {
        // An interface this machine does not have.
        Hop { interface: 0x7fff_0000, next: Some(IpAddr::from([192, 0, 2, last])) }
    }

    fn ways() -> Ways<Written> {
        Ways::new(Written(Vec::new()))
    }

    #[test]
    fn a_way_is_as_good_as_what_is_known_of_it() {
        let how = |link, neighbour| Way::new(hop(1), link, neighbour).u32(HOW);
        assert_eq!(how(Some(LINK), None), NEIGHBOUR);
        assert_eq!(how(None, Some(NEAR)), NEIGHBOUR);
        assert_eq!(how(Some(LINK), Some(NEAR)), ADDRESS);
        assert_eq!(how(Some(Link { cable: true, ..LINK }), Some(NEAR)), PEER);
        assert_eq!(Way::new(Hop { next: None, ..hop(1) }, Some(LINK), Some(NEAR)).u32(HOW), ROUTE);
    }

    #[test]
    fn streams_through_one_neighbour_share_a_way_and_its_place_is_free_after_the_last() {
        let mut ways = ways();
        assert_eq!((ways.take(hop(1)), ways.take(hop(1)), ways.take(hop(2))), (Ok(0), Ok(0), Ok(1)));
        assert!(ways.take(hop(3)).is_err(), "two have room");
        ways.give_back(0);
        assert!(ways.take(hop(3)).is_err(), "one stream still leaves by it");
        ways.give_back(0);
        assert_eq!(ways.take(hop(3)), Ok(0));
    }

    #[test]
    fn addresses_change_while_they_are_not_used() {
        let mut ways = ways();
        let [first, second] = [1, 2].map(|last| Way::new(hop(1), Some(LINK), Some([2, 0, 0, 0, 0, last])));
        ways.enter(hop(1), first).unwrap();
        ways.write(0, second);
        let all = [(0, ADDRESS), (0, NEIGHBOUR), (0, NEIGHBOUR), (0, ADDRESS)];
        assert_eq!(ways.table.0, all);
        ways.write(0, second);
        assert_eq!(ways.table.0, all, "nothing new, nothing written");
    }

    #[test]
    fn a_neighbour_that_is_lost_is_the_kernels_to_find() {
        let mut ways = ways();
        ways.enter(hop(1), Way::new(hop(1), Some(LINK), Some(NEAR))).unwrap();
        ways.hear(Change::Neighbour(hop(2), None));
        assert_eq!(ways.table.0, [(0, ADDRESS)], "another one's");
        ways.hear(Change::Neighbour(hop(1), None));
        assert_eq!(ways.written[0].0.u32(HOW), NEIGHBOUR);
    }

    #[test]
    fn after_a_change_of_routes_no_way_is_trusted_and_new_streams_get_new_ones() {
        let mut ways = ways();
        ways.enter(hop(1), Way::new(hop(1), Some(LINK), Some(NEAR))).unwrap();
        ways.hear(Change::Ways);
        assert_eq!(ways.written[0].0.u32(HOW), ROUTE);
        ways.hear(Change::Neighbour(hop(1), Some(NEAR)));
        assert_eq!(ways.written[0].0.u32(HOW), ROUTE, "its streams may go elsewhere by now");
        assert_eq!(ways.take(hop(1)), Ok(1));
        ways.give_back(0);
        assert_eq!((ways.take(hop(1)), ways.take(hop(2))), (Ok(1), Ok(0)));
    }

    #[test]
    fn who_hears_of_no_changes_trusts_nothing() {
        let mut ways = ways();
        ways.hear_no_more();
        ways.take(hop(1)).unwrap();
        assert_eq!(ways.written[0].0.u32(HOW), ROUTE);
    }
}
