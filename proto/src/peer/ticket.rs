//! The reflector's papers: bind tickets, tokens, and the headers on the wire.
//!
//! ```text
//!  to the reflector, 44 bytes                                         from it, 24 bytes
//!  | magic 16 | version, flags 8 | key 8 |                             | magic 16 | version, flags 8 | key 8 |
//!  | expiry, seconds since 1970, 32      |                             | source address 128                  |
//!  | destination address 128             |                             | source port 16 | class 8 | hops 8   |
//!  | destination port 16 | class 8 | hops 8 |                          | what was sent …
//!  | MAC 128                             |
//!  | what is sent …
//! ```
//!
//! The MAC is keyed BLAKE3 over the header before it and the *source* of the packet: the mapping that the reflector's
//! own STUN answer showed, because a symmetric NAT's port towards the reflector is known nowhere else. So a token serves
//! one sender to one destination. It is minted by the access server, for buddies, and only towards a destination that
//! has proven it can receive there: by the bind ticket of that STUN answer.
//!
//! ```text
//!  bind ticket, 24 bytes   | version 8 | key 8 | 0 16 | expiry 32 | MAC 128 over this and the address |
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use constant_time_eq::constant_time_eq;

/// The first two bytes of either header: no STUN, DTLS, RTP or SIP begins so (RFC 7983).
pub const MAGIC: [u8; 2] = [0xf7, 0x52];
/// The version of the formats.
pub const VERSION: u8 = 1;
/// Length of the header to the reflector, and of a token.
pub const TOKEN: usize = 44;
/// Length of the header from it.
pub const REFLECTED: usize = 24;
/// Length of a bind ticket.
pub const BIND: usize = 24;
/// Reflectors a packet may pass.
pub const HOPS: u8 = 1;
/// How long a bind ticket is good, in seconds.
pub const BIND_LIFE_S: u32 = 600;
/// How long a token is good, in seconds.
pub const TOKEN_LIFE_S: u32 = 3600;

const MAC: usize = 16;
const SIGNED: usize = TOKEN - MAC;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A first message: SIP.
    Message,
    /// A check of a path.
    Check,
}

impl Class {
    /// From the wire.
    pub fn from_byte(byte: u8) -> Option<Class> {
        match byte {
            0 => Some(Class::Message),
            1 => Some(Class::Check),
            _ => None,
        }
    }

    /// On the wire.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

/// Two live keys by number. Keys made [`Keys::from_secret`] turn by the clock: whoever has the secret has the same keys at the
/// same time, so nobody needs to be told, and a restart changes nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// What the keys derive from; none: they stay as they are.
    secret: Option<[u8; 32]>,
    /// The term of the newer key.
    term: u32,
    live: [Option<(u8, [u8; 32])>; 2],
    /// Which of the two signs.
    signs: usize,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.live.map(|key| key.map(|(number, _)| number)))
    }
}

impl Keys {
    /// With one key, for ever.
    pub fn new(number: u8, key: [u8; 32]) -> Keys {
        Keys { live: [Some((number, key)), None], ..Keys::default() }
    }

    /// With a new key every two hours.
    pub fn from_secret(secret: [u8; 32], unix_now: u32) -> Keys {
        let mut keys = Keys { secret: Some(secret), term: u32::MAX, ..Keys::default() };
        keys.keep_time(unix_now);
        keys
    }

    /// The keys of this moment: the one that signs now, and the one before it, or, a minute before the turn, the next.
    pub fn keep_time(&mut self, unix_now: u32) {
        let Some(secret) = &self.secret else { return };
        let term = unix_now.saturating_add(SLACK_S) / TERM_S;
        if term != self.term {
            self.live = [term, term.saturating_sub(1)].map(|term| Some((term as u8, term_key(secret, term))));
            self.term = term;
        }
        self.signs = usize::from(unix_now / TERM_S != term);
    }

    fn signing(&self) -> Option<(u8, &[u8; 32])> {
        self.live[self.signs].as_ref().map(|(number, key)| (*number, key))
    }

    fn numbered(&self, wanted: u8) -> Option<&[u8; 32]> {
        self.live.iter().flatten().find(|(number, _)| *number == wanted).map(|(_, key)| key)
    }

    /// A proof that whoever is seen at this address heard our answer.
    pub fn bind(&self, seen: SocketAddr, unix_now: u32) -> Option<[u8; BIND]> {
        let (number, key) = self.signing()?;
        let mut ticket = [0; BIND];
        ticket[..2].copy_from_slice(&[VERSION, number]);
        ticket[4..8].copy_from_slice(&unix_now.saturating_add(BIND_LIFE_S).to_be_bytes());
        let mac = bind_mac(key, &ticket[..8], seen);
        ticket[8..].copy_from_slice(&mac);
        Some(ticket)
    }

    /// Whether a ticket proves this address now.
    pub fn is_bound(&self, ticket: &[u8; BIND], seen: SocketAddr, unix_now: u32) -> bool {
        let expiry = u32::from_be_bytes([ticket[4], ticket[5], ticket[6], ticket[7]]);
        let key = self.numbered(ticket[1]).filter(|_| ticket[0] == VERSION && expiry >= unix_now);
        key.is_some_and(|key| constant_time_eq(&bind_mac(key, &ticket[..8], seen), &ticket[8..]))
    }

    /// A token: whoever is seen at `from` may have packets passed on to `to`.
    pub fn mint(&self, from: SocketAddr, to: SocketAddr, class: Class, unix_now: u32) -> Option<[u8; TOKEN]> {
        let (number, key) = self.signing()?;
        let mut token = [0; TOKEN];
        token[..2].copy_from_slice(&MAGIC);
        token[2..4].copy_from_slice(&[VERSION, number]);
        token[4..8].copy_from_slice(&unix_now.saturating_add(TOKEN_LIFE_S).to_be_bytes());
        token[8..24].copy_from_slice(&octets(to.ip()));
        token[24..26].copy_from_slice(&to.port().to_be_bytes());
        token[26..28].copy_from_slice(&[class.byte(), HOPS]);
        let mac = token_mac(key, &token[..SIGNED], from);
        token[SIGNED..].copy_from_slice(&mac);
        Some(token)
    }

    /// The checks of a packet, in order, those that cost least first. Where it goes, and what it is.
    pub fn check(&self, packet: &[u8], from: SocketAddr, unix_now: u32) -> Result<(SocketAddr, Class), Why> {
        let header = packet.first_chunk::<TOKEN>().filter(|_| packet.len() > TOKEN).ok_or(Why::Length)?;
        if header[..2] != MAGIC || header[2] != VERSION {
            return Err(Why::Magic);
        }
        if header[27] == 0 || header[27] > HOPS {
            return Err(Why::Hops);
        }
        let expiry = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if expiry < unix_now || expiry > unix_now.saturating_add(TOKEN_LIFE_S + SLACK_S) {
            return Err(Why::Expired);
        }
        let key = self.numbered(header[3]).ok_or(Why::Forged)?;
        if !constant_time_eq(&token_mac(key, &header[..SIGNED], from), &header[SIGNED..]) {
            return Err(Why::Forged);
        }
        let mut ip = [0; 16];
        ip.copy_from_slice(&header[8..24]);
        let to = SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(),
            u16::from_be_bytes([header[24], header[25]]),
        );
        Class::from_byte(header[26]).map(|class| (to, class)).ok_or(Why::Destination)
    }
}

/// How far the clocks of an access server and a reflector may be apart.
const SLACK_S: u32 = 60;
/// How long a key signs. It is live for as long again, and a minute before: longer than whatever it has signed.
const TERM_S: u32 = 7200;
const _: () = assert!(TERM_S >= TOKEN_LIFE_S + 2 * SLACK_S && TERM_S >= BIND_LIFE_S + 2 * SLACK_S);

fn term_key(secret: &[u8; 32], term: u32) -> [u8; 32] {
    *blake3::keyed_hash(secret, &term.to_be_bytes()).as_bytes()
}

/// Why a reflector does not pass a packet on, in the order of its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Shorter than a header and one byte, or longer than a packet.
    Length,
    /// Nothing for a reflector.
    Magic,
    /// It has been reflected as often as it may.
    Hops,
    /// The token is too old, or from too far in the future.
    Expired,
    /// The token was not made for this sender, destination and class with a key of ours.
    Forged,
    /// Nobody is passed on to there: this reflector, a private, loopback or multicast address.
    Destination,
    /// More than this destination is to get.
    Rate,
}

impl Why {
    /// All, in the order of the checks.
    pub const ALL: [Why; 7] =
        [Why::Length, Why::Magic, Why::Hops, Why::Expired, Why::Forged, Why::Destination, Why::Rate];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Why::Length => "length",
            Why::Magic => "magic",
            Why::Hops => "hops",
            Why::Expired => "expired",
            Why::Forged => "forged",
            Why::Destination => "destination",
            Why::Rate => "rate",
        }
    }
}

/// The header of a packet passed on.
pub fn reflected(token_head: [u8; 4], from: SocketAddr, class: Class, hops: u8) -> [u8; REFLECTED] {
    let mut header = [0; REFLECTED];
    header[..4].copy_from_slice(&token_head);
    header[4..20].copy_from_slice(&octets(from.ip()));
    header[20..22].copy_from_slice(&from.port().to_be_bytes());
    header[22..].copy_from_slice(&[class.byte(), hops]);
    header
}

/// Who sent a reflected packet, by its mapping at the reflector, and what; `None`: it is none.
pub fn read_reflected(packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (header, rest) = packet.split_first_chunk::<REFLECTED>()?;
    let mut ip = [0; 16];
    ip.copy_from_slice(&header[4..20]);
    let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
    let fits = header[..2] == MAGIC && header[2] == VERSION;
    fits.then(|| (SocketAddr::new(ip, u16::from_be_bytes([header[20], header[21]])), rest))
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn bind_mac(key: &[u8; 32], head: &[u8], seen: SocketAddr) -> [u8; MAC] {
    mac(key, b"bind", head, seen)
}

fn token_mac(key: &[u8; 32], head: &[u8], from: SocketAddr) -> [u8; MAC] {
    mac(key, b"pass", head, from)
}

/// Everything fits one block of BLAKE3: 4 + 28 + 18 bytes.
fn mac(key: &[u8; 32], purpose: &[u8; 4], head: &[u8], address: SocketAddr) -> [u8; MAC] {
    let mut block = [0; 64];
    let end = 4 + head.len();
    block[..4].copy_from_slice(purpose);
    block[4..end].copy_from_slice(head);
    block[end..end + 16].copy_from_slice(&octets(address.ip()));
    block[end + 16..end + 18].copy_from_slice(&address.port().to_be_bytes());
    let hash = blake3::keyed_hash(key, &block[..end + 18]);
    let mut mac = [0; MAC];
    mac.copy_from_slice(&hash.as_bytes()[..MAC]);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 1_767_225_600;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn keys() -> Keys {
        Keys::new(1, [7; 32])
    }

    fn packet() -> Vec<u8> {
        let token = keys().mint(addr("198.51.100.1:1"), addr("198.51.100.2:2"), Class::Message, NOW).unwrap();
        [&token[..], b"hello"].concat()
    }

    fn check(packet: &[u8], from: &str, now: u32) -> Result<(SocketAddr, Class), Why> {
        keys().check(packet, addr(from), now)
    }

    #[test]
    fn a_token_passes_its_sender_on_to_its_destination() {
        let passed = check(&packet(), "198.51.100.1:1", NOW);
        assert_eq!(passed, Ok((addr("198.51.100.2:2"), Class::Message)));
    }

    #[test]
    fn a_token_serves_nobody_else() {
        for other in ["198.51.100.1:2", "198.51.100.3:1", "[2001:db8::1]:1"] {
            assert_eq!(check(&packet(), other, NOW), Err(Why::Forged), "{other}");
        }
    }

    #[test]
    fn a_token_lives_an_hour() {
        assert!(check(&packet(), "198.51.100.1:1", NOW + TOKEN_LIFE_S).is_ok());
        assert_eq!(check(&packet(), "198.51.100.1:1", NOW + TOKEN_LIFE_S + 1), Err(Why::Expired));
    }

    #[test]
    fn every_changed_bit_of_a_token_is_noticed() {
        for bit in 0..TOKEN * 8 {
            let mut packet = packet();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&packet, "198.51.100.1:1", NOW).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_without_anything_behind_it_is_too_short() {
        assert_eq!(check(&packet()[..TOKEN], "198.51.100.1:1", NOW), Err(Why::Length));
    }

    /// The first second of a term.
    const TURN: u32 = NOW - NOW % TERM_S;

    fn from_secret(now: u32) -> Keys {
        Keys::from_secret([7; 32], now)
    }

    #[test]
    fn a_token_is_good_for_its_life_although_keys_turn() {
        let from = addr("198.51.100.1:1");
        for minted in [TURN - TERM_S / 2, TURN - 1, TURN, TURN + 1] {
            let mut keys = from_secret(minted);
            let token = keys.mint(from, addr("198.51.100.2:2"), Class::Message, minted).unwrap();
            let packet = [&token[..], b"hello"].concat();
            for now in [minted, minted + TOKEN_LIFE_S / 2, minted + TOKEN_LIFE_S] {
                keys.keep_time(now);
                assert!(keys.check(&packet, from, now).is_ok(), "minted {minted}, now {now}");
                assert_eq!(keys, from_secret(now), "whoever starts now has the same keys");
            }
        }
    }

    #[test]
    fn clocks_may_be_a_minute_apart() {
        let from = addr("198.51.100.1:1");
        for minted in TURN - 130..TURN + 130 {
            let token =
                from_secret(minted).mint(from, addr("198.51.100.2:2"), Class::Message, minted).unwrap();
            let packet = [&token[..], b"hello"].concat();
            for now in [minted - SLACK_S, minted + SLACK_S] {
                assert!(from_secret(now).check(&packet, from, now).is_ok(), "minted {minted}, now {now}");
            }
        }
    }

    #[test]
    fn two_keys_are_live_and_a_third_is_not() {
        let (keys, from) = (from_secret(TURN), addr("198.51.100.1:1"));
        let mut ticket = keys.bind(from, TURN).unwrap();
        // As if it had been good for ever: only the key has aged.
        ticket[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let mac = bind_mac(keys.signing().unwrap().1, &ticket[..8], from);
        ticket[8..].copy_from_slice(&mac);
        assert!(from_secret(TURN + TERM_S).is_bound(&ticket, from, TURN + TERM_S));
        assert!(!from_secret(TURN + 2 * TERM_S).is_bound(&ticket, from, TURN + 2 * TERM_S));
    }

    #[test]
    fn a_bind_ticket_proves_one_address_for_ten_minutes() {
        let seen = addr("198.51.100.1:1");
        let ticket = keys().bind(seen, NOW).unwrap();
        assert!(keys().is_bound(&ticket, seen, NOW + BIND_LIFE_S));
        assert!(!keys().is_bound(&ticket, seen, NOW + BIND_LIFE_S + 1));
        assert!(!keys().is_bound(&ticket, addr("198.51.100.1:2"), NOW));
        assert!(!Keys::new(1, [8; 32]).is_bound(&ticket, seen, NOW));
    }

    #[test]
    fn what_is_passed_on_is_shorter_and_names_its_sender() {
        let from = addr("198.51.100.1:1");
        let header = reflected([MAGIC[0], MAGIC[1], VERSION, 1], from, Class::Message, 0);
        let packet = [&header[..], b"hello"].concat();
        assert_eq!(read_reflected(&packet), Some((from, &b"hello"[..])));
        assert_eq!(packet.len() + 20, self::packet().len());
        assert!(read_reflected(b"SIP/2.0 200 OK and so on").is_none());
    }

    proptest! {
        #[test]
        fn nothing_made_up_passes(mut packet in proptest::collection::vec(any::<u8>(), 0..100)) {
            if packet.len() > 28 {
                packet[..3].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION]);
                packet[3] = 1;
                packet[4..8].copy_from_slice(&NOW.to_be_bytes());
                packet[27] = 1;
            }
            prop_assert!(check(&packet, "198.51.100.1:1", NOW).is_err());
            let _ = read_reflected(&packet);
        }
    }
}
