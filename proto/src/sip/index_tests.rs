//! Where the scan finds lines, and what it says is wrong.

use proptest::prelude::*;

use super::*;

fn flaw(text: &str) -> Option<u16> {
    scan(text.as_bytes()).1.map(|m| m.status)
}

#[test]
fn lines_beyond_the_first_room_are_all_there() {
    let mut text = String::from("OPTIONS sip:a SIP/2.0\r\n");
    for n in 0..40 {
        text += &format!("X-{n}: {n}\r\n");
    }
    let (index, flaw) = scan((text + "\r\n").as_bytes());
    assert_eq!((index.lines().len(), flaw), (40, None));
    assert!(index.lines().windows(2).all(|w| w[0].at < w[1].at));
}

#[test]
fn a_bare_line_feed_ends_a_line_and_a_bare_carriage_return_is_a_flaw() {
    assert_eq!(flaw("OPTIONS sip:a SIP/2.0\nTo: x\n\n"), None);
    assert_eq!(flaw("OPTIONS sip:a SIP/2.0\r\nTo: x\rVia: y\r\n\r\n"), Some(400));
    assert_eq!(flaw("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n y\rz\r\n\r\n"), Some(400));
}

/// Lines with their folds, from their line feeds; where they end; and whether a carriage return ends none of them.
fn told_plainly(text: &str) -> (Vec<(usize, usize)>, usize, bool) {
    let (mut lines, mut at, mut is_bare) = (Vec::<(usize, usize)>::new(), 0, false);
    loop {
        let feed = text[at..].find('\n').map(|length| at + length);
        let end = feed.map_or(text.len(), |feed| feed - usize::from(text[at..feed].ends_with('\r')));
        if end == at {
            return (lines, at, is_bare);
        }
        is_bare |= text[at..end].contains('\r');
        match lines.last_mut().filter(|_| text[at..].starts_with([' ', '\t'])) {
            Some(folded) => folded.1 = end,
            None => lines.push((at, end)),
        }
        at = feed.map_or(text.len(), |feed| feed + 1);
    }
}

proptest! {
    #[test]
    fn lines_and_bare_returns_are_found_wherever_they_are(
        lines in prop::collection::vec(prop::collection::vec(prop::sample::select(PIECES), 0..6), 1..6),
        end in prop::sample::select(&["", "\r\n", "\n"][..]),
    ) {
        let lines: Vec<_> = lines.into_iter().map(|pieces| format!("X:y{}z\r\n", pieces.concat())).collect();
        let text = format!("OPTIONS sip:a SIP/2.0\r\n{}{end}", lines.concat());
        let (index, flaw) = scan(text.as_bytes());
        let found: Vec<_> = index.lines().iter().map(|line| (line.at as usize, line.value_end as usize)).collect();
        let (lines, head_end, is_bare) = told_plainly(&text);
        prop_assert_eq!((&found[..], index.head_end as usize), (&lines[1..], head_end));
        let is_open = head_end == text.len();
        prop_assert_eq!(flaw, if is_bare { Some(BARE_RETURN) } else { is_open.then_some(OPEN) });
    }
}

/// Of values and folds. What stands behind a line break is a fold of it.
const PIECES: &[&str] = &["\r\n ", "\n\t", "\r", "\t", "\0", "é", "a", "more than a few bytes"];

#[test]
fn another_version_is_505_and_no_version_400() {
    assert_eq!(flaw("OPTIONS sip:a SIP/7.0\r\n\r\n"), Some(505));
    assert_eq!(flaw("OPTIONS sip:a SIP/x\r\n\r\n"), Some(400));
    assert_eq!(flaw("OPTIONS sip:a\r\n\r\n"), Some(400));
    assert_eq!(flaw("GET / HTTP/1.1\r\n\r\n"), Some(400));
    assert_eq!(flaw("\0\0\r\n\r\n"), Some(0));
}

#[test]
fn a_status_has_three_digits() {
    assert_eq!(flaw("SIP/2.0 200 OK\r\n\r\n"), None);
    assert_eq!(flaw("SIP/2.0 200\r\n\r\n"), None);
    assert_eq!(flaw("SIP/2.0 4294967301 better not\r\n\r\n"), Some(0));
    assert_eq!(flaw("SIP/2.0 099 x\r\n\r\n"), Some(0));
}

#[test]
fn a_line_too_long_and_lines_too_many_are_513() {
    let start = "OPTIONS sip:a SIP/2.0\r\n";
    assert_eq!(flaw(&format!("{start}X: {}\r\n\r\n", "y".repeat(MAX_LINE))), Some(513));
    assert_eq!(flaw(&format!("{start}{}\r\n", "X: y\r\n".repeat(MAX_LINES))), None);
    assert_eq!(flaw(&format!("{start}{}\r\n", "X: y\r\n".repeat(MAX_LINES + 1))), Some(513));
    assert_eq!(flaw(&format!("{start}X: y{}\r\n\r\n", "\r\n z".repeat(MAX_FOLDS + 1))), Some(513));
}

#[test]
fn a_fold_cannot_follow_the_start_line() {
    assert_eq!(flaw("OPTIONS sip:a SIP/2.0\r\n folded: x\r\n\r\n"), Some(400));
}
