//! Header rules of a trunk, from the file to the proxy's own: what can't work is refused at the key that says it.

use proxy::trunks::rules::{self, Act, Direction, Part, Rule};
use regex_lite::Regex;

use super::{HeaderRule, On};

/// What is wrong with a rule.
#[derive(Debug)]
pub struct Wrong {
    /// Which of its keys says it.
    pub key: &'static str,
    /// What was seen, and what was expected.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

fn wrong(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { key, what: what.into(), remedy: remedy.into() }
}

/// The proxy's rule.
pub fn header_rule(rule: &HeaderRule) -> Result<Rule, Wrong> {
    const ONE: &str = "give it exactly one of `add: \"X-Name: value\"`, `remove: NAME` and `rewrite: NAME`";
    let on = if rule.on == On::In { Direction::In } else { Direction::Out };
    let act = match (&rule.add, &rule.remove, &rule.rewrite) {
        (Some(line), None, None) => added(line, rule)?,
        (None, Some(name), None) => Act::Remove { name: may_touch("remove", name)? },
        (None, None, Some(name)) => rewritten(name, rule)?,
        _ => return Err(wrong("", "a header rule does nothing, or several things", ONE)),
    };
    let status = rule.status.as_deref().map(statuses).transpose()?;
    Ok(Rule { on, methods: rule.methods.0.clone(), status, act })
}

fn added(line: &str, rule: &HeaderRule) -> Result<Act, Wrong> {
    let Some((name, value)) = line.split_once(':') else {
        return Err(wrong("add", format!("`{line}` is no header line"), "write `add: \"X-Name: value\"`"));
    };
    let from = match (&rule.of, &rule.find) {
        (None, None) => None,
        (Some(of), Some(find)) => {
            let expression = compiled(find)?;
            has_groups("add", value.trim(), find, &expression)?;
            Some((Part::named(of), expression))
        }
        _ => return Err(wrong("", "`of` and `match` belong together", "give both, or none")),
    };
    Ok(Act::Add { name: may_touch("add", name.trim())?, value: value.trim().to_owned(), from })
}

fn rewritten(name: &str, rule: &HeaderRule) -> Result<Act, Wrong> {
    let (Some(find), Some(with)) = (&rule.find, &rule.with) else {
        let remedy = "say what it looks for and what that becomes: match: \"^…$\", with: \"…$1…\"";
        return Err(wrong("rewrite", format!("`rewrite: {name}` says too little"), remedy));
    };
    let part = match Part::named(name) {
        Part::Header(name) => Part::Header(may_touch("rewrite", &name)?),
        part => part,
    };
    let expression = compiled(find)?;
    has_groups("with", with, find, &expression)?;
    Ok(Act::Rewrite { part, find: expression, with: with.clone() })
}

fn compiled(text: &str) -> Result<Regex, Wrong> {
    let remedy = "expected a regular expression without look-around and back-references";
    rules::expression(text)
        .map_err(|why| wrong("match", format!("`match: {text}` can't be used: {why}"), remedy))
}

/// Every group a template names is one of its expression.
fn has_groups(key: &'static str, template: &str, find: &str, expression: &Regex) -> Result<(), Wrong> {
    let Some(missing) = rules::missing_group(expression, template) else { return Ok(()) };
    let last = expression.captures_len() - 1;
    let numbers = match last {
        0 => "no group, only `$0`, all that matched".to_owned(),
        1 => "one group, `$1`".to_owned(),
        _ => format!("{last} groups, `$1` to `${last}`"),
    };
    let names: Vec<String> =
        expression.capture_names().flatten().map(|name| format!("`${{{name}}}`")).collect();
    let names = if names.is_empty() { String::new() } else { format!(", by name {}", names.join(", ")) };
    let what = format!("`{template}` uses the group `{missing}`, but `match: {find}` has {numbers}{names}");
    let digits = missing.len() - missing.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, letters) = missing.split_at(digits);
    let remedy = match (number.parse::<usize>(), letters) {
        (Ok(number), letters) if number <= last && !letters.is_empty() => {
            format!("write `${{{number}}}{letters}` where letters follow a group")
        }
        _ => "put parentheses around what the group stands for, or write `$$` for a dollar sign".to_owned(),
    };
    Err(wrong(key, what, remedy))
}

/// The name of a header that rules may change; all but From and To may come and go.
fn may_touch(key: &'static str, name: &str) -> Result<String, Wrong> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(wrong(
            key,
            format!("`{name}` is no header's name"),
            "expected letters, digits and dashes",
        ));
    }
    if rules::is_forbidden(name) {
        let what = format!(
            "`{name}` is out of bounds for header rules: it routes messages or holds dialogs together"
        );
        let remedy = "use another header, or let routes do it (`strip`, `prefix`, `domain`)";
        return Err(wrong(key, what, remedy));
    }
    if rules::is_vital(name) && key != "rewrite" {
        return Err(wrong(key, format!("`{name}` must be there, once"), "only `rewrite` may change it"));
    }
    Ok(name.to_owned())
}

/// `486`, `4xx`, `400-499`.
fn statuses(text: &str) -> Result<(u16, u16), Wrong> {
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => {
            class.parse::<u8>().ok().map(u16::from).map(|class| (class * 100, class * 100 + 99))
        }
        (None, Some((first, last))) => first.trim().parse().ok().zip(last.trim().parse().ok()),
        (None, None) => text.parse().ok().map(|one| (one, one)),
    };
    range.filter(|(first, last)| (100..=699).contains(first) && first <= last && *last < 700).ok_or_else(
        || wrong("status", format!("`status: {text}` is none"), "expected `486`, `4xx` or `400-499`"),
    )
}
