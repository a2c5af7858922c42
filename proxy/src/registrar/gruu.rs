//! Globally routable user agent URIs (RFC 5627): a name for one device of a user, which leads there and nowhere else.
//!
//! ```text
//! sip:alice@example.com;gr=urn:uuid:f81d4fae-…      public: the address of record, and which instance
//! sip:tgruu.SEALED@example.com;gr                   temporary: says nothing of whose it is
//!
//! SEALED = base64url of: check (12) · time (4) · CSeq (4) · binding (4) · address of record, all but `check` encrypted
//! ```
//!
//! Nothing is stored: `check` is a MAC over what is encrypted, and what it is encrypted with (a synthetic nonce). Each
//! REGISTER is given another temporary one; all of them hold while the device stays registered (§4.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::sip::{Message, Uri};
use proto::tables::{Binding, Tables};
use proto::token::Keys;

use crate::config::Config;
use crate::dialogs::tokens::binding_mark;
use crate::moment::Moment;
use crate::registrar::aor::canonical;
use crate::registrar::outbound::supports;

/// What a temporary one's user part begins with (as in the RFC's own examples).
const TEMPORARY: &str = "tgruu.";
const CHECK: usize = 12;
/// Time, CSeq, binding.
const FIXED: usize = 12;

/// Which device a URI means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// The instance.
    Instance(String),
    /// The binding with this mark.
    Mark(u32),
}

/// Whose device a URI of ours means; `None`: it is no GRUU. A GRUU that can't be read means nobody's.
pub(crate) fn meant(uri: &Uri<'_>, config: &Config) -> Option<Result<(String, Device), NotOurs>> {
    let gr = uri.params.get("gr")?;
    Some(match uri.user.strip_prefix(TEMPORARY) {
        Some(sealed) => open(sealed, &config.token_keys).ok_or(NotOurs),
        None => canonical(uri, config).map(|aor| (aor, Device::Instance(format!("<{gr}>")))).ok_or(NotOurs),
    })
}

/// A URI with `gr` that we did not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

impl Device {
    /// Whether a binding is its.
    pub(crate) fn is_at(&self, binding: &Binding) -> bool {
        match self {
            Device::Instance(instance) => binding.instance.as_deref() == Some(instance),
            Device::Mark(mark) => binding_mark(binding) == *mark,
        }
    }
}

/// The Contact of the device a URI means now: what it is to find in the request line.
pub(crate) fn contact_of(now: Moment, uri: &Uri<'_>, config: &Config, tables: &dyn Tables) -> Option<String> {
    uri.params.get("gr").filter(|_| config.is_ours(uri.host, uri.port))?;
    let (aor, device) = meant(uri, config)?.ok()?;
    let bindings = tables.bindings(&aor);
    let found = bindings.into_iter().find(|binding| device.is_at(binding) && binding.is_live(now.wall))?;
    Some(found.contact)
}

/// The parameters a binding is listed with (§5.1), for a device that knows what they are.
pub(crate) fn parameters(request: &Message, aor: &str, binding: &Binding, unix: u64, keys: &Keys) -> String {
    let Some(instance) = binding.instance.as_deref().filter(|_| supports(request, "gruu")) else {
        return String::new();
    };
    let domain = aor.rsplit_once('@').map_or(aor, |(_, domain)| domain);
    let gr = instance.trim_matches(['<', '>']);
    let cseq = request.cseq().map_or(0, |cseq| cseq.number);
    let sealed = seal(aor, binding_mark(binding), cseq, unix, keys);
    format!(";pub-gruu=\"sip:{aor};gr={gr}\";temp-gruu=\"sip:{TEMPORARY}{sealed}@{domain};gr\"")
}

fn seal(aor: &str, mark: u32, cseq: u32, unix: u64, keys: &Keys) -> String {
    let mut plain = (unix as u32).to_be_bytes().to_vec();
    plain.extend(cseq.to_be_bytes());
    plain.extend(mark.to_be_bytes());
    plain.extend(aor.as_bytes());
    let check = check(&plain, keys);
    let mut sealed = check.to_vec();
    sealed.extend(encrypted(&check, &plain, keys));
    URL_SAFE_NO_PAD.encode(sealed)
}

fn open(sealed: &str, keys: &Keys) -> Option<(String, Device)> {
    let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (tag, hidden) = bytes.split_first_chunk::<CHECK>()?;
    keys.0.iter().find_map(|key| {
        let keys = Keys(vec![*key]);
        let plain = encrypted(tag, hidden, &keys);
        if check(&plain, &keys) != *tag {
            return None;
        }
        let (fixed, aor) = plain.split_first_chunk::<FIXED>()?;
        let mark = u32::from_be_bytes(*fixed.last_chunk::<4>()?);
        Some((String::from_utf8(aor.to_vec()).ok()?, Device::Mark(mark)))
    })
}

fn check(plain: &[u8], keys: &Keys) -> [u8; CHECK] {
    let [check @ .., _, _, _, _] = keys.derive("gruu check", plain);
    check
}

/// With a stream of bytes made of the check; the same again takes it off.
fn encrypted(check: &[u8; CHECK], bytes: &[u8], keys: &Keys) -> Vec<u8> {
    let block = |number: usize| keys.derive("gruu", &[&check[..], &number.to_be_bytes()].concat());
    let stream = (0..).flat_map(block);
    bytes.iter().zip(stream).map(|(byte, mask)| byte ^ mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(first: u8) -> Keys {
        Keys(vec![[first; 32]])
    }

    #[test]
    fn a_temporary_one_says_nothing_and_leads_to_one_device() {
        let sealed = seal("alice@example.com", 7, 1, 1_800_000_000, &keys(1));
        assert!(!sealed.contains("alice"));
        assert_eq!(open(&sealed, &keys(1)), Some(("alice@example.com".into(), Device::Mark(7))));
        assert_eq!(open(&sealed, &keys(2)), None, "another's");
        let both = Keys(vec![[2; 32], [1; 32]]);
        assert!(open(&sealed, &both).is_some(), "a key that was retired still opens");
    }

    #[test]
    fn every_register_is_given_another_one_and_a_changed_letter_makes_it_worthless() {
        let of = |cseq| seal("alice@example.com", 7, cseq, 1_800_000_000, &keys(1));
        assert_ne!(of(1), of(2));
        let sealed = of(1);
        for at in 0..sealed.len() {
            let other = if &sealed[at..=at] == "A" { "B" } else { "A" };
            let changed = [&sealed[..at], other, &sealed[at + 1..]].concat();
            assert_eq!(open(&changed, &keys(1)), None, "letter {at}");
        }
    }
}
