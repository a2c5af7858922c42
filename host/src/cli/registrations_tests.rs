use serde_json::{Value, json};

use super::*;

fn one(aor: &str) -> Registration {
    Registration {
        aor: aor.to_owned(),
        contact: "sip:a@10.0.0.5".to_owned(),
        state: State::NotAsked,
        unanswered: 0,
        left_s: 3598,
        remote: "198.51.100.7:1024".to_owned(),
        listener: "udp:192.0.2.1:5060".to_owned(),
        behind_nat: false,
        path: Vec::new(),
        instance: None,
        reg_id: None,
        agent: None,
    }
}

fn part(some: &[Registration]) -> Part {
    Ok(Answer { ok: true, lines: Vec::new(), value: serde_json::to_value(some).unwrap() })
}

fn last(ok: bool, lines: &[&str], value: Value) -> Part {
    Ok(Answer { ok, lines: lines.iter().map(|&line| line.to_owned()).collect(), value })
}

fn done() -> Part {
    last(true, &[], Value::Null)
}

fn told(parts: impl IntoIterator<Item = Part>) -> (io::Result<bool>, String) {
    let mut out = Vec::new();
    (tell_people(parts, &mut out), String::from_utf8(out).unwrap())
}

fn as_programs_read_it(parts: impl IntoIterator<Item = Part>) -> (io::Result<bool>, String) {
    let mut out = Vec::new();
    (tell_programs(parts, &mut out), String::from_utf8(out).unwrap())
}

#[test]
fn people_get_a_line_a_binding_in_columns() {
    let bob = Registration {
        state: State::Silent,
        unanswered: 2,
        left_s: 7,
        behind_nat: true,
        agent: Some("Yealink".to_owned()),
        instance: Some("<urn:uuid:1>".to_owned()),
        reg_id: Some(1),
        path: vec!["<sip:edge;lr>".to_owned()],
        ..one("bob@example.com")
    };
    let (ok, text) = told([part(&[one("alice@x"), bob]), done()]);
    assert!(ok.unwrap());
    let expected = "\
ADDRESS          STATE        LEFT  MET AT             NAT  LISTENER            CONTACT         DEVICE
alice@x          not asked  3598 s  198.51.100.7:1024  no   udp:192.0.2.1:5060  sip:a@10.0.0.5
bob@example.com  silent 2      7 s  198.51.100.7:1024  yes  udp:192.0.2.1:5060  sip:a@10.0.0.5  Yealink; instance <urn:uuid:1>; reg-id 1; path <sip:edge;lr>
";
    assert_eq!(text, expected);
}

#[test]
fn the_table_has_one_head_and_goes_on_in_its_columns() {
    let (_, text) = told([part(&[one("somebody@example.com")]), part(&[one("z@x")]), done()]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1].find("not asked"), lines[2].find("not asked"));
}

#[test]
fn what_a_phone_sends_stays_in_its_line_and_commands_no_terminal() {
    let evil = "x\u{1b}[2J\r\nroot@x  reachable\u{9b}1m";
    let one = Registration { contact: evil.to_owned(), agent: Some(evil.to_owned()), ..one("alice@x") };
    let (_, text) = told([part(std::slice::from_ref(&one)), done()]);
    assert_eq!(text.lines().count(), 2);
    assert!(!text.contains(|letter: char| letter != '\n' && letter.is_control()), "{text:?}");
    let (_, json) = as_programs_read_it([part(std::slice::from_ref(&one)), done()]);
    assert!(!json.contains(|letter: char| letter != '\n' && letter.is_control()), "{json:?}");
    assert_eq!(serde_json::from_str::<Vec<Registration>>(&json).unwrap(), [one], "and means the same");
}

#[test]
fn programs_get_one_array_whatever_parts_it_came_in() {
    let (ok, text) = as_programs_read_it([part(&[one("a@x"), one("b@x")]), part(&[one("c@x")]), done()]);
    assert!(ok.unwrap());
    assert_eq!(serde_json::from_str::<Vec<Registration>>(&text).unwrap(), ["a@x", "b@x", "c@x"].map(one));
    let (ok, text) = as_programs_read_it([done()]);
    assert_eq!((ok.unwrap(), text.as_str()), (true, "[]\n"));
}

#[test]
fn what_could_not_be_had_is_said_and_fails() {
    let refused = || [last(false, &["nobody is registered as `c`"], json!({ "what": "nobody" }))];
    let (ok, text) = told(refused());
    assert_eq!((ok.unwrap(), text.as_str()), (false, "nobody is registered as `c`\n"));
    let (ok, text) = as_programs_read_it(refused());
    assert_eq!((ok.unwrap(), text.as_str()), (false, "{\"what\":\"nobody\"}\n"));
}

#[test]
fn a_list_that_breaks_off_is_an_error_and_no_array() {
    let broken = || [part(&[one("a@x")]), Err(io::ErrorKind::UnexpectedEof.into())];
    assert!(told(broken()).0.is_err());
    let (ok, text) = as_programs_read_it(broken());
    assert!(ok.is_err());
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
}
