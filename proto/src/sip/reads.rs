//! What has been read of a message: the request URI, From, To and the topmost Via are asked for dozens of times on a call's way through
//! a proxy. Each is read the first time somebody asks, and afterwards found by its places.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Malformed, Message, NameAddr, Params, Scheme, Uri, Via, lex};

/// Places by header, relative to the message's first byte; or why it can't be read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub(super) uri: Once<UriAt>,
    pub(super) from: Once<AddressAt>,
    pub(super) to: Once<AddressAt>,
    pub(super) via: Once<ViaAt>,
}

/// Something that is read once: when the message is made, by whoever has it for himself alone, or when it is asked for.
#[derive(Debug)]
pub(super) struct Once<At> {
    early: Option<Read<At>>,
    late: OnceLock<Read<At>>,
}

type Read<At> = Result<At, Malformed>;

impl<At> Default for Once<At> {
    fn default() -> Once<At> {
        Once { early: None, late: OnceLock::new() }
    }
}

impl<At: Copy> Once<At> {
    pub(super) fn of(read: Read<At>) -> Once<At> {
        Once { early: Some(read), late: OnceLock::new() }
    }

    pub(super) fn get_or_read(&self, read: impl FnOnce() -> Read<At>) -> Read<At> {
        self.early.unwrap_or_else(|| *self.late.get_or_init(read))
    }

    /// What was read, where it is now; forgotten if it is nowhere.
    fn moved(&mut self, to: impl FnOnce(&At) -> Option<At>) {
        let read = self.early.take().or_else(|| self.late.take());
        self.early = match read {
            Some(Ok(at)) => to(&at).map(Ok),
            other => other,
        };
    }
}

impl Clone for Reads {
    fn clone(&self) -> Reads {
        Reads::default()
    }
}

impl Reads {
    /// A piece of a header has grown: what was read is further on, if it stands behind it. What was read of the piece
    /// itself is forgotten, but for parameters that end with it.
    pub(super) fn moved(&mut self, cut: &Range<usize>, by: i64) {
        self.from.moved(|at| at.moved(cut, by));
        self.to.moved(|at| at.moved(cut, by));
        self.uri.moved(|at| at.moved(cut, by));
        self.via.moved(|at| at.moved(cut, by));
    }
}

/// What somebody has read says nothing about where things are.
impl PartialEq for Reads {
    fn eq(&self, _: &Reads) -> bool {
        true
    }
}

impl Eq for Reads {}

/// A piece of the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Span {
    /// Where `piece`, a part of `message`, is in it. Pieces that are no part of it are empty ones, which stand nowhere.
    pub(super) fn of(message: &[u8], piece: &str) -> Span {
        let from = (piece.as_ptr() as usize).wrapping_sub(message.as_ptr() as usize);
        if from >= message.len() {
            return Span { from: 0, to: 0 };
        }
        Span { from: from as u32, to: (from + piece.len()) as u32 }
    }

    /// Where it is when what stood at `cut` has grown; `None`: it was a part of that.
    fn moved(self, cut: &Range<usize>, by: i64) -> Option<Span> {
        if (self.to as usize) <= cut.start {
            return Some(self);
        }
        let on = |place: u32| (i64::from(place) + by) as u32;
        (self.from as usize >= cut.end).then(|| Span { from: on(self.from), to: on(self.to) })
    }

    fn over(self, message: &Message) -> &str {
        message.text_of(self.from as usize..self.to as usize).unwrap_or("")
    }
}

/// A [`Uri`] by its places.
#[derive(Clone, Copy, Debug)]
pub(super) struct UriAt {
    raw: Span,
    scheme: Scheme,
    user: Span,
    host: Span,
    port: Option<u16>,
    params: Span,
    headers: Span,
}

impl UriAt {
    pub(super) fn of(message: &[u8], uri: &Uri<'_>) -> UriAt {
        let [raw, user, host, params, headers] =
            [uri.raw, uri.user, uri.host, uri.params.0, uri.headers].map(|piece| Span::of(message, piece));
        UriAt { raw, scheme: uri.scheme, user, host, port: uri.port, params, headers }
    }

    /// A SIP URI in the request line carries no headers (RFC 3261 §19.1.1, RFC 4475 §3.1.2.11).
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let is_sip = matches!(self.scheme, Scheme::Sip | Scheme::Sips);
        match is_sip && self.headers.to > self.headers.from {
            true => Err(Malformed::bad("a request URI with headers in it")),
            false => Ok(()),
        }
    }

    fn moved(&self, cut: &Range<usize>, by: i64) -> Option<UriAt> {
        Some(UriAt {
            raw: self.raw.moved(cut, by)?,
            user: self.user.moved(cut, by)?,
            host: self.host.moved(cut, by)?,
            params: self.params.moved(cut, by)?,
            headers: self.headers.moved(cut, by)?,
            ..*self
        })
    }

    pub(super) fn over<'a>(&self, message: &'a Message) -> Uri<'a> {
        Uri {
            raw: self.raw.over(message),
            scheme: self.scheme,
            user: self.user.over(message),
            host: self.host.over(message),
            port: self.port,
            params: Params(self.params.over(message)),
            headers: self.headers.over(message),
        }
    }
}

/// A [`NameAddr`] by its places.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressAt {
    display: Span,
    raw_uri: Span,
    params: Span,
    tag: Span,
}

impl AddressAt {
    pub(super) fn of(message: &[u8], address: &NameAddr<'_>) -> AddressAt {
        let [display, raw_uri, params, tag] =
            [address.display, address.raw_uri, address.params.0, address.tag()]
                .map(|piece| Span::of(message, piece));
        AddressAt { display, raw_uri, params, tag }
    }

    fn moved(&self, cut: &Range<usize>, by: i64) -> Option<AddressAt> {
        Some(AddressAt {
            display: self.display.moved(cut, by)?,
            raw_uri: self.raw_uri.moved(cut, by)?,
            params: self.params.moved(cut, by)?,
            tag: self.tag.moved(cut, by)?,
        })
    }

    pub(super) fn over<'a>(&self, message: &'a Message) -> NameAddr<'a> {
        NameAddr {
            display: self.display.over(message),
            raw_uri: self.raw_uri.over(message),
            params: Params(self.params.over(message)),
        }
    }

    pub(super) fn tag<'a>(&self, message: &'a Message) -> &'a str {
        self.tag.over(message)
    }
}

/// A [`Via`] by its places.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViaAt {
    transport: Span,
    host: Span,
    port: Option<u16>,
    params: Span,
    branch: Span,
    is_well_formed: bool,
}

impl ViaAt {
    pub(super) fn of(message: &[u8], via: &Via<'_>) -> ViaAt {
        let [transport, host, params, branch] =
            [via.transport, via.host, via.params.0, via.branch].map(|piece| Span::of(message, piece));
        ViaAt { transport, host, port: via.port, params, branch, is_well_formed: via.is_well_formed }
    }

    /// Each of its parameters has a name.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        match self.is_well_formed {
            true => Ok(()),
            false => Err(Malformed::bad("a Via with an empty parameter")),
        }
    }

    fn moved(&self, cut: &Range<usize>, by: i64) -> Option<ViaAt> {
        if self.params.to == 0 {
            // Without parameters it stands nowhere, and may have its first ones now.
            return None;
        }
        let ends_with_it = self.params.from as usize <= cut.start && self.params.to as usize == cut.end;
        let longer = Span { to: (i64::from(self.params.to) + by) as u32, ..self.params };
        Some(ViaAt {
            transport: self.transport.moved(cut, by)?,
            host: self.host.moved(cut, by)?,
            port: self.port,
            params: if ends_with_it { longer } else { self.params.moved(cut, by)? },
            branch: self.branch.moved(cut, by)?,
            is_well_formed: self.is_well_formed,
        })
    }

    pub(super) fn over<'a>(&self, message: &'a Message) -> Via<'a> {
        Via {
            transport: self.transport.over(message),
            host: self.host.over(message),
            port: self.port,
            params: Params(self.params.over(message)),
            branch: self.branch.over(message),
            is_well_formed: self.is_well_formed,
        }
    }
}

/// A value as text. Old phones write display names in Latin-1: the address after one can still be read.
pub(super) fn readable(value: &[u8]) -> Result<&str, Malformed> {
    let bad = Malformed::bad("a header we must read is not UTF-8");
    std::str::from_utf8(value).or_else(|_| {
        let open = match value.first() {
            Some(b'"') => lex::quoted_end(value, 0).ok_or(bad)?,
            _ => memchr::memchr(b'<', value).ok_or(bad)?,
        };
        std::str::from_utf8(&value[open..]).map_err(|_| bad)
    })
}
