//! What peers and their access server say to one another, in CBOR (RFC 8949) bodies of SIP messages.
//!
//! ```text
//!  REGISTER  Login     where I am, what NAT I am behind, my device key, a bind ticket       endpoint → server
//!  200       Profile   whom I may talk to (buddies) and how (routes), what to keep open     server → endpoint
//!  MESSAGE   Notice    somebody comes: open a path to it; somebody is gone                  server → endpoint
//!  MESSAGE   Wish      I permit this one, or no longer; open a path for media               endpoint → server
//! ```
//!
//! Fields are numbered: a reader passes over those it does not know. Whatever is longer than [`MAX_BODY`] is not read.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::nat::Verdict;
use super::reach::{Path, Reach};
use crate::node::Dice;

/// Content-Type of a [`Login`].
pub const LOGIN: &str = "application/p2p-login+cbor";
/// Content-Type of a [`Profile`].
pub const PROFILE: &str = "application/p2p-profile+cbor";
/// Content-Type of a [`Notice`].
pub const NOTICE: &str = "application/p2p-notice+cbor";
/// Content-Type of a [`Wish`].
pub const WISH: &str = "application/p2p-wish+cbor";
/// Content-Type of presence (RFC 3863).
pub const PIDF: &str = "application/pidf+xml";

/// A longer body is not read.
pub const MAX_BODY: usize = 32 * 1024;
/// Room for a body; a profile takes about 200 bytes for each buddy, and few have more than 20.
const USUAL: usize = 1024;
const PROFILES: usize = 6 * 1024;
/// Room for what a key is derived from.
const HASHED: usize = 128;
/// Own addresses an endpoint names, at most.
pub const MAX_HOSTS: usize = 4;
/// Buddies of one account, at most.
pub const MAX_BUDDIES: usize = 128;

/// What an endpoint says of itself as it logs in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Login {
    /// Where a STUN server sees it.
    #[n(0)]
    pub external: Option<SocketAddr>,
    /// Its NAT.
    #[n(1)]
    pub verdict: Verdict,
    /// Its own addresses.
    #[n(2)]
    pub hosts: Vec<SocketAddr>,
    /// Its device key (Ed25519).
    #[n(3)]
    pub device: ByteArray<32>,
    /// What it allows.
    #[n(4)]
    pub allows: Allows,
    /// Its proof that it hears a reflector, as that one's STUN answer gave it: its mapping there, and the ticket.
    #[n(5)]
    pub bind: Option<(SocketAddr, ByteArray<24>)>,
    /// The device key's signature over all else, the account and the Call-ID.
    #[n(6)]
    pub proof: ByteArray<64>,
}

/// What an endpoint allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Allows {
    /// That others learn its address; else it is reached through servers only.
    #[n(0)]
    pub direct: bool,
    /// A spray against one unknown port.
    #[n(1)]
    pub spray: bool,
    /// A spray against two.
    #[n(2)]
    pub spray_both: bool,
}

impl Default for Allows {
    fn default() -> Self {
        Allows { direct: true, spray: true, spray_both: false }
    }
}

/// What an endpoint is given as it logs in: the profile (whom it may talk to) and the routing table (how).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Profile {
    /// Where the server sees it. What was observed wins over what was said.
    #[n(0)]
    pub you: SocketAddr,
    /// It is to send something to the server this often, so that it can be reached; `None`: it need not.
    #[n(1)]
    pub keep_alive_ms: Option<u32>,
    /// It counts as gone so long after its last word.
    #[n(2)]
    pub lease_s: u32,
    /// What proves the two to one another until the next login with a password.
    #[n(3)]
    pub session: Sealing,
    /// The profile: its buddies, whose permission it has and who have its.
    #[n(4)]
    pub buddies: Vec<Buddy>,
    /// The routing table: how to reach each of them, in the same order.
    #[n(5)]
    pub routes: Vec<Route>,
    /// The reflector.
    #[n(6)]
    pub reflector: Option<SocketAddr>,
}

/// One buddy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Buddy {
    /// Its address of record.
    #[n(0)]
    pub aor: String,
    /// Whether it is online.
    #[n(1)]
    pub online: bool,
    /// The outside of its NAT; `None`: offline, or it is not told.
    #[n(2)]
    pub external: Option<SocketAddr>,
    /// Its NAT.
    #[n(3)]
    pub verdict: Option<Verdict>,
    /// Its device key.
    #[n(4)]
    pub device: Option<ByteArray<32>>,
}

/// How to reach one buddy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Route {
    /// [`Path`], by number, and what goes with it.
    #[n(0)]
    pub way: Way,
    /// What the two seal their words with.
    #[n(1)]
    pub pair: Sealing,
    /// Its own addresses, if it is a neighbour.
    #[n(2)]
    pub hosts: Vec<SocketAddr>,
    /// What a reflector takes for passing on to it.
    #[n(3)]
    pub token: Option<ByteArray<44>>,
    /// The reader's channel to it through the server, where UDP does not pass.
    #[n(4)]
    pub channel: Option<u16>,
}

/// A key and its name.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sealing {
    /// The name.
    #[n(0)]
    pub label: String,
    /// The key.
    #[n(1)]
    pub key: ByteArray<32>,
}

impl Sealing {
    /// A new one, from nothing.
    pub fn fresh(dice: &mut Dice) -> Sealing {
        Sealing { label: dice.word(12), key: ByteArray::from(dice.bytes()) }
    }

    /// The one that a secret, a purpose and these parts always give. Twenty of them make a profile: what is hashed is laid out
    /// first, and fits one block of the hash where names are of a usual length.
    pub fn derive(secret: &[u8; 32], purpose: &str, parts: &[&str]) -> Sealing {
        let mut covered = Vec::with_capacity(HASHED);
        for part in std::iter::once(&purpose).chain(parts) {
            covered.extend_from_slice(&(part.len() as u32).to_be_bytes());
            covered.extend_from_slice(part.as_bytes());
        }
        let mut bytes = [0; 41];
        blake3::Hasher::new_keyed(secret).update(&covered).finalize_xof().fill(&mut bytes);
        let (key, label) = bytes.split_at(32);
        let mut sealed = [0; 32];
        sealed.copy_from_slice(key);
        Sealing { label: URL_SAFE_NO_PAD.encode(label), key: ByteArray::from(sealed) }
    }
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealing({})", self.label)
    }
}

/// [`Reach`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Way {
    /// The path.
    #[n(0)]
    pub path: u8,
    /// The initiator primes.
    #[n(1)]
    pub prime: bool,
    /// The punch opens for an address, any port.
    #[n(2)]
    pub any_port: bool,
    /// The punch is short-lived.
    #[n(3)]
    pub pinned: bool,
    /// Neighbours.
    #[n(4)]
    pub neighbours: bool,
}

const PATHS: [Path; 7] =
    [Path::Direct, Path::Punch, Path::Spray, Path::SprayBoth, Path::Reflect, Path::Server, Path::Tunnel];

/// The place of [`Path::Server`] in it.
const SERVER: usize = 5;

impl From<Reach> for Way {
    fn from(reach: Reach) -> Way {
        let Reach { path, prime, any_port, pinned, neighbours } = reach;
        let path = PATHS.iter().position(|known| *known == path).unwrap_or(SERVER) as u8;
        Way { path, prime, any_port, pinned, neighbours }
    }
}

impl From<Path> for Way {
    fn from(path: Path) -> Way {
        Reach { path, prime: false, any_port: false, pinned: false, neighbours: false }.into()
    }
}

impl From<Way> for Reach {
    /// A path we don't know goes through the server.
    fn from(way: Way) -> Reach {
        let Way { path, prime, any_port, pinned, neighbours } = way;
        let path = PATHS.get(usize::from(path)).copied().unwrap_or(Path::Server);
        Reach { path, prime, any_port, pinned, neighbours }
    }
}

/// What a server tells an endpoint on its own account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Notice {
    /// This buddy is about to send: open a path to it. The route is that of the responder.
    #[n(0)]
    Punch(#[n(0)] Buddy, #[n(1)] Route),
    /// This buddy's lease has run out, or it may not be talked to any more.
    #[n(1)]
    Gone(#[n(0)] String),
    /// A new permission: this buddy, and the way to it.
    #[n(2)]
    Met(#[n(0)] Buddy, #[n(1)] Route),
}

/// What an endpoint asks of its server beyond logging in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Wish {
    /// May this one talk to it and see it? Only when both say yes they are buddies.
    #[n(0)]
    Permit(#[n(0)] String, #[n(1)] bool),
    /// Open a path to this buddy, by a spray if it takes one.
    #[n(1)]
    Open(#[n(0)] String),
}

/// Reads a body; `None`: too long, or not what it should be.
pub fn read<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Option<T> {
    (body.len() <= MAX_BODY).then(|| minicbor::decode(body).ok()).flatten()
}

/// Writes a body.
pub fn write<T: Encode<()>>(value: &T) -> Vec<u8> {
    write_into(Vec::with_capacity(USUAL), value)
}

/// The same of a profile.
pub fn write_profile(profile: &Profile) -> Vec<u8> {
    write_into(Vec::with_capacity(PROFILES), profile)
}

fn write_into<T: Encode<()>>(mut body: Vec<u8>, value: &T) -> Vec<u8> {
    minicbor::encode(value, &mut body).expect("writing to a Vec cannot fail");
    body
}

impl Login {
    /// What the device key signs.
    pub fn signed(&self, aor: &str, call_id: &str) -> Vec<u8> {
        let unsigned = Login { proof: ByteArray::from([0; 64]), ..self.clone() };
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend_from_slice(b"postern login\0");
        for part in [aor.as_bytes(), call_id.as_bytes(), &write(&unsigned)] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    /// Whether the device key signed this for that account and registration (RFC 8032 §5.1.7).
    ///
    /// A key of small order is refused: with it one signature would fit many texts. A signature's own point is compared by its
    /// bytes and never decompressed, which is a tenth of the work.
    pub fn is_proven(&self, aor: &str, call_id: &str) -> bool {
        use ed25519_dalek::{Signature, Verifier};
        let signature = Signature::from_bytes(&self.proof);
        self.key().is_some_and(|key| key.verify(&self.signed(aor, call_id), &signature).is_ok())
    }

    fn key(&self) -> Option<ed25519_dalek::VerifyingKey> {
        ed25519_dalek::VerifyingKey::from_bytes(&self.device).ok().filter(|key| !key.is_weak())
    }

    /// With the signature of the device whose secret this is.
    pub fn sign(mut self, secret: &[u8; 32], aor: &str, call_id: &str) -> Login {
        use ed25519_dalek::{Signer, SigningKey};
        let key = SigningKey::from_bytes(secret);
        self.device = ByteArray::from(key.verifying_key().to_bytes());
        self.proof = ByteArray::from(key.sign(&self.signed(aor, call_id)).to_bytes());
        self
    }
}

/// A login, and the account and registration it was signed for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The login.
    pub login: &'a Login,
    /// The account's address of record.
    pub aor: &'a str,
    /// Call-ID of the registration.
    pub call_id: &'a str,
}

/// Which of these logins their devices have signed. Ten at once take two thirds of the time of one after the other, and when
/// one is wrong, as much more.
///
/// The sum of all is looked at, each signature weighted with a number that follows from all of them. So no wrong one passes
/// but of a key that its owner has made so: with a part of small order beside the ordinary one, whose signatures are its own
/// all the same.
pub fn proven(claims: &[Claim<'_>]) -> Vec<bool> {
    let together = claims.len() > 1 && are_all_proven(claims);
    claims.iter().map(|claim| together || claim.login.is_proven(claim.aor, claim.call_id)).collect()
}

fn are_all_proven(claims: &[Claim<'_>]) -> bool {
    use ed25519_dalek::{Signature, verify_batch};
    let texts: Vec<Vec<u8>> =
        claims.iter().map(|claim| claim.login.signed(claim.aor, claim.call_id)).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let signatures: Vec<Signature> =
        claims.iter().map(|claim| Signature::from_bytes(&claim.login.proof)).collect();
    let keys: Option<Vec<_>> = claims.iter().map(|claim| claim.login.key()).collect();
    keys.is_some_and(|keys| verify_batch(&texts, &signatures, &keys).is_ok())
}

/// A presence document (RFC 3863) that says only whether somebody is there.
pub fn pidf(aor: &str, open: bool) -> String {
    let basic = if open { "open" } else { "closed" };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         entity=\"pres:{aor}\">\r\n <tuple id=\"peer\"><status><basic>{basic}</basic></status></tuple>\r\n</presence>\r\n"
    )
}

/// What a presence document says: `open` or `closed`; `None`: neither.
pub fn read_pidf(body: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(body.get(..body.len().min(4096))?).ok()?;
    let (_, rest) = text.split_once("<basic>")?;
    match rest.split_once("</basic>")?.0.trim() {
        "open" => Some(true),
        "closed" => Some(false),
        _ => None,
    }
}

/// Whether an address may be given to others as a way: no port 0, no unspecified, loopback or multicast address.
pub fn is_reachable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let multicast_or_worse = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    address.port() != 0 && !ip.is_unspecified() && !ip.is_loopback() && !multicast_or_worse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login() -> Login {
        Login {
            external: Some("198.51.100.1:5060".parse().unwrap()),
            verdict: Verdict::UNKNOWN,
            hosts: vec!["10.0.0.2:5060".parse().unwrap(), "[2001:db8::2]:5060".parse().unwrap()],
            device: ByteArray::from([0; 32]),
            allows: Allows::default(),
            bind: None,
            proof: ByteArray::from([0; 64]),
        }
    }

    #[test]
    fn a_login_is_read_as_it_was_written_and_signed() {
        let signed = login().sign(&[7; 32], "alice@example.com", "call-1");
        let read: Login = read(&write(&signed)).unwrap();
        assert_eq!(read, signed);
        assert!(read.is_proven("alice@example.com", "call-1"));
    }

    #[test]
    fn a_signature_serves_one_account_one_registration_and_one_content() {
        let signed = login().sign(&[7; 32], "alice@example.com", "call-1");
        assert!(!signed.is_proven("bob@example.com", "call-1"));
        assert!(!signed.is_proven("alice@example.com", "call-2"));
        let moved = Login { external: None, ..signed };
        assert!(!moved.is_proven("alice@example.com", "call-1"));
    }

    #[test]
    fn of_many_logins_together_those_are_proven_that_are_alone() {
        let aors: Vec<String> = (0..20).map(|n| format!("e{n}@example.com")).collect();
        let logins: Vec<Login> =
            (0..20).map(|n| login().sign(&[n; 32], &aors[usize::from(n)], "call")).collect();
        let claims = |logins: &[Login]| {
            let claim = |(login, aor)| Claim { login, aor, call_id: "call" };
            proven(&logins.iter().zip(&aors).map(|(login, aor)| claim((login, &**aor))).collect::<Vec<_>>())
        };
        assert_eq!((claims(&logins), claims(&[])), (vec![true; 20], vec![]));
        for wrong in [0, 7, 19] {
            let mut logins = logins.clone();
            logins[wrong].external = None;
            let expected: Vec<bool> = (0..20).map(|n| n != wrong).collect();
            assert_eq!(claims(&logins), expected);
            // No key at all, and one of small order.
            for device in [[2; 32], [0; 32]] {
                logins[wrong].device = ByteArray::from(device);
                assert_eq!(claims(&logins), expected);
            }
        }
        let mut swapped = logins.clone();
        (swapped[3].proof, swapped[4].proof) = (logins[4].proof, logins[3].proof);
        assert_eq!(claims(&swapped).iter().filter(|proven| !**proven).count(), 2);
    }

    /// The point of order one signs everything: R = S·B for any S.
    #[test]
    fn a_key_of_small_order_proves_nothing() {
        let (mut device, mut proof) = ([0; 32], [0; 64]);
        (device[0], proof[0]) = (1, 1);
        let forged = Login { device: ByteArray::from(device), proof: ByteArray::from(proof), ..login() };
        assert!(!forged.is_proven("alice@example.com", "call-1"));
    }

    #[test]
    fn every_reach_survives_the_wire() {
        for path in PATHS {
            for bits in 0..16u8 {
                let bit = |n: u8| bits & (1 << n) != 0;
                let reach =
                    Reach { path, prime: bit(0), any_port: bit(1), pinned: bit(2), neighbours: bit(3) };
                assert_eq!(Reach::from(Way::from(reach)), reach);
            }
        }
    }

    #[test]
    fn presence_is_read_as_it_was_written() {
        for open in [true, false] {
            assert_eq!(read_pidf(pidf("alice@example.com", open).as_bytes()), Some(open));
        }
        assert_eq!(read_pidf(b"<basic>perhaps</basic>"), None);
    }

    proptest! {
        #[test]
        fn no_body_brings_a_reader_down(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read::<Login>(&body), read::<Profile>(&body), read::<Notice>(&body), read::<Wish>(&body));
            let _ = read_pidf(&body);
        }

        #[test]
        fn a_body_with_a_wrong_byte_is_refused_or_unproven(at in 0usize..400, with in any::<u8>()) {
            let mut body = write(&login().sign(&[7; 32], "alice@example.com", "call-1"));
            let at = at % body.len();
            prop_assume!(body[at] != with);
            body[at] = with;
            let proven = read::<Login>(&body).is_some_and(|l| l.is_proven("alice@example.com", "call-1"));
            prop_assert!(!proven || write(&read::<Login>(&body).unwrap()) != body);
        }
    }
}
