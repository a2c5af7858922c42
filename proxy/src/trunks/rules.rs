//! Header rules of a trunk: what is added, removed or rewritten in messages that come from it or go to it.
//!
//! A rewrite is a regular expression with captures, matched in linear time (`regex-lite`), and a template. Rules run one
//! after another on the message that is about to leave, and touch nothing but what they name: every other byte stays.
//!
//! What routes a message or ties it to its dialog is not to be touched ([`is_forbidden`]). From and To may be
//! rewritten, up to their parameters: tags stay, and answers go back with From and To as the sender wrote them.

use proto::sip::{Message, Name};
use regex_lite::Regex;

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which way messages go that it is for.
    pub on: Direction,
    /// The methods (of responses: their requests') it is for; empty: all.
    pub methods: Vec<String>,
    /// For responses with these statuses, both ends included; `None`: for requests.
    pub status: Option<(u16, u16)>,
    /// What it does.
    pub act: Act,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the trunk.
    In,
    /// Towards it.
    Out,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Act {
    /// A new header line after all others; with an origin only if that matches, its captures in the value.
    Add {
        /// The header's name.
        name: String,
        /// Its value; with an origin, a template of the captures.
        value: String,
        /// What must match.
        from: Option<(Part, Regex)>,
    },
    /// Every line of this name goes.
    Remove {
        /// The header's name.
        name: String,
    },
    /// Every value of this part that matches becomes this template.
    Rewrite {
        /// What is read and written.
        part: Part,
        /// What must match.
        find: Regex,
        /// What it becomes.
        with: String,
    },
}

/// A part of a message that a rule reads or rewrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The request URI.
    RequestUri,
    /// The lines of a header.
    Header(String),
}

impl Part {
    /// `request-uri`, or a header's name.
    pub fn named(text: &str) -> Part {
        match text.eq_ignore_ascii_case("request-uri") {
            true => Part::RequestUri,
            false => Part::Header(text.to_owned()),
        }
    }
}

/// Whether a header is out of bounds for rules: it routes, ties messages together, frames them, or is ours.
pub fn is_forbidden(name: &str) -> bool {
    use Name::*;
    matches!(
        Name::from_token(name.as_bytes()),
        Via | CallId
            | CSeq
            | MaxForwards
            | Contact
            | ContentLength
            | ContentType
            | ContentEncoding
            | RecordRoute
            | Route
            | Path
            | ServiceRoute
            | RAck
            | RSeq
            | Replaces
            | NodeAuth
            | RelayLeg
            | RelayNetwork
            | RelayPeer
            | RelayPolicy
            | RelaySrtp
            | RelaySession
            | RelayVerdict
    )
}

/// Whether a header must be there once, so that it may be rewritten only.
pub fn is_vital(name: &str) -> bool {
    matches!(Name::from_token(name.as_bytes()), Name::From | Name::To)
}

/// The message after these rules.
pub(crate) fn apply(rules: &[Rule], on: Direction, message: Message) -> Message {
    let fits = |rule: &&Rule| rule.on == on && rule.is_for(&message);
    let chosen: Vec<&Rule> = rules.iter().filter(fits).collect();
    chosen.into_iter().fold(message, |message, rule| rule.act.perform(message))
}

impl Rule {
    fn is_for(&self, message: &Message) -> bool {
        let status = match (self.status, message.status()) {
            (None, None) => true,
            (Some((first, last)), Some(status)) => (first..=last).contains(&status),
            _ => false,
        };
        let method = message.method();
        status && (self.methods.is_empty() || self.methods.iter().any(|m| m == method.as_str()))
    }
}

impl Act {
    fn perform(&self, message: Message) -> Message {
        match self {
            Act::Add { name, value, from: None } => message.edit().append_named(name, value).finish(),
            Act::Add { name, value, from: Some((part, find)) } => {
                let text = texts(part, &message).into_iter().find_map(|text| expanded(find, &text, value));
                match text {
                    Some(text) => message.edit().append_named(name, &text).finish(),
                    None => message,
                }
            }
            Act::Remove { name } => message.edit().rewrite_named(name, |_| Some(None)).finish(),
            Act::Rewrite { part: Part::RequestUri, find, with } => {
                match expanded(find, message.request_uri(), with) {
                    Some(uri) => message.edit().request_uri(&uri).finish(),
                    None => message,
                }
            }
            Act::Rewrite { part: Part::Header(name), find, with } => {
                let keeps_params = is_vital(name);
                message
                    .edit()
                    .rewrite_named(name, |value| rewritten(find, value, with, keeps_params))
                    .finish()
            }
        }
    }
}

/// Another value for a header line; `None`: it stays.
fn rewritten(find: &Regex, value: &str, with: &str, keeps_params: bool) -> Option<Option<String>> {
    let (address, params) = value.split_at(if keeps_params { end_of_address(value) } else { value.len() });
    Some(Some(expanded(find, address, with)? + params))
}

/// Where the address of a From or To ends and its parameters begin.
fn end_of_address(value: &str) -> usize {
    match value.rfind('>') {
        Some(at) => at + 1,
        None => value.find(';').unwrap_or(value.len()),
    }
}

/// The text with what matches replaced; `None`: nothing matches.
fn expanded(find: &Regex, text: &str, with: &str) -> Option<String> {
    let captures = find.captures(text)?;
    let mut out = String::new();
    captures.expand(with, &mut out);
    Some(out)
}

fn texts(part: &Part, message: &Message) -> Vec<String> {
    match part {
        Part::RequestUri => vec![message.request_uri().to_owned()],
        Part::Header(name) => {
            let known = Name::from_token(name.as_bytes());
            let same = |h: &proto::sip::Header<'_>| match known {
                Name::Other => h.raw_name.eq_ignore_ascii_case(name.as_bytes()),
                known => h.name == known,
            };
            message.headers().filter(same).map(|h| String::from_utf8_lossy(h.value).into_owned()).collect()
        }
    }
}

/// A rule's expression may not become larger than this when it is compiled, in bytes.
const LARGEST: usize = 1 << 16;

/// A rule's regular expression. The words of an error are for the operator.
pub fn expression(text: &str) -> Result<Regex, String> {
    regex_lite::RegexBuilder::new(text).size_limit(LARGEST).build().map_err(|error| error.to_string())
}

/// The first group a template names (`$1`, `${1}`, `$name`) that the expression does not have: nothing would stand in
/// its place. `$$` is a dollar sign.
pub fn missing_group<'t>(find: &Regex, template: &'t str) -> Option<&'t str> {
    let is_there = |group: &str| match group.parse::<usize>() {
        Ok(number) => number < find.captures_len(),
        Err(_) => find.capture_names().flatten().any(|name| name == group),
    };
    groups(template).find(|group| !is_there(group))
}

/// The groups a template names, as `regex-lite` reads it: between braces, else as many letters, digits and underlines as
/// follow.
fn groups(template: &str) -> impl Iterator<Item = &str> {
    let mut rest = template;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('$')?;
            let (group, left) = match (after.strip_prefix('$'), after.strip_prefix('{')) {
                (Some(left), _) => (None, left),
                (_, Some(braced)) => match braced.split_once('}') {
                    Some((group, left)) => (Some(group), left),
                    None => (None, after),
                },
                _ => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let (group, left) = after.split_at(end.unwrap_or(after.len()));
                    (Some(group).filter(|group| !group.is_empty()), left)
                }
            };
            rest = left;
            if group.is_some() {
                return group;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::message;

    const INVITE: &str = "INVITE sip:0049301@example.com SIP/2.0
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa
        From: \"Alice\" <sip:101@example.com>;tag=caller
        To: <sip:0049301@example.com>
        Call-ID: c1
        CSeq: 1 INVITE
        X-Odd:   kept  as it is
        x-internal: one
        X-INTERNAL: two";

    fn rule(on: Direction, act: Act) -> Rule {
        Rule { on, methods: Vec::new(), status: None, act }
    }

    fn after(act: Act) -> String {
        let out = apply(&[rule(Direction::Out, act)], Direction::Out, message(INVITE));
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    fn before() -> String {
        String::from_utf8(message(INVITE).bytes().to_vec()).unwrap()
    }

    fn rewrite(part: &str, find: &str, with: &str) -> Act {
        Act::Rewrite { part: Part::named(part), find: expression(find).unwrap(), with: with.into() }
    }

    #[test]
    fn a_rewrite_touches_what_it_names_and_no_other_byte() {
        let got = after(rewrite("From", r"^.*<sip:(\d+)@.*>$", "<sip:+4930$1@carrier.example>"));
        let want = before().replace("\"Alice\" <sip:101@example.com>", "<sip:+4930101@carrier.example>");
        assert_eq!(got, want);
        let got = after(rewrite("request-uri", r"^sip:00(\d+)@(.*)$", "sip:+$1@$2"));
        assert_eq!(got, before().replace("INVITE sip:0049301@", "INVITE sip:+49301@"));
    }

    #[test]
    fn what_does_not_match_stays() {
        assert_eq!(after(rewrite("From", "^sip:", "x")), before());
        assert_eq!(after(rewrite("X-None", ".*", "x")), before());
    }

    #[test]
    fn lines_are_removed_by_name_in_any_case() {
        let got = after(Act::Remove { name: "X-Internal".into() });
        assert_eq!(got, before().replace("x-internal: one\r\nX-INTERNAL: two\r\n", ""));
    }

    #[test]
    fn a_header_is_added_with_what_another_one_says() {
        let from = Some((Part::named("From"), expression(r"<sip:(\d+)@").unwrap()));
        let add = |from| Act::Add { name: "P-Asserted-Identity".into(), value: "<tel:+4930$1>".into(), from };
        assert!(after(add(from)).ends_with("\r\nP-Asserted-Identity: <tel:+4930101>\r\n\r\n"));
        let none = Some((Part::named("From"), expression("nothing").unwrap()));
        assert_eq!(after(add(none)), before());
    }

    #[test]
    fn a_value_forges_no_header() {
        let got = after(rewrite("X-Odd", "(?s)(.*)", "$1\r\nVia: forged"));
        assert!(!got.contains("\nVia: forged"), "{got}");
    }

    #[test]
    fn a_rule_is_for_its_direction_methods_and_statuses() {
        let add = || Act::Add { name: "X-A".into(), value: "1".into(), from: None };
        let for_bye = Rule { methods: vec!["BYE".into()], ..rule(Direction::Out, add()) };
        let for_failures = Rule { status: Some((400, 499)), ..rule(Direction::Out, add()) };
        let inward = rule(Direction::In, add());
        let touched = |rule: &Rule, message: Message| {
            apply(std::slice::from_ref(rule), Direction::Out, message.clone()).bytes() != message.bytes()
        };
        for rule in [&for_bye, &for_failures, &inward] {
            assert!(!touched(rule, message(INVITE)), "{rule:?}");
        }
        let failure = |status| proto::sip::reply(&message(INVITE), status, "t").finish();
        assert!(touched(&for_failures, failure(486)) && !touched(&for_failures, failure(503)));
    }

    #[test]
    fn what_routes_is_out_of_bounds() {
        for name in ["Via", "v", "record-route", "i", "Call-ID", "CSeq", "l", "Contact", "Node-Auth"] {
            assert!(is_forbidden(name), "{name}");
        }
        for name in ["From", "P-Asserted-Identity", "X-Anything", "User-Agent", "Diversion"] {
            assert!(!is_forbidden(name), "{name}");
        }
    }

    #[test]
    fn a_hostile_expression_is_refused_not_run() {
        assert!(expression("(a{1000}){1000}").is_err());
        assert!(expression("(").is_err());
    }

    #[test]
    fn a_template_names_groups_that_the_expression_has() {
        let find = expression(r"^<sip:(?<user>\d+)@(.*)>$").unwrap();
        for whole in ["$0 $1 ${2}x $user ${user}1", "$$9 costs $", "${9", "plain"] {
            assert_eq!(missing_group(&find, whole), None, "{whole}");
        }
        for (template, missing) in [
            ("<$1@$3>", "3"),
            ("$1x", "1x"),
            ("${name}", "name"),
            ("$$$9", "9"),
            ("${}", ""),
            ("${${9}", "${9"),
        ] {
            assert_eq!(missing_group(&find, template), Some(missing), "{template}");
            let text = expanded(&find, "<sip:5@b>", template).unwrap();
            assert!(!text.contains(missing) || missing.is_empty(), "{template} leaves nothing there: {text}");
        }
    }
}
