//! What must be right before a message is let in (RFC 3261 §7, §8.1.1, §16.3 step 1, §18.3; verdicts of RFC 4475).

use bytes::{Buf as _, Bytes};

use super::index::{Set, scan};
use super::{Malformed, Message, Method, Name, lex};

/// Bytes a received message may have.
pub(super) const MAX_MESSAGE: usize = 65_535;
/// Vias a received message may have: Max-Forwards starts at 70, so nothing well-behaved has more.
const MAX_VIAS: usize = 70;

/// See [`Message::parse`].
pub(super) fn parse(bytes: Bytes) -> Result<Message, Malformed> {
    let bytes = without_leading_breaks(bytes);
    if bytes.len() > MAX_MESSAGE {
        return Err(Malformed { status: 513, why: "a message over 65535 bytes" });
    }
    let (index, flaw) = scan(&bytes);
    let mut message = Message::of(bytes, index);
    let verdict = flaw.map_or(Ok(()), Err).and_then(|()| check(&mut message));
    match verdict {
        Err(malformed) if !message.is_request() => Err(Malformed { status: 0, ..malformed }),
        verdict => verdict.map(|()| message),
    }
}

/// See [`Message::answerable`].
pub(super) fn answerable(bytes: &Bytes) -> Option<Message> {
    let bytes = without_leading_breaks(bytes.clone());
    let message = Message::own(bytes.slice(..bytes.len().min(MAX_MESSAGE)));
    let method = message.method();
    let is_method = lex::is_token_word(method.as_str().as_bytes());
    let readable = message.is_request() && is_method && method != Method::Ack && message.via().is_ok();
    readable.then_some(message)
}

/// Line breaks before the start line are ignored (RFC 3261 §7.5).
fn without_leading_breaks(mut bytes: Bytes) -> Bytes {
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    bytes.advance(blank);
    bytes
}

fn check(message: &mut Message) -> Result<(), Malformed> {
    check_counts(message)?;
    message.read_early()?;
    let call_id = message.call_id();
    if call_id.is_empty() || lex::has_lws(call_id.as_bytes()) {
        return Err(Malformed::bad("Call-ID is not a word"));
    }
    let cseq = message.cseq()?;
    if message.is_request() && cseq.method != message.method() {
        return Err(Malformed::bad("CSeq names another method than the request line"));
    }
    cut_body(message)
}

/// What must be there once, or at most once; and no more Vias than a path can have.
fn check_counts(message: &Message) -> Result<(), Malformed> {
    const NEEDED: Set = Set::of(&[Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq]);
    const ALONE: Set =
        Set::of(&[Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards, Name::ContentLength]);
    if !message.index.names.has_all(NEEDED) {
        return Err(Malformed::bad("one of Via, From, To, Call-ID and CSeq is missing"));
    }
    if message.index.names.has_several_of(ALONE) {
        return Err(Malformed::bad("a header that must stand once stands more than once"));
    }
    // What is short has no room for many: each takes two bytes at least, a comma and something else.
    let room = |line| message.raw(line).len() / 2;
    let commas = |line| memchr::memchr_iter(b',', message.raw(line)).count();
    let vias = message.lines(Name::Via);
    if vias.clone().map(|line| 1 + room(line)).sum::<usize>() > MAX_VIAS
        && vias.map(|line| 1 + commas(line)).sum::<usize>() > MAX_VIAS
        && message.values(Name::Via).count() > MAX_VIAS
    {
        return Err(Malformed { status: 483, why: "more than 70 Vias" });
    }
    Ok(())
}

/// RFC 3261 §18.3: in a datagram, bytes after Content-Length are dropped, and missing ones are an error. A framed
/// message has exactly as many as it says.
fn cut_body(message: &mut Message) -> Result<(), Malformed> {
    let Some(line) = message.lines(Name::ContentLength).next() else { return Ok(()) };
    let length = message.line_text(line).and_then(lex::decimal::<usize>);
    let length = length.ok_or(Malformed::bad("Content-Length is not a number"))?;
    if length > message.body().len() {
        return Err(Malformed::bad("Content-Length is larger than the body"));
    }
    let end = message.index.body as usize + length;
    message.bytes.truncate(end);
    Ok(())
}
