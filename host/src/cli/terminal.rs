//! What goes to an operator's terminal. Much of it was written by strangers (Contact, User-Agent, names, Call-IDs): what a
//! terminal would obey, or what would make a line read otherwise than it is written, is shown and not done.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Serialize;

/// One line, with what must not reach a terminal as `\u001b`, in text as in JSON. A line break is shown as well: a line stays one.
pub fn harmless(line: &str) -> Cow<'_, str> {
    without(line, is_obeyed)
}

/// The lines of a text.
pub fn harmless_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split('\n').map(harmless)
}

/// JSON with the same promise. What is shown otherwise stands in strings alone, where `\u001b` means what it did.
pub fn json(value: &impl Serialize) -> String {
    escaped(&serde_json::to_string(value).unwrap_or_default())
}

/// The same on many lines.
pub fn pretty_json(value: &impl Serialize) -> String {
    escaped(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn escaped(json: &str) -> String {
    without(json, |letter| letter != '\n' && is_obeyed(letter)).into_owned()
}

fn without(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_bad(letter) {
            // Writing to a String cannot fail; all of them have four digits at most.
            true => drop(write!(out, "\\u{:04x}", u32::from(letter))),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Controls (C0, DEL, C1), what changes the direction of writing, and Unicode's own line ends.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\\u001b[2Jb");
        assert_eq!(harmless("\u{9b}31m\u{7f}"), "\\u009b31m\\u007f");
        assert_eq!(harmless("one\r\ntwo\tthree"), "one\\u000d\\u000atwo\\u0009three");
        assert_eq!(harmless("\u{202e}evil"), "\\u202eevil");
    }

    #[test]
    fn words_of_any_language_stay_as_they_are() {
        let words = "Büro → 東京 «x» \\ \"";
        assert!(matches!(harmless(words), Cow::Borrowed(same) if same == words));
    }

    #[test]
    fn json_means_the_same_and_writes_no_control_character() {
        let value = serde_json::json!({ "agent": "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\n" });
        for text in [json(&value), pretty_json(&value)] {
            assert!(!text.contains(|letter| letter != '\n' && is_obeyed(letter)), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
        assert!(!json(&value).contains('\n'));
    }
}
