//! The post office: which seat of which lane serves an address of ours, and which of several lanes a call belongs to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use proto::node::{Flow, FlowId, Input, Transport};
use proto::sip::Message;
use proto::token::Keys;

use super::mailbox::{Letter, Mailbox};

/// Addresses in the life of a process, those it has left included: as many as tokens can name.
const PLACES: usize = 256;
/// Requests of our own that are remembered at most, to find the lane their responses belong to.
const ABROAD: usize = 65_536;
/// How long such a request may be answered.
const ABROAD_LIFE: Duration = Duration::from_secs(300);

/// The seats that serve one service: one on each lane that shares its work.
pub type Seats = Arc<[Address]>;

/// A seat's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the lane.
    pub lane: usize,
    /// Index of the seat on it.
    pub seat: usize,
}

/// An address of ours.
#[derive(Debug)]
struct Served {
    at: (Transport, SocketAddr),
    seats: Seats,
    is_gone: AtomicBool,
}

/// Knows every lane and every address of ours.
#[derive(Debug)]
pub struct PostOffice {
    lanes: Vec<Arc<Mailbox>>,
    /// Few, and looked through for every message that leaves: comparing is faster than hashing. Filled from the front, and
    /// nobody waits for a lock.
    served: Box<[OnceLock<Served>]>,
    /// Keyed, so that nobody can choose a lane, and the same after a restart, so that what a lane took up again is found.
    spread: [u8; 32],
    /// What opens the hidden names of calls.
    names: Keys,
    abroad: DashMap<u64, (Address, Instant)>,
}

impl PostOffice {
    /// For lanes with these mailboxes, and the seats behind each listening address; `spread` keys the calls' hashes.
    pub fn new(
        lanes: Vec<Arc<Mailbox>>,
        served: HashMap<(Transport, SocketAddr), Seats>,
        spread: [u8; 32],
    ) -> PostOffice {
        let places = (0..PLACES.max(served.len())).map(|_| OnceLock::new()).collect();
        let post =
            PostOffice { lanes, served: places, spread, names: Keys(Vec::new()), abroad: DashMap::new() };
        for (at, seats) in served {
            post.serve(at, seats);
        }
        post
    }

    /// The same, finding the lane of calls whose names are hidden under these keys, too.
    pub fn unsealing(self, names: Keys) -> PostOffice {
        PostOffice { names, ..self }
    }

    /// An address more; `false`: there have been too many.
    pub fn serve(&self, at: (Transport, SocketAddr), seats: Seats) -> bool {
        let mut served = Served { at, seats, is_gone: AtomicBool::new(false) };
        for place in &self.served {
            match place.set(served) {
                Ok(()) => return true,
                Err(back) => served = back,
            }
            if let Some(there) = place.get().filter(|there| there.at == at) {
                there.is_gone.store(false, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// An address is no longer ours.
    pub fn leave(&self, at: (Transport, SocketAddr)) {
        let there = self.served.iter().map_while(OnceLock::get).filter(|served| served.at == at);
        there.for_each(|served| served.is_gone.store(true, Ordering::Relaxed));
    }

    fn served(&self) -> impl Iterator<Item = &Served> {
        let all = self.served.iter().map_while(OnceLock::get);
        all.filter(|served| !served.is_gone.load(Ordering::Relaxed))
    }

    fn hash(&self, call: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.spread, call);
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
    }

    /// Of a message: all names of a call are one here, whichever network it was met in.
    fn hash_of(&self, message: &Message) -> u64 {
        self.hash_of_call(message.call_id())
    }

    fn hash_of_call(&self, call_id: &str) -> u64 {
        self.hash(self.names.innermost(call_id).as_bytes())
    }

    /// The seats behind an address of ours.
    pub fn seats(&self, transport: Transport, local: SocketAddr) -> Option<&Seats> {
        self.served().find(|served| served.at == (transport, local)).map(|served| &served.seats)
    }

    /// What we can send by, the preferred one first. Nobody is connected to over WebSocket (RFC 7118 §5).
    pub fn transports(&self) -> Vec<Transport> {
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
        all.into_iter().filter(|wanted| self.served().any(|served| served.at.0 == *wanted)).collect()
    }

    /// Which of the seats a message is for: the one that owns its Call-ID, or that sent the request it answers.
    pub fn owner(&self, seats: &Seats, message: &Message) -> Address {
        match &seats[..] {
            [only] => *only,
            several => {
                let hash = self.hash_of(message);
                let asked =
                    if message.is_request() { None } else { self.abroad.get(&hash).map(|entry| entry.0) };
                asked.unwrap_or(seat_of(several, hash))
            }
        }
    }

    /// The same for a request of this Call-ID.
    pub fn owner_of_call(&self, seats: &Seats, call_id: &str) -> Address {
        match &seats[..] {
            [only] => *only,
            several => seat_of(several, self.hash_of_call(call_id)),
        }
    }

    /// The same for what is not SIP: an ng command belongs to its call's lane, anything else to the first.
    pub fn owner_of_other(&self, seats: &Seats, bytes: &[u8]) -> Address {
        match &seats[..] {
            [only] => *only,
            several => match relay::ng::command::call_id(bytes) {
                Some(call) => seat_of(several, self.hash(&call)),
                None => several[0],
            },
        }
    }

    /// Remembers that a seat sent a request whose Call-ID belongs to another: its answer must find back.
    pub fn sent(&self, from: Address, seats: &Seats, message: &Message, now: Instant) {
        if seats.len() < 2 || !message.is_request() {
            return;
        }
        let hash = self.hash_of(message);
        if seat_of(seats, hash) == from {
            return;
        }
        if self.abroad.len() >= ABROAD {
            self.abroad.retain(|_, (_, at)| now.saturating_duration_since(*at) < ABROAD_LIFE);
        }
        self.abroad.insert(hash, (from, now));
    }

    /// Leaves an input at a seat.
    pub fn post(&self, to: Address, input: Input) -> Result<(), Letter> {
        self.lanes[to.lane].post((to.seat, input))
    }

    /// A lane's mailbox.
    pub fn mailbox(&self, lane: usize) -> &Arc<Mailbox> {
        &self.lanes[lane]
    }

    /// All of them.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.lanes.iter()
    }
}

/// The path as the other end of a hand-over in memory sees it.
pub fn turned(flow: Flow) -> Flow {
    Flow { local: flow.remote, remote: flow.local, id: FlowId(0), ..flow }
}

/// The seat that owns what has this hash.
fn seat_of(seats: &[Address], hash: u64) -> Address {
    seats[(hash % seats.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::hidden::{CALL, mark};

    use super::*;

    fn named(call: &str) -> Message {
        let text = format!(
            "OPTIONS sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
             To: <sip:b@x>\r\nCall-ID: {call}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn all_names_of_a_call_belong_to_one_lane() {
        let keys = Keys(vec![[1; 32]]);
        let post = PostOffice::new(Vec::new(), HashMap::new(), [7; 32]).unsealing(keys.clone());
        let seats: Seats = (0..16).map(|lane| Address { lane, seat: 0 }).collect();
        let owners: Vec<Address> = (0..8)
            .map(|call| {
                let call = format!("{call}@10.0.0.50");
                let names = [keys.hide(CALL, &call).unwrap(), mark("outside") + &call, call];
                let [hidden, marked, plain] = names.map(|name| post.owner(&seats, &named(&name)));
                assert_eq!((hidden, marked), (plain, plain));
                plain
            })
            .collect();
        assert!(owners.iter().any(|owner| *owner != owners[0]), "calls are spread over lanes");
    }
}
