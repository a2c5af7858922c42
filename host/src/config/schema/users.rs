//! Accounts, and how they prove themselves.

use std::path::PathBuf;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::media::{Anchor, Latch, Srtp};

/// Accounts: a list, or the name of a file with one (relative to the configuration).
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Users {
    /// Written here.
    Inline(Vec<User>),
    /// In a file of their own, read again at every reload.
    File(PathBuf),
}

impl Default for Users {
    fn default() -> Users {
        Users::Inline(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Users, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Users;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of users or the name of a file with one")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Users, E> {
                Ok(Users::File(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Users, A::Error> {
                let mut users = Vec::new();
                while let Some(user) = seq.next_element()? {
                    users.push(user);
                }
                Ok(Users::Inline(users))
            }
        }
        de.deserialize_any(Either)
    }
}

/// One account.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Digest user name.
    pub name: String,
    /// Its password …
    #[serde(default)]
    pub password: Option<String>,
    /// … or `H(name:realm:password)`, so that the file does not give it away.
    #[serde(default)]
    pub ha1: Option<Ha1>,
    /// Addresses of record it may use; none: its name at any of our domains.
    #[serde(default)]
    pub aors: Vec<String>,
    /// Its own rule for anchoring.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// Its own rule for latching.
    #[serde(default)]
    pub latch: Option<Latch>,
    /// How its media is protected.
    #[serde(default)]
    pub srtp: Option<Srtp>,
    /// Digest algorithms offered to it, in this order; none: as the listener says.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
}

/// Hashed passwords, lower-case hex (RFC 7616 §3.4.2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ha1 {
    /// MD5.
    pub md5: Option<String>,
    /// SHA-256.
    pub sha_256: Option<String>,
}

/// How accounts prove themselves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Auth {
    /// Whether callers and registrations must.
    pub required: bool,
    /// The realm; none: the first domain.
    pub realm: Option<String>,
    /// Offered in this order (RFC 8760). MD5 alone unless said otherwise: phones from before RFC 8760 give up when any
    /// challenge names another algorithm, in whatever order (baresip 1.0 of Debian 12: "Function not implemented").
    pub algorithms: Vec<Algorithm>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { required: true, realm: None, algorithms: vec![Algorithm::Md5] }
    }
}

/// A digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Algorithm {
    /// SHA-256.
    #[serde(rename = "sha-256")]
    Sha256,
    /// MD5.
    #[serde(rename = "md5")]
    Md5,
}
