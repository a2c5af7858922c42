//! The lexical ground of SIP (RFC 3261 §25.1): white space with folds in it, tokens, quoted strings, lists.

/// Linear white space inside a value: a fold is CRLF and white space, so all four bytes count.
pub(super) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without surrounding white space and folds.
pub(super) fn trim(text: &str) -> &str {
    let bytes = text.as_bytes();
    if let [first, .., last] = bytes
        && !is_lws(*first)
        && !is_lws(*last)
    {
        return text;
    }
    let Some(first) = bytes.iter().position(|&b| !is_lws(b)) else { return "" };
    let last = bytes.iter().rposition(|&b| !is_lws(b)).unwrap_or(first);
    &text[first..=last]
}

/// A set of bytes, asked for one byte after the other: a look into a table each.
pub(super) struct ByteSet([bool; 256]);

impl ByteSet {
    /// Letters, digits and these.
    pub(super) const fn alphanumeric_and(others: &[u8]) -> ByteSet {
        let mut table = [false; 256];
        let mut at = 0;
        while at < 128 {
            table[at] = (at as u8).is_ascii_alphanumeric();
            at += 1;
        }
        ByteSet(table).and(others)
    }

    /// White space, control characters of ASCII and these.
    pub(super) const fn blank_and(others: &[u8]) -> ByteSet {
        let mut table = [false; 256];
        let mut at = 0;
        while at <= b' ' as usize {
            table[at] = true;
            at += 1;
        }
        table[0x7f] = true;
        ByteSet(table).and(others)
    }

    const fn and(mut self, others: &[u8]) -> ByteSet {
        let mut at = 0;
        while at < others.len() {
            self.0[others[at] as usize] = true;
            at += 1;
        }
        self
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// Where the first that is not of the set stands.
    pub(super) fn first_not_in(&self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|&byte| !self.has(byte))
    }

    /// Whether these are of the set, and there are some.
    pub(super) fn are_all(&self, word: &[u8]) -> bool {
        !word.is_empty() && word.iter().all(|&byte| self.has(byte))
    }
}

static TOKEN: ByteSet = ByteSet::alphanumeric_and(b"-.!%*_+`'~");

/// `token` characters.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN.has(byte)
}

/// Whether this is a non-empty `token`.
pub(super) fn is_token_word(word: &[u8]) -> bool {
    TOKEN.are_all(word)
}

/// Where the first such byte stands, when it is near: eight bytes take one look. Sooner there than a search that first warms
/// up, slower beyond some hundred bytes.
pub(super) fn near(byte: u8, bytes: &[u8]) -> Option<usize> {
    // What does not differ is below one.
    let differs = |eight: u64| eight ^ (ONES * u64::from(byte));
    let (eights, rest) = bytes.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        let same = below(1, differs(u64::from_le_bytes(*eight)));
        if same != 0 {
            return Some(8 * number + first_of(same));
        }
    }
    let place = rest.iter().position(|&there| there == byte);
    place.map(|place| bytes.len() - rest.len() + place)
}

/// Where the first byte below `limit` (0x80 at most) stands. Sixteen bytes take one decision.
pub(super) fn first_below(limit: u8, bytes: &[u8]) -> Option<usize> {
    let (sixteens, rest) = bytes.as_chunks::<16>();
    for (number, sixteen) in sixteens.iter().enumerate() {
        // The compiler makes one comparison of it.
        if sixteen.iter().fold(false, |one, byte| one | (*byte < limit)) {
            let both = u128::from_le_bytes(*sixteen);
            let (one, other) = (below(limit, both as u64), below(limit, (both >> 64) as u64));
            return Some(16 * number + if one != 0 { first_of(one) } else { 8 + first_of(other) });
        }
    }
    let place = rest.iter().position(|&there| there < limit);
    place.map(|place| bytes.len() - rest.len() + place)
}

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// The high bit of each of eight bytes that is below `limit`, and of none before the first of them.
fn below(limit: u8, eight: u64) -> u64 {
    eight.wrapping_sub(ONES * u64::from(limit)) & !eight & HIGHS
}

/// Which of eight bytes is the first whose high bit is there.
fn first_of(highs: u64) -> usize {
    highs.trailing_zeros() as usize / 8
}

/// Whether there is white space among these.
pub(super) fn has_lws(bytes: &[u8]) -> bool {
    first_below(b' ' + 1, bytes).is_some_and(|at| bytes[at..].iter().any(|&byte| is_lws(byte)))
}

/// What stands before the first `byte`, and after it, where it is [near]. Much cheaper than `str::split_once`.
pub(super) fn cut(text: &str, byte: u8) -> Option<(&str, &str)> {
    debug_assert!(byte.is_ascii(), "any other could be a part of a character");
    let at = near(byte, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

/// What stands before the first `byte`: all of it when there is none.
pub(super) fn before_first(text: &str, byte: u8) -> &str {
    cut(text, byte).map_or(text, |(before, _)| before)
}

/// Where the quoted string whose opening quote is at `open` ends (after its closing quote).
pub(super) fn quoted_end(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(length) = memchr::memchr2(b'"', b'\\', text.get(at..)?) {
        at += length;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
    None
}

/// Splits at `separator` where it stands outside quoted strings, angle brackets and comments. What an unclosed quote
/// or bracket opens runs to the end.
pub(super) fn split(text: &str, separator: u8) -> Split<'_> {
    Split { rest: Some(text), separator }
}

/// See [`split`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Split<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let Some(at) = find_outside(self.separator, text.as_bytes()) else {
            self.rest = None;
            return Some(trim(text));
        };
        self.rest = Some(&text[at + 1..]);
        Some(trim(&text[..at]))
    }
}

/// The first `wanted` outside quoted strings, angle brackets and comments.
fn find_outside(wanted: u8, text: &[u8]) -> Option<usize> {
    let first = memchr::memchr(wanted, text)?;
    let Some(mut at) = memchr::memchr3(b'"', b'<', b'(', &text[..first]) else { return Some(first) };
    while let Some(&byte) = text.get(at) {
        at = match byte {
            _ if byte == wanted => return Some(at),
            b'"' => quoted_end(text, at)?,
            b'<' => at + memchr::memchr(b'>', &text[at..])?,
            b'(' => comment_end(text, at)?,
            _ => at + 1,
        };
    }
    None
}

/// How deep comments may nest. Without an end to it every unclosed parenthesis would be followed to the end of the text.
const MAX_NESTED: usize = 8;

/// Where the comment that opens at `open` ends. Comments nest; a parenthesis that is unclosed, or has too many others in
/// it, is a character like others (user parts may contain one).
fn comment_end(text: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, &byte) in text.iter().enumerate().skip(open) {
        match byte {
            b'(' if depth == MAX_NESTED => break,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
    }
    Some(open + 1)
}

/// Non-empty values of a comma-separated list (RFC 3261 §7.3.1).
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> + Clone {
    list_of(text, b',')
}

/// The same of a list with another separator.
pub(super) fn list_of(text: &str, separator: u8) -> impl Iterator<Item = &str> + Clone {
    split(text, separator).filter(|value| !value.is_empty())
}

/// Where `inner`, a slice of `outer`, begins in it.
pub(super) fn offset_in(outer: &str, inner: &str) -> usize {
    (inner.as_ptr() as usize).saturating_sub(outer.as_ptr() as usize).min(outer.len())
}

/// Without the quotes around it, if it has them; escapes stay.
pub(super) fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// Whether `written` is this word in any case; in a URI it may be escaped (`%6c%72` is `lr`, RFC 4475 §3.1.1.3).
pub(super) fn is_same_word(written: &str, word: &str) -> bool {
    // Escaping makes a word longer.
    written.eq_ignore_ascii_case(word)
        || written.len() > word.len()
            && written.contains('%')
            && unescaped(written).map(|b| b.to_ascii_lowercase()).eq(word.bytes())
}

/// The bytes of `text`, every `%xx` as the byte it stands for.
fn unescaped(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let hex =
            rest.strip_prefix('%').and_then(|r| r.get(..2)).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte = hex.or(rest.bytes().next())?;
        let taken = if hex.is_some() { 3 } else { 1 };
        rest = rest.get(taken..).unwrap_or("");
        Some(byte)
    })
}

/// A decimal number, too large ones cut to the largest. `None` for anything but digits.
pub(super) fn decimal_saturating(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.bytes().fold(0u32, |n, b| n.saturating_mul(10).saturating_add(u32::from(b - b'0'))))
}

/// A decimal number of digits only (`str::parse` would take a sign).
pub(super) fn decimal<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let mut number = 0u64;
    for byte in text.bytes() {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    T::try_from(number).ok().filter(|_| !text.is_empty())
}

/// Appends a number in decimal digits.
pub(super) fn push_decimal(to: &mut String, number: u32) {
    if number >= 10 {
        push_decimal(to, number / 10);
    }
    to.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<&str> {
        list(text).collect()
    }

    #[test]
    fn commas_in_quotes_brackets_and_comments_separate_nothing() {
        assert_eq!(
            values(r#""a, \", b" <sip:x,y@z>;p="1,2" , <sip:b>"#),
            [r#""a, \", b" <sip:x,y@z>;p="1,2""#, "<sip:b>"]
        );
        assert_eq!(values("SIP/2.0/UDP a (Acme, Inc. (US)), b"), ["SIP/2.0/UDP a (Acme, Inc. (US))", "b"]);
    }

    #[test]
    fn an_open_quote_or_bracket_swallows_the_rest() {
        assert_eq!(values(r#"a, "b, c"#), ["a", r#""b, c"#]);
        assert_eq!(values("a, <b, c"), ["a", "<b, c"]);
        assert_eq!(values("a(b, c"), ["a(b", "c"]);
    }

    #[test]
    fn comments_nest_eight_deep_and_what_is_deeper_is_none() {
        let nested = |depth: usize| format!("{}a, b{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(values(&nested(MAX_NESTED)), [nested(MAX_NESTED)]);
        // The outermost is a character then, and the others are a comment.
        assert_eq!(values(&nested(MAX_NESTED + 1)), [nested(MAX_NESTED + 1)]);
        assert_eq!(values("((((((((( , (a, b)"), ["(((((((((", "(a, b)"]);
    }

    #[test]
    fn folds_are_white_space_between_values() {
        assert_eq!(values("a ,\r\n\tb\r\n , c"), ["a", "b", "c"]);
    }

    #[test]
    fn empty_values_are_none() {
        assert_eq!(values(" ,, a,,"), ["a"]);
        assert_eq!(values(""), Vec::<&str>::new());
    }

    #[test]
    fn an_escaped_word_is_the_same_word() {
        assert!(is_same_word("%6C%72", "lr") && is_same_word("n%61me", "name") && is_same_word("LR", "lr"));
        assert!(!is_same_word("%6C", "lr") && !is_same_word("%", "lr") && !is_same_word("%é", "lr"));
    }

    #[test]
    fn what_is_near_is_found_where_it_is() {
        let text: Vec<u8> = (0..=255).chain(0..=255).collect();
        for length in 0..40 {
            for byte in 0..=255 {
                let among = &text[200..200 + length];
                assert_eq!(near(byte, among), among.iter().position(|b| *b == byte), "{byte} in {among:?}");
            }
        }
        assert_eq!(near(b'\n', b"\x0b\x8a\n\n"), Some(2), "its neighbours are others");
        assert_eq!(near(b'\n', b"\x0b\x8a\n\x0b\n\x0b\x0b\x0b"), Some(2));
    }

    #[test]
    fn the_first_byte_below_a_limit_is_found_where_it_is() {
        const LOWS: [u8; 9] = [0, b'\r', 0x0f, 0x10, b' ', b'!', 0x7f, 0x80, 0x8d];
        for length in 0..40 {
            for (low, place) in LOWS.into_iter().flat_map(|low| (0..length).map(move |place| (low, place))) {
                // Bytes above 0x7f are not below any limit, though some of their bits are.
                let mut among = [b'x', 0x80, 0xff, b'!'].repeat(10);
                among.truncate(length);
                (among[place], among[length - 1]) = (low, low);
                for limit in [0x10, 0x21] {
                    let first = among.iter().position(|b| *b < limit);
                    assert_eq!(first_below(limit, &among), first, "{among:?}");
                }
            }
        }
    }

    #[test]
    fn white_space_is_told_from_other_control_characters() {
        for (text, has) in
            [("", false), ("a\0\x1f", false), ("a\0b c", true), ("\t", true), ("a\r\n b", true)]
        {
            assert_eq!(has_lws(text.as_bytes()), has, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 255, 5060, 65_535, u32::MAX] {
            let mut text = String::new();
            push_decimal(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn numbers_have_digits_only() {
        assert_eq!(decimal::<u16>("5060"), Some(5060));
        assert_eq!(decimal::<u16>("+5060"), None);
        assert_eq!(decimal::<u16>("65536"), None);
        assert_eq!(decimal::<u16>(""), None);
        assert_eq!(decimal::<u64>("18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal::<u64>("18446744073709551616"), None);
        assert_eq!(decimal::<u16>("000000000000000000000000005060"), Some(5060));
        assert_eq!(decimal_saturating("99999999999999999999"), Some(u32::MAX));
        assert_eq!(decimal_saturating("-1"), None);
    }
}
