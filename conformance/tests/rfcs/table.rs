//! The table of requirements, read from the tests' own words: above every test stands what it is for.
//!
//! ```text
//! /// §10.3 step 6: a `*` that does not stand alone, or without Expires 0, is 400.
//! /// Not met: why, and what we do instead.                                       (only where that is so)
//! #[test]
//! fn a_star_stands_alone_and_means_goodbye() {
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One row.
struct Row {
    section: String,
    requirement: String,
    test: String,
    /// Why it is not met, if it is not.
    not_met: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfcs")
}

/// The files of tests, RFC by RFC: `rfc3261/section_10.rs`, `rfc3262.rs`.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the tests' own folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.retain(|path| {
        path.strip_prefix(folder()).is_ok_and(|name| name.to_string_lossy().starts_with("rfc"))
    });
    found.sort();
    found
}

/// `tests/rfcs/rfc3261/section_10.rs` → `3261`.
fn rfc_of(path: &Path) -> String {
    let name = path.strip_prefix(folder()).expect("it lies there").to_string_lossy().into_owned();
    name.trim_start_matches("rfc").chars().take_while(char::is_ascii_digit).collect()
}

fn rows(text: &str, file: &str) -> Vec<Row> {
    let (mut rows, mut words) = (Vec::new(), Vec::new());
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        match line.strip_prefix("/// ") {
            Some(said) => words.push(said.to_owned()),
            None if line == "#[test]" => {
                let test = lines.by_ref().find_map(|line| line.strip_prefix("fn ")).unwrap_or_default();
                let test = test.split('(').next().unwrap_or_default().to_owned();
                rows.push(row(&std::mem::take(&mut words), test, file));
            }
            None => words.clear(),
        }
    }
    rows
}

fn row(words: &[String], test: String, file: &str) -> Row {
    let words = words.join(" ");
    let (met, not_met) = match words.split_once("Not met: ") {
        Some((met, why)) => (met.trim().to_owned(), Some(why.trim().to_owned())),
        None => (words, None),
    };
    let said = met.strip_prefix('§').and_then(|said| said.split_once(": "));
    let (section, requirement) =
        said.unwrap_or_else(|| panic!("{file}: {test} does not say which § it is for"));
    Row { section: section.into(), requirement: requirement.into(), test, not_met }
}

/// The whole table, as Markdown.
fn table() -> String {
    let mut out = String::from(
        "# Requirements and their tests\n\n\
         Made of the words above the tests in `tests/rfcs` by `POSTERN_WRITE_RFCS=1 cargo test -p conformance --test \
         rfcs the_table`; a test holds the two together. Where we leave an RFC on purpose, DEVIATIONS.md says why.\n",
    );
    let (mut rfc, mut met, mut all) = (String::new(), 0, 0);
    for path in sources() {
        let file = path.strip_prefix(folder()).expect("it lies there").with_extension("");
        let module = file.to_string_lossy().replace('/', "::").replace("::mod", "");
        let text = std::fs::read_to_string(&path).expect("a test's own source");
        let rows = rows(&text, &module);
        if rows.is_empty() {
            continue;
        }
        if rfc != rfc_of(&path) {
            rfc = rfc_of(&path);
            let _ =
                write!(out, "\n## RFC {rfc}\n\n| § | requirement | test | verdict |\n|---|---|---|---|\n");
        }
        for row in rows {
            all += 1;
            met += usize::from(row.not_met.is_none());
            let verdict = row.not_met.map_or("met".into(), |why| format!("**not met**: {why}"));
            let _ = writeln!(
                out,
                "| {} | {} | `{module}::{}` | {verdict} |",
                row.section, row.requirement, row.test
            );
        }
    }
    let _ = write!(out, "\n{met} of {all} met; the others are deviations, each argued in DEVIATIONS.md.\n");
    out
}

#[test]
fn the_table_is_what_the_tests_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RFCS.md");
    let (said, written) = (table(), std::fs::read_to_string(&path).unwrap_or_default());
    if std::env::var_os("POSTERN_WRITE_RFCS").is_some() {
        return std::fs::write(&path, said).expect("the table can be written");
    }
    let differs = said.lines().zip(written.lines()).find(|(said, written)| said != written);
    assert!(
        said == written,
        "conformance/RFCS.md is not what the tests say: run POSTERN_WRITE_RFCS=1 cargo test -p conformance --test rfcs \
         the_table\nfirst difference: {differs:?}"
    );
}
