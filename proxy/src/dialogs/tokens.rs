//! What a request in a dialog carries back to us in the user part of its Route (DESIGN §4): who sends it, where it goes
//! next, and which relay session its media has. A proxy that remembers nothing serves it from this alone.
//!
//! ```text
//! byte 0   flags: 0 sender is the callee · 1 IPv6 · 2 a session follows · 3 a binding follows · 4 no path (second half)
//!                 5 sender is trusted · 6–7 the sender's latch rule
//! then     listener (1), address (4 or 16), port (2)     unless flag 4
//! then     relay (1), session (8)                        with flag 2
//! then     binding (4)                                   with flag 3
//! then     0–1 the sender's latch rule, 2–7 by how much its CSeq is raised     when the latch rule says 3
//! ```
//!
//! A token serves in one dialog only: its MAC covers the Call-ID and the tag of the party that began. Whether that request
//! began the call we keep a record of is in the MAC too: whoever sends an INVITE with the Call-ID and tag of a call that is
//! up gets a token that is good for that second INVITE's own dialog and ports, not for the first one's record.
//!
//! An IPv6 path and a session don't fit in one token together; then the session stands in a second one, in a Route of
//! ours that follows the first.

use std::net::{IpAddr, SocketAddr};

use proto::control::Session;
use proto::event::Side;
use proto::sip::Message;
use proto::tables::{Binding, Latch};
use proto::token::Keys;

/// For the dialogs of the INVITE that began a call.
const RECORD: u8 = b'D';
/// For all others.
const OTHER: u8 = b'd';
/// For a Contact: it is a party's name, inside dialogs and outside.
const CONTACT: u8 = b'C';
/// In place of the latch rule: another byte says more.
const MORE: u8 = 3;
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
    /// Whether it belongs to the INVITE that began the call we keep a record of.
    pub(crate) of_record: bool,
    /// By how much the CSeq of the sender's requests is raised (`trunks::login`), at most 63.
    pub(crate) shift: u8,
    /// When it was made, in seconds since the epoch; 0 until it is.
    pub(crate) made: u64,
}

/// What a token is made and opened with: the keys, the time, and the dialog it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal<'a> {
    keys: &'a Keys,
    unix: u64,
    call_id: &'a str,
    tags: [&'a str; 2],
}

impl<'a> Seal<'a> {
    /// For tokens in this request, or made for the dialogs it begins.
    pub(crate) fn of(request: &'a Message, keys: &'a Keys, unix: u64) -> Seal<'a> {
        Seal { keys, unix, call_id: request.call_id(), tags: [request.from_tag(), request.to_tag()] }
    }

    /// For tokens that the callee of this answer was given.
    pub(crate) fn of_answer(response: &'a Message, keys: &'a Keys, unix: u64) -> Seal<'a> {
        let tags = [response.to_tag(), response.from_tag()];
        Seal { tags, ..Seal::of(response, keys, unix) }
    }

    /// What a token that `sender` will carry is bound to. The callee's tag is not known when tokens are made.
    fn bound(&self, sender: Side) -> [&'a str; 2] {
        match sender {
            Side::Caller => [self.call_id, self.tags[0]],
            Side::Callee => [self.call_id, self.tags[1]],
        }
    }
}

impl Token {
    /// As one token, or two.
    pub(crate) fn seal(&self, with: Seal<'_>) -> (String, Option<String>) {
        // The request that is at hand now is the caller's, whoever will carry the token.
        let bound = with.bound(Side::Caller);
        let purpose = if self.of_record { RECORD } else { OTHER };
        let seal = |token: &Token| with.keys.seal_for(purpose, with.unix, &bound, &token.write());
        if !self.is_two() {
            return (seal(self), None);
        }
        let first = Token { session: None, ..self.clone() };
        let second = Token { path: None, binding: None, ..self.clone() };
        (seal(&first), Some(seal(&second)))
    }

    /// Whether it takes two.
    pub(crate) fn is_two(&self) -> bool {
        self.write().len() > LONGEST
    }

    /// From the user part of a URI in a request; `None` when it is no token of ours, too old, of another dialog, or
    /// the other party's.
    pub(crate) fn open(with: Seal<'_>, user: &str) -> Option<Token> {
        let kinds =
            [(RECORD, Side::Caller), (RECORD, Side::Callee), (OTHER, Side::Caller), (OTHER, Side::Callee)];
        kinds.into_iter().find_map(|(purpose, sender)| {
            let opened = with.keys.open_for(purpose, with.unix, &with.bound(sender), user)?;
            let token = Token::read(&opened.payload)?;
            let token = Token { of_record: purpose == RECORD, made: opened.made, ..token };
            // A second half serves both parties.
            (token.sender == sender || token.path.is_none()).then_some(token)
        })
    }

    /// Where a party is met, and which of its bindings it is.
    pub(crate) fn of_contact(path: Option<(u8, SocketAddr)>, binding: Option<u32>) -> Token {
        Token {
            sender: Side::Caller,
            path,
            session: None,
            binding,
            trusted: false,
            latch: Latch::Strict,
            of_record: false,
            shift: 0,
            made: 0,
        }
    }

    /// As the user part of a Contact: only the path and the binding count, and it serves in every dialog.
    pub(crate) fn seal_contact(&self, keys: &Keys, unix: u64) -> String {
        keys.seal(CONTACT, unix, &self.write())
    }

    /// From the user part of a Contact that we once wrote.
    pub(crate) fn open_contact(keys: &Keys, unix: u64, user: &str) -> Option<Token> {
        Token::read(&keys.open(CONTACT, unix, user)?)
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
        if self.shift > 0 {
            out.push(latch_bits(self.latch) | self.shift.min(63) << 2);
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
            | if self.shift > 0 { MORE << 6 } else { latch_bits(self.latch) << 6 }
    }

    fn read(bytes: &[u8]) -> Option<Token> {
        let (flags, mut rest) = (*bytes.first()?, bytes.get(1..)?);
        let has = |bit: u8| flags & (1 << bit) != 0;
        let path = if has(4) { None } else { Some(read_path(&mut rest, has(1))?) };
        let session = if has(2) { Some(read_session(&mut rest)?) } else { None };
        let binding = if has(3) { Some(u32::from_be_bytes(take(&mut rest)?)) } else { None };
        let sender = if has(0) { Side::Callee } else { Side::Caller };
        let trusted = has(5);
        let (latch, shift) = match flags >> 6 {
            MORE => take(&mut rest).map(|[more]: [u8; 1]| (latch_of(more & 3), more >> 2))?,
            bits => (latch_of(bits), 0),
        };
        Some(Token { sender, path, session, binding, trusted, latch, of_record: false, shift, made: 0 })
    }
}

/// Four bytes that tell one binding of an address of record from another, and stay the same when the device registers
/// again from elsewhere: FNV-1a over its instance, or over its Contact when it has none.
pub(crate) fn binding_mark(binding: &Binding) -> u32 {
    mark_of(binding.instance.as_deref().unwrap_or(&binding.contact))
}

/// See [`binding_mark`].
pub(crate) fn mark_of(name: &str) -> u32 {
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
            of_record: true,
            shift: 0,
            made: 1_800_000_000,
        }
    }

    fn seal<'a>(keys: &'a Keys, call_id: &'a str, tags: [&'a str; 2]) -> Seal<'a> {
        Seal { keys, unix: 1_800_000_000, call_id, tags }
    }

    fn keys() -> Keys {
        Keys(vec![[7; 32]])
    }

    #[test]
    fn an_ipv4_token_is_one_user_part_of_at_most_48_characters() {
        let token = token("192.0.2.1:5060");
        let keys = keys();
        let (user, second) = token.seal(seal(&keys, "c1", ["caller", ""]));
        assert!(user.len() <= 48 && second.is_none());
        assert_eq!(Token::open(seal(&keys, "c1", ["callee", "caller"]), &user), Some(token));
    }

    #[test]
    fn a_token_is_nothing_in_another_dialog_or_the_other_partys_hand() {
        let (token, keys) = (token("192.0.2.1:5060"), keys());
        let (user, _) = token.seal(seal(&keys, "c1", ["caller", ""]));
        let open = |call, tags| Token::open(seal(&keys, call, tags), &user);
        assert_eq!(open("c2", ["callee", "caller"]), None);
        assert_eq!(open("c1", ["callee", "another"]), None);
        assert_eq!(open("c1", ["caller", "callee"]), None);
        let (other, _) = Token { of_record: false, ..token }.seal(seal(&keys, "c1", ["caller", ""]));
        assert!(!Token::open(seal(&keys, "c1", ["callee", "caller"]), &other).unwrap().of_record);
    }

    #[test]
    fn an_ipv6_token_with_a_session_takes_two_that_join() {
        let token = token("[2001:db8::1]:5060");
        let keys = keys();
        let (first, second) = token.seal(seal(&keys, "c1", ["caller", ""]));
        let open = |user: &str| Token::open(seal(&keys, "c1", ["callee", "caller"]), user);
        assert!(first.len() <= 48);
        assert_eq!(open(&first).unwrap().join(open(&second.unwrap())), token);
    }

    #[test]
    fn a_cut_payload_is_no_token() {
        for shift in [0, 63] {
            let whole = Token { shift, ..token("192.0.2.1:5060") }.write();
            assert_eq!(
                Token::read(&whole).map(|token| (token.shift, token.latch)),
                Some((shift, Latch::Prefix))
            );
            for length in 0..whole.len() {
                assert_eq!(Token::read(&whole[..length]), None);
            }
        }
    }
}
