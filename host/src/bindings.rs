//! The bindings of a service, kept small: each address of record has one piece of memory, with its bindings as they go to the
//! store (CBOR, RFC 8949). They are read into [`Binding`]s when somebody asks, and written anew when somebody edits them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Decoder, Encode, Encoder};
use proto::node::{Flow, FlowId, Transport};
use proto::tables::{Binding, UNREACHABLE};

/// Parts with a lock each, so that lanes seldom meet.
const PARTS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Bindings {
    parts: [RwLock<HashTable<Kept>>; PARTS],
    hasher: RandomState,
}

impl Default for Bindings {
    fn default() -> Self {
        Bindings { parts: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }
}

impl Bindings {
    fn hash(&self, aor: &[u8]) -> u64 {
        self.hasher.hash_one(aor)
    }

    /// By bits that a table does not choose its places by.
    fn part(&self, hash: u64) -> &RwLock<HashTable<Kept>> {
        &self.parts[(hash >> 32) as usize % PARTS]
    }

    /// Those of an address of record.
    pub fn of(&self, aor: &str) -> Vec<Binding> {
        let hash = self.hash(aor.as_bytes());
        let part = self.part(hash).read().unwrap_or_else(PoisonError::into_inner);
        part.find(hash, |kept| kept.is_of(aor)).map(Kept::bindings).unwrap_or_default()
    }

    /// Changes those of an address of record as one step. What changed is told while nobody else can change it; an empty
    /// record: there are none any more. Gives back those that are there now.
    pub fn edit(
        &self,
        aor: &str,
        edit: &mut dyn FnMut(&mut Vec<Binding>),
        tell: impl FnOnce(&[u8]),
    ) -> Vec<Binding> {
        let hash = self.hash(aor.as_bytes());
        let mut part = self.part(hash).write().unwrap_or_else(PoisonError::into_inner);
        let before = part.find(hash, |kept| kept.is_of(aor));
        let mut bindings = before.map(Kept::bindings).unwrap_or_default();
        edit(&mut bindings);
        let after = (!bindings.is_empty()).then(|| Kept::new(aor, &bindings));
        if before.map(Kept::record) == after.as_ref().map(Kept::record) {
            return bindings;
        }
        tell(after.as_ref().map_or(&[], Kept::record));
        match (part.entry(hash, |kept| kept.is_of(aor), |kept| self.hash(kept.aor())), after) {
            (Entry::Occupied(mut there), Some(kept)) => *there.get_mut() = kept,
            (Entry::Occupied(there), None) => drop(there.remove()),
            (Entry::Vacant(place), Some(kept)) => drop(place.insert(kept)),
            (Entry::Vacant(_), None) => {}
        }
        bindings
    }

    /// Takes back what was told in a former life; `false`: it can't be read. Whoever registered by a connection is
    /// unreachable until it registers again, for connections end with the process, and their identities are never given
    /// out again.
    pub fn restore(&self, aor: &str, record: &[u8]) -> bool {
        let Some(mut bindings) = read(record) else { return false };
        for binding in bindings.iter_mut().filter(|binding| binding.flow.id != FlowId(0)) {
            binding.unanswered = UNREACHABLE;
        }
        self.edit(aor, &mut |there| there.clone_from(&bindings), |_| {});
        true
    }

    /// Every address of record that has some.
    pub fn aors(&self) -> Vec<String> {
        self.aors_like(|_| true)
    }

    /// Every address of record that has some and is wanted. No part is locked for longer than copying its own takes.
    pub fn aors_like(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<String> {
        let mut aors = Vec::new();
        for part in &self.parts {
            let part = part.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = part.iter().map(Kept::aor).filter(|aor| is_wanted(aor));
            aors.extend(wanted.map(|aor| String::from_utf8_lossy(aor).into_owned()));
        }
        aors
    }

    /// Every record, with its address of record, as it goes to a store.
    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        let mut records = Vec::with_capacity(self.len());
        for part in &self.parts {
            let part = part.read().unwrap_or_else(PoisonError::into_inner);
            let each =
                |kept: &Kept| (String::from_utf8_lossy(kept.aor()).into_owned(), kept.record().to_vec());
            records.extend(part.iter().map(each));
        }
        records
    }

    /// How many have some.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// How many have one whose time is not over: a redirect server keeps the others, too, for a while.
    pub fn live(&self, wall: SystemTime) -> usize {
        let now = since_epoch(wall);
        let live = |part: &RwLock<HashTable<Kept>>| {
            let part = part.read().unwrap_or_else(PoisonError::into_inner);
            part.iter().filter(|kept| kept.latest_expiry().is_some_and(|expires| expires > now)).count()
        };
        self.parts.iter().map(live).sum()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An address of record and its bindings: both as CBOR, one behind the other.
#[derive(Debug)]
struct Kept(Box<[u8]>);

impl Kept {
    fn new(aor: &str, bindings: &[Binding]) -> Kept {
        let mut room = Vec::with_capacity(256);
        // Writing to a Vec cannot fail.
        let _ = Encoder::new(&mut room).bytes(aor.as_bytes()).map(drop);
        write(bindings, &mut room);
        Kept(room.into())
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        let mut decoder = Decoder::new(&self.0);
        let aor = decoder.bytes().unwrap_or_default();
        (aor, &self.0[decoder.position()..])
    }

    fn aor(&self) -> &[u8] {
        self.halves().0
    }

    fn is_of(&self, aor: &str) -> bool {
        self.aor() == aor.as_bytes()
    }

    fn record(&self) -> &[u8] {
        self.halves().1
    }

    /// When the last of its bindings expires. Nothing else is read.
    fn latest_expiry(&self) -> Option<u64> {
        let mut decoder = Decoder::new(self.record());
        let count = decoder.array().ok()??;
        (0..count).map_while(|_| expiry_of_next(&mut decoder)).max()
    }

    fn bindings(&self) -> Vec<Binding> {
        read(self.record()).unwrap_or_default()
    }
}

/// A binding as it is written down.
#[derive(Decode, Encode)]
#[cbor(array)]
struct Written<'a> {
    #[b(0)]
    contact: &'a str,
    #[b(1)]
    call_id: &'a str,
    #[n(2)]
    cseq: u32,
    #[n(3)]
    q: u16,
    /// Nanoseconds since the epoch.
    #[n(4)]
    expires: u64,
    #[n(5)]
    transport: u8,
    #[b(6)]
    local: &'a ByteSlice,
    #[b(7)]
    remote: &'a ByteSlice,
    #[n(8)]
    flow: u64,
    /// None: what stands behind the `@` of the Contact.
    #[b(9)]
    sent_by: Option<&'a str>,
    #[n(10)]
    behind_nat: bool,
    #[n(11)]
    unanswered: u8,
    #[b(12)]
    agent: Option<&'a str>,
    #[b(13)]
    instance: Option<&'a str>,
    #[n(14)]
    reg_id: Option<u32>,
    #[b(15)]
    path: Option<Vec<&'a str>>,
}

const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

fn write(bindings: &[Binding], to: &mut Vec<u8>) {
    let mut encoder = Encoder::new(to);
    // Writing to a Vec cannot fail.
    let _ = encoder.array(bindings.len() as u64).map(drop);
    for binding in bindings {
        let (mut local, mut remote) = ([0; ADDRESS], [0; ADDRESS]);
        let written = Written {
            contact: &binding.contact,
            call_id: &binding.call_id,
            cseq: binding.cseq,
            q: binding.q,
            expires: since_epoch(binding.expires),
            transport: TRANSPORTS.iter().position(|t| *t == binding.flow.transport).unwrap_or(0) as u8,
            local: write_address(binding.flow.local, &mut local).into(),
            remote: write_address(binding.flow.remote, &mut remote).into(),
            flow: binding.flow.id.0,
            sent_by: Some(binding.sent_by.as_str()).filter(|own| *own != behind_at(&binding.contact)),
            behind_nat: binding.behind_nat,
            unanswered: binding.unanswered,
            agent: binding.agent.as_deref(),
            instance: binding.instance.as_deref(),
            reg_id: binding.reg_id,
            path: (!binding.path.is_empty()).then(|| binding.path.iter().map(String::as_str).collect()),
        };
        let _ = encoder.encode(written).map(drop);
    }
}

/// Nanoseconds since the epoch.
fn since_epoch(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Reads over one [`Written`]: its `expires`.
fn expiry_of_next(decoder: &mut Decoder<'_>) -> Option<u64> {
    const BEFORE: u64 = 4;
    let fields = decoder.array().ok()??;
    (0..BEFORE).try_for_each(|_| decoder.skip()).ok()?;
    let expires = decoder.u64().ok()?;
    (BEFORE + 1..fields).try_for_each(|_| decoder.skip()).ok()?;
    Some(expires)
}

/// Every binding of a record; `None`: it is none.
fn read(record: &[u8]) -> Option<Vec<Binding>> {
    let mut decoder = Decoder::new(record);
    let count = decoder.array().ok()??;
    (0..count).map(|_| read_one(decoder.decode().ok()?)).collect()
}

fn read_one(written: Written<'_>) -> Option<Binding> {
    let transport = *TRANSPORTS.get(usize::from(written.transport))?;
    let (local, remote) = (read_address(written.local)?, read_address(written.remote)?);
    Some(Binding {
        contact: written.contact.to_owned(),
        call_id: written.call_id.to_owned(),
        cseq: written.cseq,
        q: written.q,
        expires: SystemTime::UNIX_EPOCH + Duration::from_nanos(written.expires),
        flow: Flow { transport, local, remote, id: FlowId(written.flow) },
        sent_by: written.sent_by.unwrap_or_else(|| behind_at(written.contact)).to_owned(),
        behind_nat: written.behind_nat,
        path: written.path.unwrap_or_default().into_iter().map(str::to_owned).collect(),
        instance: written.instance.map(str::to_owned),
        reg_id: written.reg_id,
        agent: written.agent.map(str::to_owned),
        unanswered: written.unanswered,
    })
}

fn behind_at(contact: &str) -> &str {
    contact.rsplit_once('@').map_or("", |(_, behind)| behind)
}

/// Port and IP address, and, where IPv6 has them, flow and scope.
const ADDRESS: usize = 2 + 16 + 4 + 4;

fn write_address(address: SocketAddr, to: &mut [u8; ADDRESS]) -> &[u8] {
    to[..2].copy_from_slice(&address.port().to_be_bytes());
    let length = match address {
        SocketAddr::V4(address) => {
            to[2..6].copy_from_slice(&address.ip().octets());
            6
        }
        SocketAddr::V6(address) => {
            to[2..18].copy_from_slice(&address.ip().octets());
            to[18..22].copy_from_slice(&address.flowinfo().to_be_bytes());
            to[22..].copy_from_slice(&address.scope_id().to_be_bytes());
            if address.flowinfo() == 0 && address.scope_id() == 0 { 18 } else { ADDRESS }
        }
    };
    &to[..length]
}

fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (port, bytes) = bytes.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    if let Ok(ip) = <[u8; 4]>::try_from(bytes) {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port));
    }
    let (ip, bytes) = bytes.split_first_chunk::<16>()?;
    let (flowinfo, scope) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[0; 4]));
    let scope = u32::from_be_bytes(scope.try_into().ok()?);
    Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, u32::from_be_bytes(*flowinfo), scope).into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn binding(contact: &str) -> Binding {
        Binding {
            contact: contact.into(),
            call_id: "c".into(),
            cseq: 1,
            q: 1000,
            expires: SystemTime::UNIX_EPOCH + Duration::new(1_900_000_000, 987_654_321),
            flow: Flow::udp(([192, 0, 2, 1], 5060).into(), ([198, 51, 100, 7], 1024).into()),
            sent_by: "10.0.0.1:5060".into(),
            behind_nat: true,
            path: vec!["<sip:edge.example;lr>".into(), "<sip:other.example;lr>".into()],
            instance: Some("urn:uuid:1".into()),
            reg_id: Some(1),
            agent: None,
            unanswered: 2,
        }
    }

    fn put(all: &Bindings, aor: &str, some: &[Binding]) -> Option<Vec<u8>> {
        let mut told = None;
        all.edit(aor, &mut |bindings| *bindings = some.to_vec(), |record| told = Some(record.to_vec()));
        told
    }

    #[test]
    fn whoever_has_a_binding_whose_time_is_not_over_counts() {
        let (all, over) = (Bindings::default(), binding("sip:over@10.0.0.1"));
        let longer = Binding { expires: over.expires + Duration::from_secs(1), ..over.clone() };
        put(&all, "both", &[longer.clone(), over.clone()]);
        put(&all, "turned", &[over.clone(), longer.clone()]);
        put(&all, "one", std::slice::from_ref(&over));
        let live = [over.expires - Duration::from_secs(1), over.expires, longer.expires];
        assert_eq!((all.len(), live.map(|wall| all.live(wall))), (3, [3, 2, 0]));
    }

    #[test]
    fn bindings_come_back_as_they_were() {
        let v6 = |text: &str| text.parse::<SocketAddr>().unwrap();
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 5060, 7, 3).into();
        let of = |transport, local, remote| Flow { transport, local, remote, id: FlowId(u64::MAX) };
        let some = [
            binding("sip:a@10.0.0.1"),
            Binding { agent: Some("Phone".into()), ..binding("sip:a@10.0.0.1:5060") },
            Binding { path: vec![], instance: None, reg_id: None, ..binding("sips:10.0.0.1:5060") },
            Binding { flow: of(Transport::Wss, v6("[2001:db8::1]:443"), scoped), ..binding("sip:a@[::1]") },
        ];
        let all = Bindings::default();
        put(&all, "alice@example.org", &some);
        assert_eq!(all.of("alice@example.org"), some);
        assert_eq!(all.of("alice@example.or"), []);
        assert_eq!((all.aors(), all.len()), (vec!["alice@example.org".to_owned()], 1));
    }

    #[test]
    fn only_what_changed_is_told_of() {
        let (all, [one, two]) = (Bindings::default(), ["sip:a@x", "sip:b@x"].map(binding));
        assert!(put(&all, "a@x", std::slice::from_ref(&one)).is_some_and(|record| !record.is_empty()));
        assert_eq!(put(&all, "a@x", std::slice::from_ref(&one)), None);
        assert!(put(&all, "a@x", &[one, two]).is_some());
        assert_eq!(put(&all, "a@x", &[]), Some(vec![]));
        assert_eq!(put(&all, "a@x", &[]), None);
        assert!(all.is_empty());
    }

    #[test]
    fn whoever_registered_by_a_connection_is_unreachable_in_the_next_life() {
        let by = |id| Binding {
            flow: Flow { transport: Transport::Tcp, id: FlowId(id), ..binding("sip:a@10.0.0.1").flow },
            ..binding("sip:a@10.0.0.1")
        };
        let record = put(&Bindings::default(), "a@x", &[by(7), by(0)]).unwrap();
        let again = Bindings::default();
        assert!(again.restore("a@x", &record));
        let [first, second] = &again.of("a@x")[..] else { panic!("two bindings") };
        assert!(first.is_unreachable());
        assert_eq!(*second, by(0));
        assert!(!again.restore("b@x", &record[..record.len() - 1]), "half a record");
        assert!(!again.restore("b@x", b"[]"), "no record at all");
    }
}
