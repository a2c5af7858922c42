//! Changes to a message as splices: everything untouched leaves as the same bytes.

use super::{Message, Name};

/// A set of changes to one message, applied at once by [`Edit::finish`].
///
/// Methods chain; each sees the message as it was, not as changed so far, except that several `push_front` of one
/// name stack up (the last one pushed ends topmost).
#[derive(Debug)]
pub struct Edit<'m> {
    _message: &'m Message,
}

impl<'m> Edit<'m> {
    /// Another request URI.
    pub fn request_uri(self, uri: &str) -> Self { let _ = uri; todo!() }
    /// A new header line before all of its name (before all headers when there is none).
    pub fn push_front(self, name: Name, value: &str) -> Self { let _ = (name, value); todo!() }
    /// A new header line after all others.
    pub fn append(self, name: Name, value: &str) -> Self { let _ = (name, value); todo!() }
    /// Replaces the value of the first line of this name, or appends one.
    pub fn set(self, name: Name, value: &str) -> Self { let _ = (name, value); todo!() }
    /// Replaces the first comma-separated value of this name (topmost Via, topmost Route), leaving its siblings.
    pub fn set_first(self, name: Name, value: &str) -> Self { let _ = (name, value); todo!() }
    /// Removes the first comma-separated value of this name, its line too when it was the only one.
    pub fn pop_front(self, name: Name) -> Self { let _ = name; todo!() }
    /// Removes every line of this name.
    pub fn remove(self, name: Name) -> Self { let _ = name; todo!() }
    /// Removes the lines of this name whose value `which` picks.
    pub fn remove_where(self, name: Name, which: impl FnMut(&str) -> bool) -> Self { let _ = (name, which); todo!() }
    /// Another body; Content-Length follows (added when there was none).
    pub fn body(self, body: &[u8]) -> Self { let _ = body; todo!() }
    /// Another SDP where [`Message::sdp`] found one: inside a multipart body everything else stays.
    pub fn sdp(self, sdp: &[u8]) -> Self { let _ = sdp; todo!() }
    /// The changed message, indexed again.
    pub fn finish(self) -> Message { todo!() }
}
