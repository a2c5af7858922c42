//! A route's HTTP server as it stands in the file: its URL alone, or with all its keys.

use std::time::Duration;

use proto::lookup::{Lookup, PARTS};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::check::{Checked, Context};
use crate::config::errors::nearest;
use crate::config::values::Span;

/// Whom to ask, and how.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Http {
    /// `https://routes.example/v1?to={number}`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// How long an answer may take.
    pub timeout: Span,
    /// How long one that names no `ttl` is remembered.
    pub cache: Span,
    /// How long it is remembered that there was none.
    pub negative: Span,
}

/// [`Http`] with all its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    url: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default = "two_seconds")]
    timeout: Span,
    #[serde(default = "minute")]
    cache: Span,
    #[serde(default = "five_seconds")]
    negative: Span,
}

fn two_seconds() -> Span {
    Span(Duration::from_secs(2))
}

fn minute() -> Span {
    Span(Duration::from_secs(60))
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

impl<'de> Deserialize<'de> for Http {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Http, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Http;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a URL, or `{ url: …, timeout: 2s, cache: 60s, negative: 5s, token: SECRET }`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Http, E> {
                let (timeout, cache, negative) = (two_seconds(), minute(), five_seconds());
                Ok(Http { url: url.to_owned(), token: None, timeout, cache, negative })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Http, M::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let Table { url, token, timeout, cache, negative } = table;
                Ok(Http { url, token, timeout, cache, negative })
            }
        }
        de.deserialize_any(Either)
    }
}

impl Http {
    /// As the proxy and the shell want it.
    pub fn lookup(&self) -> Lookup {
        Lookup {
            url: self.url.clone(),
            token: self.token.clone(),
            timeout: self.timeout.0,
            cache: self.cache.0,
            negative: self.negative.0,
        }
    }
}

/// What can't work.
pub fn check(at: &str, http: &Http, context: &Context<'_>) -> Checked {
    let (lookup, url) = (http.lookup(), &http.url);
    let at_url = format!("{at}.url");
    if let Some(unknown) = lookup.parts().find(|part| !PARTS.contains(part)) {
        let what = format!("`{{{unknown}}}` in `{url}` is nothing that is known of a call");
        let known = PARTS.map(|part| format!("{{{part}}}")).join(" ");
        let near = nearest(unknown, &PARTS).map(|near| format!("did you mean `{{{near}}}`? "));
        let remedy = format!("{}expected one of {known}", near.unwrap_or_default());
        return Err(context.error(&at_url, what, remedy));
    }
    if lookup.parts().next().is_none() {
        let what = format!("`{url}` asks the same of every call");
        return Err(context.error(&at_url, what, "say what is asked: https://routes.example/?to={number}"));
    }
    let filled: Result<hyper::Uri, _> = lookup.filled(|_| "x").parse();
    let usable = filled.is_ok_and(|uri| {
        let scheme = uri.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
        scheme && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !usable || lookup.server().ends_with("//") {
        let what = format!("`{url}` is no URL of a server");
        return Err(context.error(&at_url, what, "expected such as https://routes.example/v1?to={number}"));
    }
    if http.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        let what = "`token` can't stand in a header".to_owned();
        return Err(context.error(
            &format!("{at}.token"),
            what,
            "expected letters, digits and signs without spaces",
        ));
    }
    if !(100..=10_000).contains(&http.timeout.0.as_millis()) {
        let what = format!("`timeout: {}`: the caller waits for it", http.timeout);
        return Err(context.error(&format!("{at}.timeout"), what, "expected 100ms to 10s, such as 2s"));
    }
    Ok(())
}
