//! Methods and header names.

/// A method (RFC 3261 §7.1; extension methods as they are written).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are named as on the wire")]
pub enum Method<'a> {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Prack,
    Update,
    Info,
    Refer,
    Subscribe,
    Notify,
    Publish,
    Message,
    /// Any other, as written.
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// As written on the wire.
    pub fn as_str(&self) -> &'a str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Info => "INFO",
            Method::Refer => "REFER",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Publish => "PUBLISH",
            Method::Message => "MESSAGE",
            Method::Other(name) => name,
        }
    }

    /// From the wire: case-sensitive.
    pub fn from_token(token: &'a str) -> Method<'a> {
        match token {
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "REGISTER" => Method::Register,
            "OPTIONS" => Method::Options,
            "PRACK" => Method::Prack,
            "UPDATE" => Method::Update,
            "INFO" => Method::Info,
            "REFER" => Method::Refer,
            "SUBSCRIBE" => Method::Subscribe,
            "NOTIFY" => Method::Notify,
            "PUBLISH" => Method::Publish,
            "MESSAGE" => Method::Message,
            other => Method::Other(other),
        }
    }
}

macro_rules! names {
    ($($variant:ident $long:literal $($compact:literal)?,)*) => {
        /// The headers we know, compact forms folded in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "they are named as on the wire")]
        pub enum Name {
            $($variant,)*
            /// Any other; compare [`Header::raw_name`](super::Header::raw_name).
            Other,
        }

        /// The long forms, in the order of [`Name`].
        const LONG: &[(&str, Name)] = &[$(($long, Name::$variant),)*];

        /// The name with this compact form (lower case).
        fn from_compact(letter: u8) -> Name {
            match letter {
                $($($compact => Name::$variant,)?)*
                _ => Name::Other,
            }
        }
    };
}

names! {
    Via "Via" b'v',
    From "From" b'f',
    To "To" b't',
    CallId "Call-ID" b'i',
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    MaxBreadth "Max-Breadth",
    Contact "Contact" b'm',
    ContentLength "Content-Length" b'l',
    ContentType "Content-Type" b'c',
    RecordRoute "Record-Route",
    Route "Route",
    UserAgent "User-Agent",
    Allow "Allow",
    Supported "Supported" b'k',
    Subject "Subject" b's',
    Require "Require",
    ProxyAuthorization "Proxy-Authorization",
    Authorization "Authorization",
    Expires "Expires",
    FlowTimer "Flow-Timer",
    SessionExpires "Session-Expires" b'x',
    Accept "Accept",
    AllowEvents "Allow-Events" b'u',
    AuthenticationInfo "Authentication-Info",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" b'e',
    Date "Date",
    Event "Event" b'o',
    HistoryInfo "History-Info",
    Identity "Identity" b'y',
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    NodeAuth "Node-Auth",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    Path "Path",
    Privacy "Privacy",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyRequire "Proxy-Require",
    RAck "RAck",
    RSeq "RSeq",
    Reason "Reason",
    ReferTo "Refer-To" b'r',
    ReferredBy "Referred-By" b'b',
    RelayLeg "Relay-Leg",
    RelayNetwork "Relay-Network",
    RelayPeer "Relay-Peer",
    RelayPolicy "Relay-Policy",
    RelaySrtp "Relay-Srtp",
    RelaySession "Relay-Session",
    RelayVerdict "Relay-Verdict",
    Replaces "Replaces",
    RetryAfter "Retry-After",
    Server "Server",
    ServiceRoute "Service-Route",
    SubscriptionState "Subscription-State",
    Unsupported "Unsupported",
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
}

/// A place in [`LONG`] for what length, first and last letter of a name come to, in any case; the rest filled with a place
/// beyond it.
struct Shapes {
    first: usize,
    last: usize,
    places: [u8; 256],
}

static SHAPES: Shapes = Shapes::of_all();

impl Shapes {
    const fn shape(&self, length: usize, first: u8, last: u8) -> usize {
        (length + self.first * (first | 0x20) as usize + self.last * (last | 0x20) as usize)
            % self.places.len()
    }

    /// With the first factors by which each name that we know has a shape of its own.
    const fn of_all() -> Shapes {
        let mut shapes = Shapes { first: 1, last: 1, places: [u8::MAX; 256] };
        while !shapes.fill() {
            shapes.last = shapes.last % 64 + 1;
            shapes.first += (shapes.last == 1) as usize;
            shapes.places = [u8::MAX; 256];
        }
        shapes
    }

    const fn fill(&mut self) -> bool {
        let mut at = 0;
        while at < LONG.len() {
            let long = LONG[at].0.as_bytes();
            let shape = self.shape(long.len(), long[0], long[long.len() - 1]);
            if self.places[shape] != u8::MAX {
                return false;
            }
            self.places[shape] = at as u8;
            at += 1;
        }
        true
    }
}

impl Name {
    /// The long form, as we write it; "" for [`Name::Other`].
    pub fn as_str(self) -> &'static str {
        LONG.get(self as usize).map_or("", |(long, _)| long)
    }

    /// From the wire, any case, long or compact.
    pub fn from_token(token: &[u8]) -> Name {
        let place = match token {
            [letter] => return from_compact(letter.to_ascii_lowercase()),
            [first, .., last] => SHAPES.places[SHAPES.shape(token.len(), *first, *last)],
            [] => return Name::Other,
        };
        match LONG.get(usize::from(place)) {
            Some(&(long, name)) if long.as_bytes() == token => name,
            Some(&(long, name)) if long.as_bytes().eq_ignore_ascii_case(token) => name,
            _ => Name::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_long_form_in_any_case() {
        for &(long, name) in LONG {
            assert_eq!(name.as_str(), long);
            assert_eq!(Name::from_token(long.as_bytes()), name);
            assert_eq!(Name::from_token(long.to_ascii_uppercase().as_bytes()), name);
        }
    }

    #[test]
    fn compact_forms_are_the_same_names() {
        for (letter, name) in [(b"v", Name::Via), (b"I", Name::CallId), (b"l", Name::ContentLength)] {
            assert_eq!(Name::from_token(letter), name);
        }
        assert_eq!(Name::from_token(b"z"), Name::Other);
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::from_token("INVITE"), Method::Invite);
        assert_eq!(Method::from_token("invite"), Method::Other("invite"));
        for name in ["PRACK", "MESSAGE", "!interesting-Method0123456789_*+`.%indeed'~"] {
            assert_eq!(Method::from_token(name).as_str(), name);
        }
    }
}
