use super::*;
use crate::bindings::tests::binding;

fn wall() -> SystemTime {
    binding("sip:a@x").expires - Duration::from_secs(60)
}

/// A phone behind a NAT, reached without another proxy.
fn phone(contact: &str) -> Binding {
    Binding { path: Vec::new(), unanswered: 0, ..binding(contact) }
}

fn by_tcp(one: Binding) -> Binding {
    let flow = Flow { transport: proto::node::Transport::Tcp, ..one.flow };
    Binding { flow, ..one }
}

fn with(some: &[(&str, Binding)]) -> Bindings {
    let all = Bindings::default();
    for (aor, one) in some {
        all.edit(aor, &mut |there| there.push(one.clone()), |_| {});
    }
    all
}

fn parts(bindings: &Bindings) -> Vec<Vec<Registration>> {
    let mut parts = Vec::new();
    let mut say = |answer: Answer| {
        parts.push(serde_json::from_value(answer.value).unwrap());
        Ok(())
    };
    say_all(bindings.aors(), bindings, &wall, true, &mut say).unwrap();
    parts
}

#[test]
fn what_is_told_of_a_binding_is_how_it_is_reached() {
    let one = Registration::of(
        "alice@x",
        &Binding { agent: Some("Phone".into()), ..binding("sip:a@x") },
        wall(),
        true,
    );
    let expected = json!({
        "aor": "alice@x", "contact": "sip:a@x", "state": "silent", "unanswered": 2, "left_s": 60,
        "remote": "198.51.100.7:1024", "listener": "udp:192.0.2.1:5060", "behind_nat": true,
        "path": ["<sip:edge.example;lr>", "<sip:other.example;lr>"],
        "instance": "urn:uuid:1", "reg_id": 1, "agent": "Phone",
    });
    assert_eq!(serde_json::to_value(one).unwrap(), expected);
}

#[test]
fn unanswered_keep_alives_are_told_and_who_gets_none_is_not_called_reachable() {
    let state = |one: Binding| State::of(&one, wall(), true);
    let unanswered = |unanswered| Binding { unanswered, ..phone("sip:a@x") };
    let through = Binding { path: vec!["<sip:edge;lr>".into()], ..phone("sip:a@x") };
    let not_behind = Binding { behind_nat: false, ..phone("sip:a@x") };
    assert_eq!(state(unanswered(0)), State::Reachable);
    assert_eq!([1, 2].map(|n| state(unanswered(n))), [State::Silent; 2]);
    assert_eq!(state(unanswered(3)), State::Unreachable);
    assert_eq!(state(not_behind.clone()), State::NotAsked);
    assert_eq!(state(through.clone()), State::NotAsked);
    assert_eq!(state(by_tcp(not_behind)), State::Reachable, "its connection stands");
    assert_eq!(state(by_tcp(through)), State::NotAsked, "whatever became of the connection");
    assert_eq!(state(by_tcp(unanswered(3))), State::Unreachable, "its connection was an earlier process's");
    assert_eq!(State::of(&phone("sip:a@x"), wall(), false), State::NotAsked, "nobody is asked");
}

#[test]
fn one_whose_time_is_up_is_over_and_never_below_zero() {
    let at = |wall| Registration::of("a@x", &phone("sip:a@x"), wall, true);
    let expires = phone("sip:a@x").expires;
    let (before, then, later) =
        (at(expires - Duration::from_millis(1)), at(expires), at(expires + Duration::from_secs(9)));
    assert_eq!((before.state, before.left_s), (State::Reachable, 0));
    assert_eq!((then.state, then.left_s), (State::Over, 0));
    assert_eq!((later.state, later.left_s), (State::Over, 0));
}

#[test]
fn all_are_told_once_and_sorted_however_many_parts_that_takes() {
    let names: Vec<String> = (0..2 * PART + 1).rev().map(|n| format!("u{n:05}@x")).collect();
    let all = with(&names.iter().map(|name| (name.as_str(), phone("sip:b@x"))).collect::<Vec<_>>());
    all.edit(&names[0], &mut |there| there.push(phone("sip:a@x")), |_| {});
    let parts = parts(&all);
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [PART, PART, 2]);
    let told: Vec<_> = parts.concat().into_iter().map(|one| (one.aor, one.contact)).collect();
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!(told.len(), names.len() + 1);
}

#[test]
fn who_went_meanwhile_is_left_out_and_a_listener_that_hears_no_more_ends_it() {
    let all = with(&[("a@x", phone("sip:a@x"))]);
    let names = vec!["a@x".to_owned(), "gone@x".to_owned()];
    assert_eq!(say_all(names, &all, &wall, true, &mut |_| Ok(())).unwrap(), 1);
    let deaf = say_all(all.aors(), &all, &wall, true, &mut |_| Err(io::ErrorKind::TimedOut.into()));
    assert_eq!(deaf.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_user_part_is_that_user_at_any_domain_and_nobody_else() {
    let all =
        with(&["alice@x", "alice@y", "malice@x", "Alice@x", "alice.b@x"].map(|aor| (aor, phone("sip:a@x"))));
    let names = |wanted: &str| {
        let mut names = Wanted(wanted.to_owned()).names(&all);
        names.sort();
        names
    };
    assert_eq!(names("alice@"), ["alice@x", "alice@y"]);
    assert_eq!(names("alice@y"), ["alice@y"]);
}

#[test]
fn who_is_not_there_is_told_with_what_may_have_been_meant() {
    let all = with(&["alice@x", "alice@y"].map(|aor| (aor, phone("sip:a@x"))));
    let told = |wanted: &str, has_account| {
        nobody_there(&Wanted(wanted.to_owned()), &all, has_account).lines.join("\n")
    };
    assert_eq!(told("Alice@z", true), "nobody is registered as `Alice@z`\n  registered: alice@x, alice@y");
    assert!(told("bob@", true).starts_with("nobody is registered as `bob`\n  the account is there"));
    assert!(told("bob@x", false).contains("nor is there an account of that name"));
}
