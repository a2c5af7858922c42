//! ENUM (RFC 6116): a number's own domain in DNS says by which URIs it is reached.
//!
//! ```text
//! +49 30 123  ->  3.2.1.0.3.9.4.e164.arpa  NAPTR 100 10 "u" "E2U+sip" "!^\\+4930(.*)$!sip:\\1@office.example!"
//! ```
//!
//! Asking takes time, so it is the host's errand; what a record means ([`Record::uri`]) and what becomes of a call is
//! decided here.

use proto::node::Question;
use proto::sip::transaction::ServerId;
use proto::sip::{Scheme, Uri};

use crate::forwarding::contexts::Final;
use crate::forwarding::contexts::{Stage, Target};
use crate::proxy::{Cx, Proxy};
use crate::routing::target::of_uri;
use crate::routing::targets::registered;

/// So many URIs of a number are tried at most.
const MOST: usize = 8;

/// The question for a number; `None`: it has no digits.
pub(crate) fn question(number: &str, suffix: &str) -> Option<Question> {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let reversed = digits.chars().rev().flat_map(|digit| [digit, '.']);
    let domain = reversed.chain(suffix.chars()).collect();
    (!digits.is_empty() && digits.len() <= 15)
        .then(|| Question::Enum { domain, number: format!("+{digits}") })
}

/// One NAPTR record of a number's domain.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `u`: what comes of it is a URI.
    pub flags: &'a str,
    /// `E2U+sip`.
    pub service: &'a str,
    /// A delimited substitution.
    pub regexp: &'a str,
}

impl Record<'_> {
    /// The SIP URI it gives for a number (`+4930123`); `None`: it is about something else, or broken (RFC 6116 §3.1, RFC
    /// 3402 §3.2).
    pub fn uri(&self, number: &str) -> Option<String> {
        let mut services = self.service.split('+');
        let is_enum = services.next().is_some_and(|first| first.eq_ignore_ascii_case("E2U"));
        let sip = |kind: &str| kind.split(':').next().is_some_and(|kind| kind.eq_ignore_ascii_case("sip"));
        if !is_enum || !services.any(sip) || !self.flags.eq_ignore_ascii_case("u") {
            return None;
        }
        let delimiter = self.regexp.chars().next()?;
        let mut parts = self.regexp[delimiter.len_utf8()..].split(delimiter);
        let (find, with, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let find = if flags.contains('i') { format!("(?i){find}") } else { find.to_owned() };
        let captures = crate::trunks::rules::expression(&find).ok()?.captures(number)?;
        let uri = expanded(with, &captures);
        Uri::parse(&uri).is_ok_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips)).then_some(uri)
    }
}

/// `\1` is the first capture (RFC 3402 §3.2).
fn expanded(with: &str, captures: &regex_lite::Captures<'_>) -> String {
    let (mut out, mut letters) = (String::new(), with.chars());
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next().and_then(|next| next.to_digit(10))) {
            ('\\', Some(number)) => {
                letters.next();
                out.push_str(captures.get(number as usize).map_or("", |found| found.as_str()));
            }
            (other, _) => out.push(other),
        }
    }
    out
}

impl Proxy {
    /// The URIs of a number: each is tried in turn, then whatever the route names besides.
    pub(crate) fn uris_found(&mut self, cx: &mut Cx<'_>, server: ServerId, index: usize, uris: &[String]) {
        self.with(cx, server, |proxy, cx, context| {
            let asked = context.branches.get(index).map(|branch| branch.stage);
            if !matches!(asked, Some(Stage::Resolving(_))) {
                return;
            }
            let found: Vec<Target> =
                uris.iter().take(MOST).flat_map(|uri| proxy.reached_by(cx, uri)).collect();
            let branch = &mut context.branches[index];
            found.into_iter().rev().for_each(|target| branch.target.others.push_front(target));
            branch.stage = Stage::Done;
            if !proxy.try_another(cx, context, index) {
                proxy.branch_ended(cx, context, index, Final::own(404));
            }
        });
    }

    /// Somebody of ours at its devices, anybody else where the URI says.
    pub(crate) fn reached_by(&self, cx: &Cx<'_>, uri: &str) -> Vec<Target> {
        let Ok(parsed) = Uri::parse(uri) else { return Vec::new() };
        match self.config.is_ours(parsed.host, parsed.port) {
            true => registered(cx.now, &parsed, &self.config, cx.tables),
            false => vec![Target { uri: Some(uri.to_owned()), ..Target::by(of_uri(&parsed, &self.config)) }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(service: &str, regexp: &str) -> Option<String> {
        Record { flags: "u", service, regexp }.uri("+4930123")
    }

    /// RFC 6116 §3.4.
    #[test]
    fn a_number_is_asked_for_digit_by_digit_from_behind() {
        let Some(Question::Enum { domain, number }) = question("+49 (30) 12", "e164.arpa") else { panic!() };
        assert_eq!((domain.as_str(), number.as_str()), ("2.1.0.3.9.4.e164.arpa", "+493012"));
        assert_eq!(question("alice", "e164.arpa"), None);
    }

    #[test]
    fn a_record_is_a_substitution() {
        assert_eq!(
            uri("E2U+sip", "!^.*$!sip:info@office.example!").as_deref(),
            Some("sip:info@office.example")
        );
        let own = uri("e2u+SIP", r"!^\+4930(.*)$!sip:\1@office.example!");
        assert_eq!(own.as_deref(), Some("sip:123@office.example"));
        assert_eq!(uri("E2U+email+sip", "/^.*$/sip:x@y/i").as_deref(), Some("sip:x@y"));
    }

    #[test]
    fn what_is_about_something_else_or_broken_gives_nothing() {
        assert_eq!(uri("E2U+email", "!^.*$!mailto:x@y!"), None);
        assert_eq!(uri("E2U+sip", "!^.*$!mailto:x@y!"), None);
        assert_eq!(uri("E2U+sip", r"!^\+1.*$!sip:x@y!"), None);
        for broken in ["", "!", "!(!sip:x@y!", "!^.*$!sip:x@y"] {
            assert_eq!(uri("E2U+sip", broken), None, "{broken}");
        }
    }
}
