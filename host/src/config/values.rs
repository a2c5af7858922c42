//! The scalars of the configuration: each reads from one YAML value and says, when it can't, what it expected.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use proto::node::Transport;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A SIP address of a listener or a neighbour: `udp:192.0.2.1:5060`, or without the transport, which is then UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SipAddress {
    /// How bytes travel.
    pub transport: Transport,
    /// Where.
    pub addr: SocketAddr,
}

impl SipAddress {
    /// `addr` over UDP.
    pub fn udp(addr: SocketAddr) -> SipAddress {
        SipAddress { transport: Transport::Udp, addr }
    }
}

impl FromStr for SipAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<SipAddress, String> {
        let wrong = || {
            format!("`{text}` is not an address; expected `udp:192.0.2.1:5060` or `tcp:[2001:db8::1]:5060`")
        };
        let (transport, rest) = match text.split_once(':') {
            Some((name, rest)) if Transport::from_name(name).is_some() => (Transport::from_name(name), rest),
            _ => (Some(Transport::Udp), text),
        };
        let transport = transport.ok_or_else(wrong)?;
        let addr = rest
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| proto::node::literal(rest).map(|ip| SocketAddr::new(ip, transport.default_port())))
            .ok_or_else(wrong)?;
        Ok(SipAddress { transport, addr })
    }
}

impl fmt::Display for SipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.addr)
    }
}

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub proto::cidr::Cidr);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong =
            |why| format!("`{text}` is not a network ({why}); expected `10.0.0.0/8` or `2001:db8::/32`");
        text.parse().map(Cidr).map_err(wrong)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Media ports, both ends included: `30000-39999`, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl Ports {
    /// How many.
    pub fn count(&self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let wrong = || format!("`{text}` is not a range of ports; expected `30000-39999`");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |word: &str| word.trim().parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(wrong);
        let ports = Ports { first: number(first)?, last: number(last)? };
        if ports.first <= ports.last { Ok(ports) } else { Err(wrong()) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A length of time: `250ms`, `30s`, `5m`, `24h`, or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("`{text}` is not a length of time; expected `500ms`, `30s`, `5m` or `24h`");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let millis = match text[digits..].trim() {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        count.checked_mul(millis).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1000 != 0 => write!(f, "{ms}ms"),
            ms => write!(f, "{}s", ms / 1000),
        }
    }
}

/// A list, or its only member alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Listed<T>(pub Vec<T>);

impl<T> Default for Listed<T> {
    fn default() -> Listed<T> {
        Listed(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Listed<T>, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Listed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one, or a list of them")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Listed<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Listed(all))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listed<T>, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(|one| Listed(vec![one]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Listed<T>, E> {
                T::deserialize(de::value::U64Deserializer::new(number)).map(|one| Listed(vec![one]))
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<Listed<T>, M::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| Listed(vec![one]))
            }
        }
        de.deserialize_any(Either(std::marker::PhantomData))
    }
}

/// Reads a value from its words, numbers included.
struct Words<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Words<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

macro_rules! by_words {
    ($($type:ty: $expected:literal),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
                de.deserialize_any(Words($expected, std::marker::PhantomData))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
                ser.collect_str(self)
            }
        }
    )*};
}

by_words! {
    SipAddress: "an address such as `udp:192.0.2.1:5060`",
    Cidr: "a network such as `10.0.0.0/8`",
    Ports: "a range of ports such as `30000-39999`",
    Span: "a length of time such as `30s`"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_transport_and_port() {
        let address = |text: &str| text.parse::<SipAddress>().map(|a| a.to_string());
        assert_eq!(address("127.0.0.1:5070").as_deref(), Ok("udp:127.0.0.1:5070"));
        assert_eq!(address("tcp:[::1]").as_deref(), Ok("tcp:[::1]:5060"));
        assert_eq!(address("tls:192.0.2.1").as_deref(), Ok("tls:192.0.2.1:5061"));
        assert!(address("sctp:192.0.2.1:5060").is_err());
    }

    #[test]
    fn lengths_of_time_have_units() {
        let span = |text: &str| text.parse::<Span>().map(|s| s.0.as_millis());
        assert_eq!(span("500ms"), Ok(500));
        assert_eq!(span("30"), Ok(30_000));
        assert_eq!(span("5m"), Ok(300_000));
        assert!(span("5 apples").is_err());
        assert!(span("").is_err());
    }

    #[test]
    fn ports_run_upwards() {
        assert_eq!("30000-39999".parse::<Ports>().map(|p| p.count()), Ok(10_000));
        assert_eq!("30000".parse::<Ports>().map(|p| (p.count(), p.to_string())), Ok((1, "30000".into())));
        assert!("40000-30000".parse::<Ports>().is_err());
        assert!("0-10".parse::<Ports>().is_err());
    }
}
