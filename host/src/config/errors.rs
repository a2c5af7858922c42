//! What is wrong with a configuration: one error, with its place, what was seen, what was expected, what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use super::places::Place;

/// Exit code for a bad configuration (`sysexits.h`).
pub const EX_CONFIG: u8 = 78;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which file.
    pub file: PathBuf,
    /// Where in it, when the fault is in its text.
    pub place: Option<Place>,
    /// What was seen, and what was expected.
    pub what: String,
    /// What to do about it; empty when `what` says it all.
    pub remedy: String,
}

impl ConfigError {
    /// The file can't be had at all.
    pub fn unreadable(file: &Path, error: &std::io::Error) -> ConfigError {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "name an existing file with -c, or write one with `postern init`",
            std::io::ErrorKind::PermissionDenied => "let this user read it",
            _ => "see that it is a plain text file",
        };
        let what = format!("cannot be read: {error}");
        ConfigError { file: file.to_owned(), place: None, what, remedy: remedy.into() }
    }

    /// From the YAML reader: an unknown key gets the nearest known one.
    pub fn from_yaml(file: &Path, error: &serde_yaml::Error) -> ConfigError {
        let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
        let words = without_place(&error.to_string());
        let (what, remedy) = match unknown(&words) {
            Some(unknown) => unknown.explain(),
            None if words.contains("cannot start any token") => (words, NO_TOKEN.into()),
            None => (words, String::new()),
        };
        ConfigError { file: file.to_owned(), place, what, remedy }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What YAML takes for no word at the place it stops at.
const NO_TOKEN: &str =
    "indent with spaces, not with a tab, and put quotes around what begins with one of @ ` %";

/// The reader's words end with the place, which we print in front.
fn without_place(words: &str) -> String {
    match words.rfind(" at line ") {
        Some(at) => words[..at].to_owned(),
        None => words.to_owned(),
    }
}

/// An unknown key or choice, as serde words it.
struct Unknown<'a> {
    table: &'a str,
    seen: &'a str,
    known: Vec<&'a str>,
}

/// Reads serde's "networks.x: unknown field `a`, expected one of `b`, `c`".
fn unknown(words: &str) -> Option<Unknown<'_>> {
    let at = words.find("unknown field `").or_else(|| words.find("unknown variant `"))?;
    let mut quoted = words[at..].split('`').skip(1).step_by(2);
    let seen = quoted.next()?;
    Some(Unknown { table: words[..at].trim_end_matches(": "), seen, known: quoted.collect() })
}

impl Unknown<'_> {
    fn explain(&self) -> (String, String) {
        let place = if self.table.is_empty() { String::new() } else { format!(" in `{}`", self.table) };
        let what =
            format!("`{}`{place} is not known here; expected one of: {}", self.seen, self.known.join(", "));
        let remedy = match nearest(self.seen, &self.known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it, or see the commented file `postern init` writes".into(),
        };
        (what, remedy)
    }
}

/// The known word nearest to `seen`, if it is near at all.
pub fn nearest<'a>(seen: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = seen.len().max(3) / 2;
    known
        .iter()
        .map(|word| (distance(seen, word), *word))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's: how many single-letter changes lie between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_is_told_to_be_spaces() {
        let error = serde_yaml::from_str::<serde_yaml::Value>("a:\n\t- b\n").unwrap_err();
        let told = ConfigError::from_yaml(Path::new("x.yaml"), &error).to_string();
        assert!(told.starts_with("x.yaml:2:1: ") && told.contains("spaces"), "{told}");
    }

    #[test]
    fn the_nearest_key_is_the_likely_slip() {
        let known = ["listeners", "domains", "users", "relay", "redirect"];
        assert_eq!(nearest("listener", &known), Some("listeners"));
        assert_eq!(nearest("dommains", &known), Some("domains"));
        assert_eq!(nearest("xylophone", &known), None);
    }
}
