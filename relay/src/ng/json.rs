//! The same values in JSON: clients may choose either encoding for each message, and are answered in kind.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::value::{DEPTH, Dict, VALUES, Value};

/// Reads one JSON object. Strings may hold anything but nesting and size are bounded as in bencoding.
pub fn read(bytes: &[u8]) -> Option<Value<'static>> {
    let json = serde_json::from_slice(bytes).ok()?;
    from(json, DEPTH, &mut VALUES.clone())
}

fn from(json: Json, depth: usize, left: &mut usize) -> Option<Value<'static>> {
    *left = left.checked_sub(1)?;
    Some(match json {
        Json::Null => Value::text(""),
        Json::Bool(yes) => Value::text(if yes { "yes" } else { "no" }),
        Json::Number(number) => Value::Int(number.as_i64().or_else(|| number.as_f64().map(|n| n as i64))?),
        Json::String(text) => Value::text(text),
        Json::Array(items) => {
            let depth = depth.checked_sub(1)?;
            Value::List(items.into_iter().map(|item| from(item, depth, left)).collect::<Option<_>>()?)
        }
        Json::Object(entries) => {
            let depth = depth.checked_sub(1)?;
            let entry = |(key, value): (String, Json)| {
                Some((Cow::Owned(key.into_bytes()), from(value, depth, left)?))
            };
            Value::Dict(Dict(entries.into_iter().map(entry).collect::<Option<_>>()?))
        }
    })
}

/// Writes a value.
pub fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    out.extend(to(value).to_string().bytes());
}

fn to(value: &Value<'_>) -> Json {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Value::Int(number) => (*number).into(),
        Value::Text(bytes) => text(bytes).into(),
        Value::List(items) => Json::Array(items.iter().map(to).collect()),
        Value::Dict(dict) => Json::Object(dict.0.iter().map(|(key, value)| (text(key), to(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_a_json_client_says() {
        let value = read(br#"{"command":"offer","sdp":"v=0\r\n","flags":["a","b"],"n":3}"#).unwrap();
        let dict = value.as_dict().unwrap();
        assert_eq!(dict.text("sdp"), Some("v=0\r\n"));
        assert_eq!(dict.value("flags").unwrap().words(), ["a", "b"]);
        let mut out = Vec::new();
        write(&value, &mut out);
        assert_eq!(read(&out).map(sorted), Some(sorted(value.clone())));
    }

    /// serde_json keeps an object's keys sorted.
    fn sorted(value: Value<'static>) -> Value<'static> {
        let Value::Dict(Dict(mut entries)) = value else { return value };
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Dict(Dict(entries))
    }

    #[test]
    fn what_nests_too_deep_is_not_read() {
        let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(read(&deep(DEPTH)).is_some());
        assert!(read(&deep(DEPTH + 1)).is_none());
        assert!(read(&deep(100_000)).is_none());
    }
}
