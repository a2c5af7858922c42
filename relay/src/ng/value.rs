//! What both encodings of the protocol say: integers, strings, lists and dictionaries.
//!
//! Strings are bytes. Keys and words are compared in any case, with `-`, `_` and space for the same: clients write
//! `via-branch`, `record call` and `media_address`.

use std::borrow::Cow;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Int(i64),
    /// A string of bytes.
    Text(Cow<'a, [u8]>),
    /// Values in order.
    List(Vec<Value<'a>>),
    /// Keys and values.
    Dict(Dict<'a>),
}

/// Keys and values, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dict<'a>(pub Vec<(Cow<'a, [u8]>, Value<'a>)>);

/// Deepest nesting that is read.
pub(crate) const DEPTH: usize = 8;
/// Most values one message may hold.
pub(crate) const VALUES: usize = 4096;

impl<'a> Value<'a> {
    /// A string.
    pub fn text(text: impl Into<String>) -> Value<'static> {
        Value::Text(Cow::Owned(text.into().into_bytes()))
    }

    /// The same, borrowed from nowhere.
    pub fn owned(&self) -> Value<'static> {
        match self {
            Value::Int(number) => Value::Int(*number),
            Value::Text(bytes) => Value::Text(Cow::Owned(bytes.to_vec())),
            Value::List(items) => Value::List(items.iter().map(Value::owned).collect()),
            Value::Dict(dict) => Value::Dict(dict.owned()),
        }
    }

    /// Its text, when it is a string in UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Its number: an integer, or a string of digits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            other => other.as_text()?.trim().parse().ok(),
        }
    }

    /// Its dictionary.
    pub fn as_dict(&self) -> Option<&Dict<'a>> {
        match self {
            Value::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// Every word in it: a list's strings, or those of one string.
    pub fn words(&self) -> Vec<&str> {
        match self {
            Value::List(items) => items.iter().filter_map(Value::as_text).collect(),
            other => other.as_text().map(|text| text.split_ascii_whitespace().collect()).unwrap_or_default(),
        }
    }
}

impl<'a> Dict<'a> {
    /// The same, borrowed from nowhere.
    pub fn owned(&self) -> Dict<'static> {
        Dict(self.0.iter().map(|(key, value)| (Cow::Owned(key.to_vec()), value.owned())).collect())
    }

    /// The value under a key.
    pub fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(known, _)| same_word(known, key.as_bytes())).map(|(_, value)| value)
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_text()
    }

    /// Adds a key; for answers, whose keys are ours.
    pub fn set(&mut self, key: impl Into<String>, value: Value<'a>) {
        self.0.push((Cow::Owned(key.into().into_bytes()), value));
    }

    /// The same, for writing in one go.
    pub fn with(mut self, key: impl Into<String>, value: Value<'a>) -> Dict<'a> {
        self.set(key, value);
        self
    }
}

/// Whether two words are the same but for case and how their parts are joined.
pub(crate) fn same_word(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| match byte {
        b'_' | b' ' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}
