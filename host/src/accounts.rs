//! The accounts of a process, kept small: a hundred thousand of them are a few megabytes, once for all services.
//!
//! What an account says is written down in one row of bytes, one account behind the other; two tables of places lead to it, by
//! digest name and by those addresses of record that are not just the name. A [`User`] is made when somebody asks for one, and
//! a few stay at hand: who was challenged comes back with an answer. Accounts change as a whole, by a reload, so nothing here
//! ever grows or moves.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use proto::digest::Algorithm;
use proto::tables::{Anchor, Latch, Secret, Srtp, User};

/// See the module.
#[derive(Debug, Default)]
pub struct Accounts {
    written: Box<[u8]>,
    by_name: Places,
    /// Where the account is said to have this one, and which of its own it is.
    by_aor: Places,
    lately: Lately,
}

/// An account as it is written down.
#[derive(Decode, Encode)]
#[cbor(array)]
struct Written<'a> {
    #[b(0)]
    name: &'a str,
    /// Hashes of its password; as bytes, where they are hex ([`pack`]).
    #[b(1)]
    md5: Option<&'a ByteSlice>,
    #[b(2)]
    sha256: Option<&'a ByteSlice>,
    /// None: its name, at any domain of ours.
    #[b(3)]
    aors: Option<Vec<&'a str>>,
    #[n(4)]
    anchor: Option<u8>,
    #[n(5)]
    latch: Option<u8>,
    #[n(6)]
    algorithms: Option<Vec<u8>>,
    #[b(7)]
    password: Option<&'a str>,
    #[n(8)]
    srtp: Option<u8>,
}

/// How many stay at hand: a phone's answer to a challenge takes some milliseconds.
const LATELY: usize = 128;

const ANCHORS: [Anchor; 3] = [Anchor::Never, Anchor::Auto, Anchor::Always];
const LATCHES: [Latch; 3] = [Latch::Strict, Latch::Prefix, Latch::Any];
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

impl Accounts {
    /// These; of two with the same name or address of record the later one has it, and what an account says it has it has
    /// before one that is just called so.
    pub fn new(users: impl Iterator<Item = User>) -> Accounts {
        let mut accounts = Accounts::default();
        let (mut written, mut names, mut aors) = (Vec::new(), Vec::new(), Vec::new());
        for user in users {
            let at = written.len() as u32;
            names.push(Place { at, which: 0 });
            if !is_usual(&user) {
                aors.extend((0..user.aors.len()).map(|which| Place { at, which: which as u32 }));
            }
            write(&user, &mut written);
        }
        accounts.written = written.into();
        accounts.by_name = Places::of(&names, |place| accounts.name(place));
        accounts.by_aor = Places::of(&aors, |place| accounts.aor(place));
        accounts
    }

    /// The account with this digest name.
    pub fn named(&self, name: &str) -> Option<Arc<User>> {
        self.lately.get_or_make(name, || {
            let place = self.by_name.find(name, |place| self.name(place))?;
            self.make(place.at)
        })
    }

    /// The account this is an address of record of, as it was written.
    pub fn owner(&self, aor: &str) -> Option<Arc<User>> {
        let said = self.by_aor.find(aor, |place| self.aor(place));
        said.map_or_else(
            || self.named(aor.strip_suffix('@')?).filter(|user| is_usual(user)),
            |place| {
                // A later account may have its name.
                let user =
                    self.named(self.name(place)?).filter(|user| user.aors.iter().any(|own| own == aor));
                user.or_else(|| self.make(place.at).map(Arc::new))
            },
        )
    }

    fn line(&self, at: u32) -> Option<Written<'_>> {
        minicbor::decode(self.written.get(at as usize..)?).ok()
    }

    /// The first thing in its line; nothing else is read for it.
    fn name(&self, place: Place) -> Option<&str> {
        let mut decoder = minicbor::Decoder::new(self.written.get(place.at as usize..)?);
        decoder.array().ok()?;
        decoder.str().ok()
    }

    fn aor(&self, place: Place) -> Option<&str> {
        self.line(place.at)?.aors?.get(place.which as usize).copied()
    }

    fn make(&self, at: u32) -> Option<User> {
        let line = self.line(at)?;
        let secret = match line.password {
            Some(password) => Secret::Password(password.to_owned()),
            None => Secret::Hashed { md5: line.md5.map(unpack), sha256: line.sha256.map(unpack) },
        };
        let aors = match line.aors {
            Some(aors) => aors.into_iter().map(str::to_owned).collect(),
            None => vec![[line.name, "@"].concat()],
        };
        let algorithms = line.algorithms.unwrap_or_default();
        Some(User {
            name: line.name.to_owned(),
            secret,
            aors,
            anchor: line.anchor.and_then(|index| ANCHORS.get(usize::from(index)).copied()),
            latch: line.latch.and_then(|index| LATCHES.get(usize::from(index)).copied()),
            srtp: line.srtp.and_then(|index| Srtp::WORDS.get(usize::from(index))).map(|(_, srtp)| *srtp),
            algorithms: algorithms.iter().filter_map(|i| ALGORITHMS.get(usize::from(*i)).copied()).collect(),
        })
    }
}

/// Accounts that were asked for lately, by name, each where the last one of its kind was. Whoever is here need not be looked for
/// in tables that are seldom in the processor's cache.
#[derive(Debug)]
struct Lately(Box<[Mutex<Option<Arc<User>>>]>, RandomState);

impl Default for Lately {
    fn default() -> Lately {
        Lately((0..LATELY).map(|_| Mutex::default()).collect(), RandomState::new())
    }
}

impl Lately {
    fn get_or_make(&self, name: &str, make: impl FnOnce() -> Option<User>) -> Option<Arc<User>> {
        let slot = self.1.hash_one(name) as usize % LATELY;
        let mut there = self.0[slot].lock().unwrap_or_else(PoisonError::into_inner);
        match &*there {
            Some(user) if user.name == name => Some(user.clone()),
            _ => {
                let user = Arc::new(make()?);
                *there = Some(user.clone());
                Some(user)
            }
        }
    }
}

/// Its address of record is its name, at any domain of ours.
fn is_usual(user: &User) -> bool {
    user.aors.len() == 1 && user.aors[0].strip_suffix('@') == Some(user.name.as_str())
}

fn write(user: &User, to: &mut Vec<u8>) {
    let (password, md5, sha256) = match &user.secret {
        Secret::Password(password) => (Some(password.as_str()), None, None),
        Secret::Hashed { md5, sha256 } => (None, md5.as_deref().map(pack), sha256.as_deref().map(pack)),
    };
    let line = Written {
        name: &user.name,
        md5: md5.as_deref().map(<&ByteSlice>::from),
        sha256: sha256.as_deref().map(<&ByteSlice>::from),
        aors: (!is_usual(user)).then(|| user.aors.iter().map(String::as_str).collect()),
        anchor: user.anchor.map(|anchor| index(&ANCHORS, anchor)),
        latch: user.latch.map(|latch| index(&LATCHES, latch)),
        srtp: user.srtp.map(|srtp| index(&Srtp::WORDS.map(|(_, srtp)| srtp), srtp)),
        algorithms: (!user.algorithms.is_empty())
            .then(|| user.algorithms.iter().map(|algorithm| index(&ALGORITHMS, *algorithm)).collect()),
        password,
    };
    minicbor::encode(line, to).expect("writing to a Vec cannot fail");
}

fn index<T: PartialEq>(all: &[T], one: T) -> u8 {
    all.iter().position(|other| *other == one).unwrap_or(usize::MAX) as u8
}

/// What stands in front of a packed hash.
const AS_BYTES: u8 = 0;
/// Of one that is kept as it was written.
const AS_TEXT: u8 = 1;

/// A hash in half the room, if it is hex.
fn pack(hash: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> = hash.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    match digits.filter(|digits| digits.len() % 2 == 0) {
        Some(digits) => {
            [AS_BYTES].into_iter().chain(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1])).collect()
        }
        None => [AS_TEXT].into_iter().chain(hash.bytes()).collect(),
    }
}

fn unpack(packed: &ByteSlice) -> String {
    match packed.split_first() {
        Some((&AS_BYTES, bytes)) => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let mut hex = Vec::with_capacity(2 * bytes.len());
            digits.for_each(|digit| hex.push(DIGITS[usize::from(digit)]));
            String::from_utf8(hex).unwrap_or_default()
        }
        Some((_, text)) => String::from_utf8_lossy(text).into_owned(),
        None => String::new(),
    }
}

/// Where something an account is known by is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: u32,
    which: u32,
}

/// Places by a hash of what is written there: open addressing, at most half full, made once.
#[derive(Debug, Default)]
struct Places(Box<[Place]>, RandomState);

const FREE: Place = Place { at: u32::MAX, which: 0 };

impl Places {
    fn of<'a>(all: &[Place], key_of: impl Fn(Place) -> Option<&'a str>) -> Places {
        let room = if all.is_empty() { 0 } else { (2 * all.len()).next_power_of_two() };
        let mut places = Places(vec![FREE; room].into(), RandomState::new());
        for place in all {
            if let Some(slot) = key_of(*place).and_then(|key| places.slot(key, &key_of)) {
                places.0[slot] = *place;
            }
        }
        places
    }

    /// Where the place of this key is, or may come to be.
    fn slot<'a>(&self, key: &str, key_of: impl Fn(Place) -> Option<&'a str>) -> Option<usize> {
        let mask = self.0.len().checked_sub(1)?;
        let first = self.1.hash_one(key) as usize;
        let mut slots = (0..self.0.len()).map(|step| first.wrapping_add(step) & mask);
        slots.find(|slot| self.0[*slot] == FREE || key_of(self.0[*slot]) == Some(key))
    }

    fn find<'a>(&self, key: &str, key_of: impl Fn(Place) -> Option<&'a str>) -> Option<Place> {
        self.slot(key, key_of).map(|slot| self.0[slot]).filter(|place| *place != FREE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, aors: &[&str]) -> User {
        User {
            name: name.into(),
            secret: Secret::Hashed { md5: Some("0123456789abcdef0123456789abcdef".into()), sha256: None },
            aors: aors.iter().map(|aor| (*aor).to_owned()).collect(),
            anchor: None,
            latch: None,
            srtp: None,
            algorithms: Vec::new(),
        }
    }

    #[test]
    fn an_account_comes_back_as_it_was() {
        let plain = user("alice", &["alice@"]);
        let odd = User {
            secret: Secret::Hashed { md5: Some("no hash".into()), sha256: Some("ABCDEF".into()) },
            anchor: Some(Anchor::Always),
            latch: Some(Latch::Any),
            srtp: Some(Srtp::Dtls),
            algorithms: vec![Algorithm::Md5, Algorithm::Sha256],
            ..user("bob", &["bob@example.org", "boss@"])
        };
        let open = User { secret: Secret::Password("pass word".into()), ..user("", &[]) };
        let all = Accounts::new([plain.clone(), odd.clone(), open.clone()].into_iter());
        assert_eq!(all.named("alice").as_deref(), Some(&plain));
        let lower = Secret::Hashed { md5: Some("no hash".into()), sha256: Some("abcdef".into()) };
        assert_eq!(all.named("bob").as_deref(), Some(&User { secret: lower, ..odd.clone() }));
        assert_eq!(all.named("").as_deref(), Some(&open));
        assert_eq!(all.owner("alice@").as_deref(), Some(&plain));
        assert_eq!(all.owner("boss@").map(|user| user.name.clone()), Some("bob".into()));
        assert_eq!((all.owner("bob@"), all.named("carol")), (None, None));
        assert_eq!(Accounts::default().named("alice"), None);
    }

    #[test]
    fn of_two_with_one_name_or_address_one_has_it() {
        let later = User { anchor: Some(Anchor::Never), ..user("alice", &["a@", "b@", "carol@"]) };
        let others = [user("bob", &["b@"]), user("carol", &["carol@"])];
        let all = Accounts::new([user("alice", &["a@"]), later.clone()].into_iter().chain(others));
        assert_eq!(all.named("alice").as_deref(), Some(&later));
        assert_eq!(all.owner("a@").as_deref(), Some(&later));
        let former = user("alice", &["former@"]);
        let both = Accounts::new([former.clone(), later.clone()].into_iter());
        assert_eq!(both.owner("former@").as_deref(), Some(&former));
        let owner = |aor| all.owner(aor).map(|user| user.name.clone());
        assert_eq!(owner("b@").as_deref(), Some("bob"));
        assert_eq!(owner("carol@").as_deref(), Some("alice"), "what is said goes before what is usual");
    }

    #[test]
    fn each_of_many_is_found() {
        let name = |n: u32| format!("phone{n}");
        let all = Accounts::new((0..5000).map(|n| user(&name(n), &[&format!("{}@", name(n))])));
        assert!((0..5000).all(|n| all.named(&name(n)).is_some_and(|user| user.name == name(n))));
        assert!(
            (0..5000).all(|n| all.owner(&format!("{}@", name(n))).is_some_and(|user| user.name == name(n)))
        );
        assert_eq!(all.named("phone5000"), None);
    }

    #[test]
    fn who_was_asked_for_lately_is_made_once() {
        let all = Accounts::new([user("alice", &["alice@"])].into_iter());
        let (owner, named) = (all.owner("alice@").unwrap(), all.named("alice").unwrap());
        assert!(Arc::ptr_eq(&owner, &named));
    }
}
