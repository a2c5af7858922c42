//! The keys of a process: made once, kept in the store, so that tokens and challenges outlive a restart.

use std::sync::Arc;

use proto::node_auth::NodeKey;
use proto::token::Keys;
use relay::dtls::Handshakes;

/// All of them.
#[derive(Clone)]
pub struct Keyring {
    /// Makes and checks tokens.
    pub token: [u8; 32],
    /// Makes and checks nonces.
    pub nonce: [u8; 32],
    /// What our nodes prove themselves with.
    pub node: NodeKey,
    /// Spreads Call-IDs over lanes.
    pub spread: [u8; 32],
    /// What pairs of peers seal their words with derives from it.
    pub pair: [u8; 32],
    /// What access servers mint and reflectors take.
    pub ticket: [u8; 32],
    /// What ends DTLS-SRTP.
    pub dtls: Option<Arc<dyn Handshakes>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// Derives every key from one secret; `configured` (the file's `node-key`) takes the place of the node key, and of
    /// the token key too, so that proxies that share it route each other's dialogs.
    pub fn from_secret(secret: &[u8; 32], configured: Option<&str>) -> Keyring {
        Keyring::with_identity(secret, configured, crate::dtls::Identity::new())
    }

    /// The same with a certificate for DTLS-SRTP that is there already.
    pub fn with_identity(
        secret: &[u8; 32],
        configured: Option<&str>,
        identity: Result<crate::dtls::Identity, String>,
    ) -> Keyring {
        let shared = configured.map(|words| blake3::derive_key("postern node-key v1", words.as_bytes()));
        Keyring {
            token: blake3::derive_key("postern token v1", &shared.unwrap_or(*secret)),
            nonce: blake3::derive_key("postern nonce v1", secret),
            node: NodeKey(blake3::derive_key("postern node v1", &shared.unwrap_or(*secret))),
            spread: blake3::derive_key("postern spread v1", secret),
            pair: blake3::derive_key("postern pair v1", secret),
            ticket: blake3::derive_key("postern ticket v1", &shared.unwrap_or(*secret)),
            dtls: match identity.and_then(crate::dtls::Maker::with) {
                Ok(maker) => Some(Arc::new(maker)),
                Err(error) => {
                    tracing::error!(%error, "browsers can't be talked to");
                    None
                }
            },
        }
    }

    /// As proxies take them.
    pub fn token_keys(&self) -> Keys {
        Keys(vec![self.token])
    }
}

/// 32 bytes from the operating system.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_with_one_node_key_read_each_others_tokens() {
        let one = Keyring::from_secret(&[1; 32], Some("a long shared secret"));
        let two = Keyring::from_secret(&[2; 32], Some("a long shared secret"));
        assert_eq!(one.token, two.token);
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.token, Keyring::from_secret(&[1; 32], None).token);
    }
}
