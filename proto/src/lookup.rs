//! Routes by HTTP: what a server of the operator's is asked about a call, and what it may say. The proxy asks and understands;
//! how it is fetched, and for how long it is remembered, is the host's errand.

use std::fmt;
use std::time::Duration;

/// Whom to ask, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Lookup {
    /// `https://routes.example/v1?to={number}`: the parts in braces are filled in ([`PARTS`]).
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// How long an answer may take, waiting and connecting included.
    pub timeout: Duration,
    /// How long one that says nothing of its life is remembered.
    pub cache: Duration,
    /// How long it is remembered that there was none.
    pub negative: Duration,
}

/// What may be filled into a URL.
pub const PARTS: [&str; 7] = ["number", "to", "user", "host", "from", "source", "trunk"];

/// What the server says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// To these URIs, one after the other.
    Targets(Vec<String>),
    /// To these trunks, the first that works.
    Trunks {
        /// By name.
        names: Vec<String>,
        /// The number to call there; `None`: the route's.
        number: Option<String>,
    },
    /// Nowhere.
    Refuse {
        /// The status, 400 to 699.
        code: u16,
        /// Why, for the caller.
        reason: Option<String>,
    },
}

impl Lookup {
    /// The URL for one call. What stands for a part is percent-encoded (RFC 3986 §2.1).
    pub fn filled<'v>(&self, value: impl Fn(&str) -> &'v str) -> String {
        let mut url = String::with_capacity(self.url.len() + 32);
        for piece in pieces(&self.url) {
            match piece {
                Piece::Text(text) => url.push_str(text),
                Piece::Part(name) => encode(value(name), &mut url),
            }
        }
        url
    }

    /// The names in braces.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        pieces(&self.url).filter_map(|piece| match piece {
            Piece::Part(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// Scheme and server alone: what may stand in a log.
    pub fn server(&self) -> &str {
        let after = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[after..].find(['/', '?', '{']).map_or(self.url.len(), |at| after + at);
        &self.url[..end]
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup({})", self.url)
    }
}

enum Piece<'a> {
    Text(&'a str),
    Part(&'a str),
}

fn pieces(url: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = url;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = rest.strip_prefix('{').and_then(|open| open.split_once('}'));
        if let Some((name, after)) = part {
            rest = after;
            return Some(Piece::Part(name));
        }
        let next = rest.char_indices().skip(1).find(|(_, letter)| *letter == '{');
        let end = next.map_or(rest.len(), |(at, _)| at);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

fn encode(value: &str, url: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(url: &str) -> Lookup {
        let second = Duration::from_secs(1);
        Lookup {
            url: url.into(),
            token: Some("secret".into()),
            timeout: second,
            cache: second,
            negative: second,
        }
    }

    #[test]
    fn what_is_filled_in_can_t_leave_its_place() {
        let asks = lookup("https://routes.example:8443/v1/{user}?to={number}&x={from}{from}");
        let url = asks.filled(|name| match name {
            "number" => "+49 30",
            "user" => "../admin?&#",
            _ => "ä",
        });
        let expected = "https://routes.example:8443/v1/..%2Fadmin%3F%26%23?to=%2B49%2030&x=%C3%A4%C3%A4";
        assert_eq!(url, expected);
        assert_eq!(asks.parts().collect::<Vec<_>>(), ["user", "number", "from", "from"]);
    }

    #[test]
    fn a_url_without_parts_or_with_half_of_one_is_as_written() {
        for url in ["http://a.example/", "", "{", "http://a/{number", "é}{"] {
            assert_eq!(lookup(url).filled(|_| "x"), url);
        }
    }

    #[test]
    fn what_is_logged_shows_neither_number_nor_secret() {
        let asks = lookup("https://routes.example:8443/v1/{user}");
        assert_eq!(asks.server(), "https://routes.example:8443");
        assert!(!format!("{asks:?}").contains("secret"));
        assert_eq!(lookup("http://{host}/").server(), "http://");
    }
}
