//! Text inside a URI: what may not stand there is written as `%XX` (RFC 3261 §19.1.2).

/// Text of which only the unreserved characters (RFC 3261 §25.1) and those in `also` stay as they are.
pub fn escaped(text: &str, also: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) || also.contains(&byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The text that was escaped; `None` when a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
pub fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = more.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_comes_back() {
        for text in ["", "c;1@x;to-tag=a%20", "ä<>\"?&", "plain-_.!~*'()"] {
            assert_eq!(unescaped(&escaped(text, b"")).as_deref(), Some(text));
            assert_eq!(unescaped(&escaped(text, b"[]/?:+$")).as_deref(), Some(text));
        }
        assert_eq!(escaped("c;1@[::1]", b"[]:"), "c%3B1%40[::1]");
    }

    #[test]
    fn a_broken_escape_is_no_text() {
        for broken in ["%", "%4", "a%4", "%zz", "%ff"] {
            assert_eq!(unescaped(broken), None, "{broken}");
        }
    }
}
