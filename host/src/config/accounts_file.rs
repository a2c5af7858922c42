//! A file of accounts, read piece by piece: the YAML reader keeps every word of what it reads until its end, which of a
//! hundred thousand accounts is forty times the file.
//!
//! A list that is written with an item to a line, or to a few, is cut in front of items, and each piece is a list of its
//! own. Whatever does not come out as accounts that way (a fault, another way to write a list, an anchor that another
//! piece has) is read again as a whole, and what is said about that is said of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::errors::ConfigError;
use super::schema::User;

/// Bytes of a piece, but for the rest of its last item.
const PIECE: usize = 16 * 1024;

/// The accounts in a file; `Ok(Err)` when it can be read and is wrong.
pub(super) fn read(name: &Path) -> io::Result<Result<Vec<User>, ConfigError>> {
    if let Some(users) = in_pieces(BufReader::new(File::open(name)?)) {
        return Ok(Ok(users));
    }
    let text = std::fs::read_to_string(name)?;
    Ok(list(&text).map_err(|error| ConfigError::from_yaml(name, &error)))
}

/// `None`: it takes the whole to tell.
fn in_pieces(file: impl BufRead) -> Option<Vec<User>> {
    let mut users = Vec::new();
    for piece in Pieces::of(file) {
        users.append(&mut list(&piece.ok()?).ok()?);
    }
    Some(users)
}

fn list(text: &str) -> Result<Vec<User>, serde_yaml::Error> {
    serde_yaml::from_str::<Option<Vec<User>>>(text).map(Option::unwrap_or_default)
}

/// A text in pieces that begin with an item each, but for the first.
struct Pieces<R> {
    file: R,
    /// The line that was read beyond the last piece.
    ahead: String,
    /// What stands before the hyphen of the first item.
    indent: Option<String>,
}

impl<R: BufRead> Pieces<R> {
    fn of(file: R) -> Pieces<R> {
        Pieces { file, ahead: String::new(), indent: None }
    }

    fn next_piece(&mut self) -> io::Result<String> {
        let mut piece = std::mem::take(&mut self.ahead);
        let mut line = String::new();
        while self.file.read_line(&mut line)? > 0 {
            let begins_item = self.begins_item(&line);
            if begins_item && piece.len() >= PIECE {
                self.ahead = line;
                break;
            }
            piece.push_str(&line);
            line.clear();
        }
        Ok(piece)
    }

    /// Whether an item of the list begins here: at a hyphen as far in as the first one's.
    fn begins_item(&mut self, line: &str) -> bool {
        let Some(hyphen) = line.find(|c| c != ' ') else { return false };
        let (indent, item) = line.split_at(hyphen);
        let is_item = item.strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\r', '\n']));
        is_item && self.indent.get_or_insert_with(|| indent.to_owned()) == indent
    }
}

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<io::Result<String>> {
        self.next_piece().map(|piece| (!piece.is_empty()).then_some(piece)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Accounts in as many shapes as a list has them: a line each, several, with comments and quoted hyphens.
    fn many(count: usize) -> String {
        (0..count).fold(String::from("# Accounts\n---\n"), |mut text, n| {
            let _ = match n % 3 {
                0 => writeln!(text, "- {{ name: phone{n}, password: secret }}"),
                1 => writeln!(
                    text,
                    "- name: phone{n}\n  password: \"-\n    - x\"\n\n  aors:\n  - a{n}@\n  - b{n}@"
                ),
                _ => writeln!(text, "-\n  name: phone{n}\n  # who\n  ha1: {{ md5: \"0\" }}"),
            };
            text
        })
    }

    fn names(users: &[User]) -> Vec<&str> {
        users.iter().map(|user| user.name.as_str()).collect()
    }

    #[test]
    fn a_list_in_pieces_is_the_list() {
        for count in [0, 1, 2, 5000] {
            let text = many(count);
            let (pieces, whole) = (in_pieces(text.as_bytes()).expect("a list"), list(&text).unwrap());
            assert_eq!((pieces.len(), names(&pieces)), (count, names(&whole)));
            assert!(pieces.iter().zip(&whole).all(|(a, b)| a.aors == b.aors && a.password == b.password));
        }
    }

    #[test]
    fn no_more_than_a_piece_is_held_at_a_time() {
        let text = many(20_000);
        let pieces: Vec<String> = Pieces::of(text.as_bytes()).map(Result::unwrap).collect();
        assert!(pieces.len() > 50 && pieces.iter().all(|piece| piece.len() < PIECE + 200));
        assert_eq!(pieces.concat(), text);
    }

    #[test]
    fn what_can_not_be_cut_is_read_whole() {
        let scratch = std::env::temp_dir().join(format!("postern-accounts-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&scratch, text).unwrap();
            read(&scratch).unwrap()
        };
        let padding = format!("# {}\n", "x".repeat(PIECE));
        let flow = read(&format!("[{{ name: a }},\n{padding}{{ name: b }}]\n")).unwrap();
        assert_eq!(names(&flow), ["a", "b"]);
        let anchored = read(&format!("- &a {{ name: a }}\n{padding}- *a\n")).unwrap();
        assert_eq!(names(&anchored), ["a", "a"]);
        let quoted = read(&format!("- {{ name: \"a\n{padding}- b\" }}\n"));
        assert!(quoted.is_ok_and(|users| users.len() == 1), "a hyphen in a quoted name begins no item");
        let wrong = read(&format!("{}- {{ nam: a }}\n", many(3000))).unwrap_err();
        let place = wrong.place.expect("a place");
        assert_eq!((place.line, place.column), (many(3000).lines().count() + 1, 5));
        std::fs::remove_file(&scratch).unwrap();
    }

    #[test]
    fn an_empty_file_has_no_accounts() {
        assert!(in_pieces(&b""[..]).is_some_and(|users| users.is_empty()));
        assert!(in_pieces(&b"# nobody yet\n"[..]).is_some_and(|users| users.is_empty()));
        assert!(in_pieces(&b"- name: \xff\n"[..]).is_none());
    }
}
