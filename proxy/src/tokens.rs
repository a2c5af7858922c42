//! What a request in a dialog carries back to us in the user part of its Route (DESIGN §4): who sends it, where it goes
//! next, and which relay session its media has. A proxy that remembers nothing serves it from this alone.
//!
//! ```text
//! byte 0   flags: 0 sender is the callee · 1 IPv6 · 2 a session follows · 3 a binding follows · 4 no path (second half)
//!                 5 sender is trusted · 6–7 the sender's latch rule
//! then     listener (1), address (4 or 16), port (2)     unless flag 4
//! then     relay (1), session (8)                        with flag 2
//! then     binding (4)                                   with flag 3
//! ```
//!
//! An IPv6 path and a session don't fit in one token together; then the session stands in a second one, in a Route of
//! ours that follows the first.

use std::net::{IpAddr, SocketAddr};

use proto::control::Session;
use proto::event::Side;
use proto::tables::{Binding, Latch};
use proto::token::Keys;

const PURPOSE: u8 = b'D';
const LONGEST: usize = 24;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Who sends requests that carry it.
    pub(crate) sender: Side,
    /// Where those go next: a listener of ours, and the far end as we last saw it.
    pub(crate) path: Option<(u8, SocketAddr)>,
    /// The relay session of the dialog: which relay, and the session.
    pub(crate) session: Option<(u8, Session)>,
    /// Which of the receiver's bindings it is; see [`binding_mark`].
    pub(crate) binding: Option<u32>,
    /// Whether the sender's relay leg is that of a trusted party.
    pub(crate) trusted: bool,
    /// Whom the sender's relay leg accepts first.
    pub(crate) latch: Latch,
}

impl Token {
    /// As one token, or two.
    pub(crate) fn seal(&self, keys: &Keys, unix: u64) -> (String, Option<String>) {
        let whole = self.write();
        if whole.len() <= LONGEST {
            return (keys.seal(PURPOSE, unix, &whole), None);
        }
        let first = Token { session: None, ..self.clone() };
        let second = Token { path: None, binding: None, ..self.clone() };
        (keys.seal(PURPOSE, unix, &first.write()), Some(keys.seal(PURPOSE, unix, &second.write())))
    }

    /// From the user part of a URI; `None` when it is no token of ours, or too old.
    pub(crate) fn open(keys: &Keys, unix: u64, user: &str) -> Option<Token> {
        Token::read(&keys.open(PURPOSE, unix, user)?)
    }

    /// This, completed by what the next Route of ours says. The one that knows the path is the one that counts.
    pub(crate) fn join(self, next: Option<Token>) -> Token {
        let Some(next) = next else { return self };
        let session = self.session.or(next.session);
        let first = if self.path.is_some() { self } else { next };
        Token { session, ..first }
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.push(self.flags());
        if let Some((listener, remote)) = self.path {
            out.push(listener);
            match remote.ip() {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            }
            out.extend_from_slice(&remote.port().to_be_bytes());
        }
        if let Some((relay, session)) = self.session {
            out.push(relay);
            out.extend_from_slice(&session.0.to_be_bytes());
        }
        if let Some(binding) = self.binding {
            out.extend_from_slice(&binding.to_be_bytes());
        }
        out
    }

    fn flags(&self) -> u8 {
        u8::from(self.sender == Side::Callee)
            | u8::from(self.path.is_some_and(|(_, remote)| remote.is_ipv6())) << 1
            | u8::from(self.session.is_some()) << 2
            | u8::from(self.binding.is_some()) << 3
            | u8::from(self.path.is_none()) << 4
            | u8::from(self.trusted) << 5
            | latch_bits(self.latch) << 6
    }

    fn read(bytes: &[u8]) -> Option<Token> {
        let (flags, mut rest) = (*bytes.first()?, bytes.get(1..)?);
        let has = |bit: u8| flags & (1 << bit) != 0;
        let path = if has(4) { None } else { Some(read_path(&mut rest, has(1))?) };
        let session = if has(2) { Some(read_session(&mut rest)?) } else { None };
        let binding = if has(3) { Some(u32::from_be_bytes(take(&mut rest)?)) } else { None };
        let sender = if has(0) { Side::Callee } else { Side::Caller };
        Some(Token { sender, path, session, binding, trusted: has(5), latch: latch_of(flags >> 6) })
    }
}

/// Four bytes that tell one binding of an address of record from another, and stay the same when the device registers
/// again from elsewhere: FNV-1a over its instance, or over its Contact when it has none.
pub(crate) fn binding_mark(binding: &Binding) -> u32 {
    let name = binding.instance.as_deref().unwrap_or(&binding.contact);
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn read_path(rest: &mut &[u8], v6: bool) -> Option<(u8, SocketAddr)> {
    let [listener] = take(rest)?;
    let ip = if v6 { IpAddr::from(take::<16>(rest)?) } else { IpAddr::from(take::<4>(rest)?) };
    Some((listener, SocketAddr::new(ip, u16::from_be_bytes(take(rest)?))))
}

fn read_session(rest: &mut &[u8]) -> Option<(u8, Session)> {
    let [relay] = take(rest)?;
    Some((relay, Session(u64::from_be_bytes(take(rest)?))))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn latch_bits(latch: Latch) -> u8 {
    match latch {
        Latch::Strict => 0,
        Latch::Prefix => 1,
        Latch::Any => 2,
    }
}

fn latch_of(bits: u8) -> Latch {
    match bits {
        1 => Latch::Prefix,
        2 => Latch::Any,
        _ => Latch::Strict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(remote: &str) -> Token {
        Token {
            sender: Side::Callee,
            path: Some((3, remote.parse().unwrap())),
            session: Some((1, Session(0x00c0_ffee_00c0_ffee))),
            binding: Some(7),
            trusted: true,
            latch: Latch::Prefix,
        }
    }

    fn keys() -> Keys {
        Keys(vec![[7; 32]])
    }

    #[test]
    fn an_ipv4_token_is_one_user_part_of_at_most_48_characters() {
        let token = token("192.0.2.1:5060");
        let (user, second) = token.seal(&keys(), 1_800_000_000);
        assert!(user.len() <= 48 && second.is_none());
        assert_eq!(Token::open(&keys(), 1_800_000_000, &user), Some(token));
    }

    #[test]
    fn an_ipv6_token_with_a_session_takes_two_that_join() {
        let token = token("[2001:db8::1]:5060");
        let (first, second) = token.seal(&keys(), 1_800_000_000);
        let open = |user: &str| Token::open(&keys(), 1_800_000_000, user);
        assert!(first.len() <= 48);
        assert_eq!(open(&first).unwrap().join(open(&second.unwrap())), token);
    }

    #[test]
    fn a_cut_payload_is_no_token() {
        let whole = token("192.0.2.1:5060").write();
        for length in 0..whole.len() {
            assert_eq!(Token::read(&whole[..length]), None);
        }
    }
}
