//! Messages of our own: responses made from requests, and requests made from nothing.

use super::{Message, Name};

/// A response to `request` (RFC 3261 §8.2.6): Via, From, To, Call-ID and CSeq copied byte for byte, all Record-Route
/// too when it may make a dialog (2xx and 101–199 to INVITE …). `to_tag` is added to To when it has none and the status is not 100. Add more with the
/// returned builder.
pub fn reply(request: &Message, status: u16, to_tag: &str) -> Builder { let _ = (request, status, to_tag); todo!() }

/// Writes a message line by line.
#[derive(Clone, Debug)]
pub struct Builder {
    _head: Vec<u8>,
}

impl Builder {
    /// `METHOD uri SIP/2.0`.
    pub fn request(method: &str, uri: &str) -> Builder { let _ = (method, uri); todo!() }
    /// A header line, in the order of calls.
    pub fn header(self, name: Name, value: impl std::fmt::Display) -> Builder { let _ = (name, value.to_string()); todo!() }
    /// A header line by a name we have no word for.
    pub fn raw_header(self, name: &str, value: impl std::fmt::Display) -> Builder { let _ = (name, value.to_string()); todo!() }
    /// Content-Type and body; Content-Length is written by [`Builder::finish`] in any case.
    pub fn body(self, content_type: &str, body: &[u8]) -> Builder { let _ = (content_type, body); todo!() }
    /// The message. Line breaks in values are replaced by spaces, so that no value can forge a header.
    pub fn finish(self) -> Message { todo!() }
}

/// The standard reason phrase of a status (RFC 3261 §21 and the IANA registry); "" when it has none.
pub fn reason_phrase(status: u16) -> &'static str { let _ = status; todo!() }
