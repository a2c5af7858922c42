//! What a server says, as JSON:
//!
//! ```text
//! {"targets": ["sip:desk@192.0.2.5", "sip:100@pbx.example;transport=tcp"], "ttl": 60}
//! {"trunk": "north", "number": "004930123"}        also "trunks": ["north", "south"]
//! {"reject": {"code": 402, "reason": "no credit"}}
//! {}                                              nothing: the next route decides
//! ```
//!
//! `ttl`, in seconds, goes with each. Anything else in it is a mistake of who wrote it, and said so.

use std::time::Duration;

use proto::lookup::Advice;
use proto::sip::{Scheme, Uri};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    targets: Option<Vec<String>>,
    trunk: Option<String>,
    trunks: Option<Vec<String>>,
    number: Option<String>,
    reject: Option<Reject>,
    ttl: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reject {
    code: u16,
    reason: Option<String>,
}

/// The advice, if there is one, and for how long it holds. An error's words are for the operator.
pub(super) fn read(body: &[u8]) -> Result<(Option<Advice>, Option<Duration>), String> {
    let said: Said =
        serde_json::from_slice(body).map_err(|error| format!("its JSON can't be used: {error}"))?;
    let life = said.ttl.map(|seconds| Duration::from_secs(seconds.into()));
    let names = said.trunk.map(|trunk| vec![trunk]).or(said.trunks);
    if said.number.is_some() && names.is_none() {
        return Err("`number` goes with `trunk` or `trunks`".into());
    }
    let advice = match (said.targets, names, said.reject) {
        (None, None, None) => None,
        (Some(uris), None, None) => Some(targets(uris)?),
        (None, Some(names), None) if !names.is_empty() => {
            Some(Advice::Trunks { names, number: said.number.map(number).transpose()? })
        }
        (None, None, Some(reject)) => Some(refusal(reject)?),
        _ => {
            return Err("expected exactly one of `targets`, `trunk`, `trunks` and `reject`, not empty".into());
        }
    };
    Ok((advice, life))
}

fn targets(uris: Vec<String>) -> Result<Advice, String> {
    let is_sip =
        |uri: &String| Uri::parse(uri).is_ok_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips));
    match uris.iter().find(|uri| !is_sip(uri)) {
        None if uris.is_empty() => Err("`targets` is empty".into()),
        None => Ok(Advice::Targets(uris)),
        Some(wrong) => Err(format!("target `{}` is no SIP URI", wrong.escape_default())),
    }
}

/// A number becomes the user part of a URI: no more may stand in it than may stand there (RFC 3261 §25.1).
fn number(number: String) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%".contains(&byte);
    match !number.is_empty() && number.bytes().all(fits) {
        true => Ok(number),
        false => Err(format!("number `{}` can't stand in a URI", number.escape_default())),
    }
}

fn refusal(reject: Reject) -> Result<Advice, String> {
    match reject.code {
        code @ 400..=699 => Ok(Advice::Refuse { code, reason: reject.reason }),
        code => Err(format!("`reject` with {code}: expected 400 to 699")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_of_three_things_or_nothing() {
        let said = |text: &str| read(text.as_bytes()).unwrap();
        let uri = "sip:desk@192.0.2.5;transport=tcp";
        let targets = said(&format!(r#"{{"targets": ["{uri}"], "ttl": 60}}"#));
        assert_eq!(targets, (Some(Advice::Targets(vec![uri.into()])), Some(Duration::from_secs(60))));
        let trunk = Advice::Trunks { names: vec!["north".into()], number: Some("0049".into()) };
        assert_eq!(said(r#"{"trunk": "north", "number": "0049"}"#), (Some(trunk), None));
        let refusal = Advice::Refuse { code: 402, reason: Some("no credit".into()) };
        assert_eq!(said(r#"{"reject": {"code": 402, "reason": "no credit"}}"#).0, Some(refusal));
        assert_eq!(said("{}"), (None, None));
    }

    #[test]
    fn what_can_t_be_meant_is_told_and_not_guessed() {
        for (text, word) in [
            ("", "JSON"),
            ("[]", "JSON"),
            (r#"{"target": []}"#, "unknown field `target`"),
            (r#"{"targets": []}"#, "empty"),
            (r#"{"trunks": []}"#, "exactly one"),
            (r#"{"targets": ["mailto:x@y"]}"#, "no SIP URI"),
            (r#"{"targets": ["sip:x@y\r\nEvil: 1"]}"#, "no SIP URI"),
            (r#"{"trunk": "a", "reject": {"code": 404}}"#, "exactly one"),
            (r#"{"trunk": "a", "number": "1@evil"}"#, "can't stand in a URI"),
            (r#"{"number": "1"}"#, "goes with"),
            (r#"{"reject": {"code": 200}}"#, "400 to 699"),
            (r#"{"trunk": "a", "ttl": -1}"#, "JSON"),
        ] {
            assert!(read(text.as_bytes()).unwrap_err().contains(word), "{text}: {:?}", read(text.as_bytes()));
        }
    }
}
