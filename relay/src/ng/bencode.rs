//! Bencoding, as the ng protocol uses it: `i42e`, `4:spam`, `l…e`, `d…e`. What comes from the network is read with
//! limits on size, depth and number of values, and nothing is copied.

use std::borrow::Cow;

use super::value::{DEPTH, Dict, VALUES, Value};

/// Reads one value that takes up all the bytes.
pub fn read(bytes: &[u8]) -> Option<Value<'_>> {
    let (value, rest) = read_first(bytes)?;
    rest.is_empty().then_some(value)
}

/// The same for what we have written ourselves, of any length.
pub(crate) fn read_ours(bytes: &[u8]) -> Option<Value<'_>> {
    Reader { bytes, at: 0, left: usize::MAX }.value(DEPTH)
}

/// Reads the value at the start, and returns what follows it: how a stream is cut into messages.
pub fn read_first(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut reader = Reader { bytes, at: 0, left: VALUES };
    let value = reader.value(DEPTH)?;
    Some((value, &bytes[reader.at..]))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        match self.peek()? {
            b'i' => self.integer(),
            b'l' => self.list(depth.checked_sub(1)?),
            b'd' => self.dict(depth.checked_sub(1)?),
            b'0'..=b'9' => self.string().map(|bytes| Value::Text(Cow::Borrowed(bytes))),
            _ => None,
        }
    }

    fn integer(&mut self) -> Option<Value<'a>> {
        self.at += 1;
        let digits = self.until(b'e', 20)?;
        std::str::from_utf8(digits).ok()?.parse().ok().map(Value::Int)
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != b'e' {
            items.push(self.value(depth)?);
        }
        self.at += 1;
        Some(Value::List(items))
    }

    fn dict(&mut self, depth: usize) -> Option<Value<'a>> {
        self.at += 1;
        let mut dict = Dict::default();
        while self.peek()? != b'e' {
            let key = self.string()?;
            dict.0.push((Cow::Borrowed(key), self.value(depth)?));
        }
        self.at += 1;
        Some(Value::Dict(dict))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let digits = self.until(b':', 6)?;
        let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let string = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(string)
    }

    /// What stands before a mark that comes soon.
    fn until(&mut self, mark: u8, within: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().take(within + 1).position(|byte| *byte == mark)?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Writes a value.
pub fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Int(number) => out.extend(format!("i{number}e").bytes()),
        Value::Text(bytes) => string(bytes, out),
        Value::List(items) => {
            out.push(b'l');
            items.iter().for_each(|item| write(item, out));
            out.push(b'e');
        }
        Value::Dict(dict) => {
            out.push(b'd');
            for (key, value) in &dict.0 {
                string(key, out);
                write(value, out);
            }
            out.push(b'e');
        }
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{}:", bytes.len()).bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_kamailio_sends() {
        let bytes = b"d3:ICE6:remove7:call-id3:c@h5:flagsl13:trust-addresse8:received2:ok5:limiti-3ee";
        let value = read(bytes).unwrap();
        let dict = value.as_dict().unwrap();
        assert_eq!(dict.text("call-id"), Some("c@h"));
        assert_eq!(dict.value("flags").unwrap().words(), ["trust-address"]);
        assert_eq!(dict.value("limit").unwrap().as_int(), Some(-3));
        let mut out = Vec::new();
        write(&value, &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn what_is_cut_off_too_deep_or_followed_by_more_is_not_read() {
        for bytes in [&b"d"[..], b"5:abcd", b"i12", b"i1x2e", b"lle", b"4:spamx", b"99999999:x", b"-1:x", b""]
        {
            assert_eq!(read(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        let deep = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
        assert!(read(&deep(DEPTH)).is_some());
        assert!(read(&deep(DEPTH + 1)).is_none());
        let long = |items: usize| [&b"l"[..], &b"0:".repeat(items), b"e"].concat();
        assert!(read(&long(VALUES - 1)).is_some());
        assert!(read(&long(VALUES)).is_none());
    }

    #[test]
    fn a_stream_is_cut_where_a_value_ends() {
        assert_eq!(read_first(b"i1ei2e").map(|(_, rest)| rest), Some(&b"i2e"[..]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(prop_oneof![Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b':'), b'0'..=b'9'], 0..60)) {
            if let Some(value) = read(&bytes) {
                let mut out = Vec::new();
                write(&value, &mut out);
                prop_assert_eq!(read(&out), Some(value));
            }
        }
    }
}
