//! Where rtpengine's protocol is spoken; the short ways to write it.

use std::path::PathBuf;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::media::Latch;
use crate::config::values::{Cidr, SipAddress};

/// Where ng commands come in (`udp`, `tcp` or `ws`), and from whom. One address, or several, may be written alone.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ng {
    /// Addresses it listens on.
    pub listen: Vec<SipAddress>,
    /// Who may command: the protocol proves nothing, so that an address is all there is to go by.
    pub allow: Vec<Cidr>,
    /// Whom a leg accepts first.
    pub latch: Latch,
    /// The folder of what `play media` may play; none: nothing but what is in the command.
    pub media: Option<PathBuf>,
}

impl Ng {
    fn at(listen: Vec<SipAddress>) -> Ng {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|range| range.parse().ok());
        Ng { listen, allow: loopback.collect(), latch: Latch::Strict, media: None }
    }
}

/// The same written out: a list needs no brackets when it has one entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NgInFull {
    listen: OneOrMore<SipAddress>,
    allow: Option<OneOrMore<Cidr>>,
    #[serde(default)]
    latch: Latch,
    media: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for Ng {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Ng, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Ng;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "an address such as `udp:127.0.0.1:2223`, a list of them, or a mapping with `listen`",
                )
            }

            fn visit_str<E: de::Error>(self, address: &str) -> Result<Ng, E> {
                address.parse().map(|address| Ng::at(vec![address])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Ng, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Ng::at)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Ng, A::Error> {
                let full = NgInFull::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let ng = Ng { latch: full.latch, media: full.media, ..Ng::at(full.listen.0) };
                Ok(Ng { allow: full.allow.map_or(ng.allow, |allow| allow.0), ..ng })
            }
        }
        de.deserialize_any(Shape)
    }
}

/// A value, or a list of them.
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de> + std::str::FromStr<Err = String>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<OneOrMore<T>, D::Error> {
        struct Shape<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + std::str::FromStr<Err = String>> Visitor<'de> for Shape<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, or a list of them")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OneOrMore<T>, E> {
                word.parse().map(|value| OneOrMore(vec![value])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMore<T>, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(OneOrMore)
            }
        }
        de.deserialize_any(Shape(std::marker::PhantomData))
    }
}
