//! Quoted strings (RFC 3261 §25.1): `"a \"b\" \\ c"`.

use std::borrow::Cow;

/// In quotes, with `"` and `\` escaped. Line breaks can't be escaped; they become spaces.
pub(super) fn quote(text: &str) -> String {
    // As nearly all are.
    if !text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | b'\r' | b'\n')) {
        return ["\"", text, "\""].concat();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\r' | '\n' => out.push(' '),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The inside of a quoted string without its escapes.
pub(super) fn unquote(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut chars = inside.chars();
    let plain = std::iter::from_fn(|| match chars.next()? {
        '\\' => Some(chars.next().unwrap_or('\\')),
        c => Some(c),
    });
    Cow::Owned(plain.collect())
}

/// Whether this can stand between quotes as it is: no quote in it ends the string too early, and no escape opens at its
/// end. What a server sends goes back the same, so that a challenge can't put parameters of its own into our answer.
pub(super) fn is_inside(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let fits = match c {
            '"' => false,
            '\\' => chars.next().is_some(),
            _ => true,
        };
        if !fits {
            return false;
        }
    }
    true
}
