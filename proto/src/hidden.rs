//! Names that hide what they stand for: text sealed so that only we can read it, as the user part of a URI of ours.
//!
//! ```text
//!  hid~ base64url of:  | synthetic IV, 16 bytes | the text, as long as it is |
//!                        it is the MAC, too       AES-SIV (RFC 5297)
//! ```
//!
//! Unlike a [`crate::token`], nobody can read it. Nothing is stored: a restarted node, or another one with the key, opens it.
//! Without a nonce the same text has the same name, so that a party's Contact does not change from one request to the next;
//! that two names are the same is all that anybody learns. A Call-ID is hidden in the same way, by such a name alone.

use std::borrow::Cow;

use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::token::Keys;

/// What such a name begins with.
pub const PREFIX: &str = "hid~";

/// The purpose of a Call-ID's name.
pub const CALL: u8 = b'I';

/// What a Call-ID begins with that was given by a network to which the inside's are hidden, and is used inside: this, which
/// network as eight hexadecimal digits, `~`, and the Call-ID.
pub const MARK: &str = "out~";

/// Longer text is not taken: a URI that a peer may not be able to hold.
pub const LONGEST: usize = 1024;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It is no such name.
    Plain,
    /// It looks like one, and nobody with our keys made it.
    Forged,
    /// The text.
    Text(String),
}

impl Keys {
    /// The name of a text; `None`: it is too long. `purpose` separates kinds of names.
    pub fn hide(&self, purpose: u8, text: &str) -> Option<String> {
        let newest = self.0.first().filter(|_| text.len() <= LONGEST)?;
        let sealed = cipher(newest).encrypt([[purpose]], text.as_bytes()).ok()?;
        let mut name = String::with_capacity(PREFIX.len() + sealed.len() * 4 / 3 + 3);
        name.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(sealed, &mut name);
        Some(name)
    }

    /// The text of a name.
    pub fn reveal(&self, purpose: u8, name: &str) -> Hidden {
        let Some(sealed) = name.strip_prefix(PREFIX) else { return Hidden::Plain };
        self.opened(purpose, sealed).map_or(Hidden::Forged, Hidden::Text)
    }

    /// The Call-ID that all names of a call go back to, however many borders are between: what lanes are chosen by.
    pub fn innermost<'a>(&self, call: &'a str) -> Cow<'a, str> {
        let mut call = Cow::Borrowed(call);
        loop {
            call = match (without_mark(&call), self.reveal(CALL, &call)) {
                (Some(theirs), _) => Cow::Owned(theirs.to_owned()),
                (None, Hidden::Text(name)) => Cow::Owned(name),
                (None, Hidden::Plain | Hidden::Forged) => return call,
            }
        }
    }

    fn opened(&self, purpose: u8, sealed: &str) -> Option<String> {
        if sealed.len() > (LONGEST + IV) * 4 / 3 + 3 {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let open = |key| cipher(key).decrypt([[purpose]], &sealed).ok();
        String::from_utf8(self.0.iter().find_map(open)?).ok()
    }
}

/// What the Call-IDs of a network begin with inside.
pub fn mark(network: &str) -> String {
    let [a, b, c, d, ..] = *blake3::hash(network.as_bytes()).as_bytes();
    format!("{MARK}{a:02x}{b:02x}{c:02x}{d:02x}~")
}

/// A marked Call-ID as its own network knows it.
fn without_mark(call: &str) -> Option<&str> {
    let (network, theirs) = call.strip_prefix(MARK)?.split_at_checked(8)?;
    theirs.strip_prefix('~').filter(|_| network.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A key of its own: tokens are MACed with the one it is derived from.
fn cipher(key: &[u8; 32]) -> Aes128Siv {
    Aes128Siv::new(&blake3::derive_key("postern hidden name 1", key).into())
}

const IV: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTACT: &str = "sip:alice@10.0.0.2:5060;transport=tcp";

    fn keys(first: u8) -> Keys {
        Keys(vec![[first; 32]])
    }

    #[test]
    fn nobody_reads_what_is_hidden_and_we_do() {
        let name = keys(1).hide(b'C', CONTACT).unwrap();
        assert!(
            !name.contains("10.0.0.2")
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~".contains(&b))
        );
        assert_eq!(keys(1).reveal(b'C', &name), Hidden::Text(CONTACT.into()));
    }

    #[test]
    fn one_text_has_one_name() {
        assert_eq!(keys(1).hide(b'C', CONTACT), keys(1).hide(b'C', CONTACT));
        assert_ne!(keys(1).hide(b'C', CONTACT), keys(1).hide(b'R', CONTACT));
    }

    #[test]
    fn a_name_of_another_purpose_or_key_is_forged() {
        let name = keys(1).hide(b'C', CONTACT).unwrap();
        assert_eq!(keys(1).reveal(b'R', &name), Hidden::Forged);
        assert_eq!(keys(2).reveal(b'C', &name), Hidden::Forged);
        assert_eq!(keys(1).reveal(b'C', "alice"), Hidden::Plain);
        assert_eq!(keys(1).reveal(b'C', PREFIX), Hidden::Forged);
    }

    #[test]
    fn a_retired_key_still_opens() {
        let name = keys(1).hide(b'C', CONTACT).unwrap();
        assert_eq!(Keys(vec![[2; 32], [1; 32]]).reveal(b'C', &name), Hidden::Text(CONTACT.into()));
    }

    #[test]
    fn no_changed_character_passes() {
        let name = keys(1).hide(b'C', CONTACT).unwrap();
        for at in PREFIX.len()..name.len() {
            for other in ["A", "Q", "-", "=", "!"] {
                let mut forged = name.clone();
                forged.replace_range(at..=at, other);
                assert!(forged == name || keys(1).reveal(b'C', &forged) == Hidden::Forged, "{forged}");
            }
        }
    }

    #[test]
    fn all_names_of_a_call_go_back_to_one() {
        let inside = "a84b4c@10.0.0.50";
        let hidden = keys(1).hide(CALL, inside).unwrap();
        let marked = format!("{MARK}5f1e9a02~{inside}");
        let both = keys(1).hide(CALL, &marked).unwrap();
        for name in [inside, &hidden, &marked, &both] {
            assert_eq!(keys(1).innermost(name), inside, "{name}");
        }
        for other in ["out~", "out~5f1e9a0g~x", "out~5f1e9a02", "hid~x", "out~ääääx~"] {
            assert_eq!(keys(1).innermost(other), other);
        }
    }

    #[test]
    fn what_is_too_long_has_no_name() {
        assert!(keys(1).hide(b'C', &"x".repeat(LONGEST)).is_some());
        assert_eq!(keys(1).hide(b'C', &"x".repeat(LONGEST + 1)), None);
        assert_eq!(keys(1).reveal(b'C', &format!("{PREFIX}{}", "A".repeat(5000))), Hidden::Forged);
    }

    proptest! {
        #[test]
        fn what_is_hidden_is_revealed(text in ".{0,80}", purpose: u8) {
            let name = keys(1).hide(purpose, &text).unwrap();
            prop_assert_eq!(keys(1).reveal(purpose, &name), Hidden::Text(text));
        }

        #[test]
        fn nothing_made_up_is_revealed(name in "(hid~)?[A-Za-z0-9_-]{0,90}|.{0,60}") {
            prop_assert!(!matches!(keys(1).reveal(0, &name), Hidden::Text(_)));
        }
    }
}
