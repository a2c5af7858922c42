//! Every shipped configuration is right, and the smallest slip in any of them is found and explained.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};

use host::config::{ConfigError, Settings};
use proto::tables::Srtp;
use serde_yaml::Value;

/// A copy of the shipped folder with the certificates its files tell one to make.
fn shipped() -> Vec<PathBuf> {
    static COPY: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let copy = std::env::temp_dir().join(format!("postern-configs-{}", std::process::id()));
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        run("cp", &["-r".as_ref(), original.as_ref(), copy.as_ref()]);
        let certificates = copy.join("certificates");
        let names = ["localhost".as_ref(), "127.0.0.1".as_ref()];
        let first: [&std::ffi::OsStr; 3] = ["certificate".as_ref(), "--out".as_ref(), certificates.as_ref()];
        run(env!("CARGO_BIN_EXE_postern"), &[first.as_slice(), &names].concat());
        copy
    });
    fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
        assert!(std::process::Command::new(program).args(arguments).status().unwrap().success());
    }
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&COPY, &mut found);
    assert!(found.len() >= 12, "configurations are missing: {found:?}");
    found
}

fn refused(text: &str) -> ConfigError {
    match Settings::from_text(Path::new("test.yaml"), text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error,
    }
}

#[test]
fn every_shipped_configuration_is_right() {
    for path in shipped() {
        if let Err(error) = Settings::load(&path) {
            panic!("{error}");
        }
    }
}

/// Calls `change` with every mapping of a document, one at a time, on a copy of the document.
fn in_every_table(document: &Value, change: &mut dyn FnMut(&str, Value)) {
    fn visit(here: &Value, path: &mut Vec<Value>, found: &mut Vec<Vec<Value>>) {
        match here {
            Value::Mapping(table) => {
                found.push(path.clone());
                for (key, value) in table {
                    path.push(key.clone());
                    visit(value, path, found);
                    path.pop();
                }
            }
            Value::Sequence(list) => {
                for (index, value) in list.iter().enumerate() {
                    path.push(Value::from(index));
                    visit(value, path, found);
                    path.pop();
                }
            }
            _ => {}
        }
    }
    let mut tables = Vec::new();
    visit(document, &mut Vec::new(), &mut tables);
    for path in tables {
        let mut copy = document.clone();
        let mut here = &mut copy;
        for step in &path {
            here = match step.as_u64() {
                Some(index) if here.is_sequence() => &mut here[index as usize],
                _ => &mut here[step],
            };
        }
        // What is a map of names to tables takes any name, but not one without a table.
        here.as_mapping_mut().unwrap().insert("bogus-key".into(), true.into());
        change(&format!("{path:?}"), copy);
    }
}

#[test]
fn a_bogus_key_in_any_table_is_refused_and_named_with_its_place() {
    for path in shipped() {
        let document: Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        in_every_table(&document, &mut |table, document| {
            let text = serde_yaml::to_string(&document).unwrap();
            let error = refused(&text);
            assert!(error.place.is_some(), "{} {table}: no place: {error}", path.display());
            let by_name = table.contains("networks") || table == "[String(\"trunks\")]";
            let named = error.what.contains("bogus-key") || by_name;
            assert!(named, "{} {table}: {error}", path.display());
        });
    }
}

#[test]
fn an_unknown_key_comes_with_line_column_and_the_nearest_known_one() {
    let error = refused("proxy:\n  anchr: always\n");
    assert_eq!(error.place.map(|place| (place.line, place.column)), Some((2, 3)));
    assert!(error.what.contains("`anchr`"), "{error}");
    assert_eq!(error.remedy, "did you mean `anchor`?");
}

#[test]
fn a_wrong_type_comes_with_its_place_and_what_was_expected() {
    let error = refused("proxy: {}\nrelay:\n  ports: many\n");
    assert_eq!(error.place.map(|place| place.line), Some(3), "{error}");
    assert!(error.what.contains("30000-39999"), "{error}");
}

#[test]
fn a_port_asked_for_twice_is_refused_at_the_second_place() {
    let text =
        "listeners:\n  - address: udp:127.0.0.1:5060\nproxy: {}\nrelay:\n  address: udp:127.0.0.1:5060\n";
    let error = refused(text);
    assert_eq!(error.place.map(|place| place.line), Some(5), "{error}");
    assert!(error.what.contains("asked for twice"), "{error}");
}

#[test]
fn a_sip_port_among_the_media_ports_is_refused() {
    let error = refused("listeners:\n  - address: udp:127.0.0.1:25060\nproxy: {}\nrelay: {}\n");
    assert!(error.what.contains("media ports"), "{error}");
}

#[test]
fn media_ports_the_machine_gives_to_others_are_refused() {
    let error =
        refused("proxy: {}\nlisteners: [{ address: \"127.0.0.1:5060\" }]\nrelay: { ports: 1024-65535 }\n");
    assert!(error.what.contains("overlaps") || error.what.contains("media ports"), "{error}");
    assert!(!error.remedy.is_empty());
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let error = refused("listeners:\n  - address: udp:192.0.2.77:5060\nproxy: {}\n");
    assert_eq!(error.place.map(|place| place.line), Some(2), "{error}");
    assert!(error.what.contains("not an address of this machine"), "{error}");
}

#[test]
fn a_file_of_users_that_is_not_there_is_named() {
    let error = refused("proxy: {}\nlisteners: [{ address: \"127.0.0.1:5060\" }]\nusers: nowhere.yaml\n");
    assert!(error.what.contains("nowhere.yaml"), "{error}");
    assert_eq!(error.place.map(|place| place.line), Some(3), "{error}");
}

#[test]
fn an_undefined_network_is_named_with_the_nearest_one() {
    let text = "networks:\n  inside: { bind: 127.0.0.1 }\nlisteners:\n  - { address: \"127.0.0.1:5060\", network: insid }\nproxy: {}\n";
    let error = refused(text);
    assert_eq!(error.remedy, "did you mean `inside`?");
}

#[test]
fn nodes_apart_need_a_key() {
    let error = refused("relay: {}\n");
    assert!(error.what.contains("node-key"), "{error}");
}

#[test]
fn a_file_without_a_service_has_nothing_to_run() {
    assert!(refused("").what.contains("nothing to run"));
    assert!(refused("domains: [example.org]\n").what.contains("nothing to run"));
}

#[test]
fn broken_yaml_is_one_clear_error() {
    let error = refused("proxy: {\n");
    assert!(error.place.is_some(), "{error}");
}

#[test]
fn a_user_needs_exactly_one_secret() {
    let two = "proxy: {}\nlisteners: [{ address: \"127.0.0.1:5060\" }]\nusers:\n  - { name: a, password: b, ha1: { md5: c } }\n";
    assert!(refused(two).what.contains("both"));
    let none = "proxy: {}\nlisteners: [{ address: \"127.0.0.1:5060\" }]\nusers:\n  - { name: a }\n";
    assert!(refused(none).what.contains("no secret"));
}

/// RFC 4028 §4, and what can't be kept.
#[test]
fn a_session_timer_is_at_least_90_seconds_and_not_below_its_own_least() {
    let with = |timer: &str| {
        format!("proxy:\n  session-timer: {timer}\nlisteners: [{{ address: \"127.0.0.1:5060\" }}]\n")
    };
    let short = refused(&with("{ min: 30s }"));
    assert!(short.what.contains("at least 90 s"), "{short}");
    assert_eq!(short.place.map(|place| place.line), Some(2), "{short}");
    assert!(refused(&with("{ expires: 2m, min: 5m }")).what.contains("300 s is the least"));
    let settings = Settings::from_text(Path::new("test.yaml"), &with("{ expires: 10m }")).unwrap();
    let timer = settings.file.proxy.unwrap().session_timer.unwrap();
    assert_eq!((timer.expires.0.as_secs(), timer.min.0.as_secs()), (600, 90));
}

/// Account before listener before `auth` (the proxy chooses; here they only arrive).
#[test]
fn algorithms_of_accounts_and_listeners_arrive_in_their_order() {
    use proto::digest::Algorithm::{Md5, Sha256};
    let text = "proxy: {}\nlisteners: [{ address: \"127.0.0.1:5060\", algorithms: [sha-256, md5] }]\n\
                users:\n  - { name: a, password: b, algorithms: [sha-256] }\n  - { name: c, password: d }\n";
    let settings = Settings::from_text(Path::new("test.yaml"), text).unwrap();
    let users: Vec<_> = host::config::lower::users(&settings).collect();
    assert_eq!((&users[0].algorithms, &users[1].algorithms), (&vec![Sha256], &Vec::new()));
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
    assert_eq!((&proxy.listeners[0].algorithms, &proxy.algorithms), (&vec![Sha256, Md5], &vec![Md5]));
}

#[test]
fn a_tls_listener_without_a_certificate_is_told_how_to_get_one() {
    let error = refused("listeners:\n  - address: tls:127.0.0.1:5061\nproxy: {}\n");
    assert_eq!(error.place.map(|place| place.line), Some(2), "{error}");
    assert!(error.what.contains("no certificate") && error.remedy.contains("postern certificate"), "{error}");
}

#[test]
fn a_certificate_that_is_not_there_is_named_where_it_is_written() {
    let error = refused(
        "listeners: [{ address: \"wss:127.0.0.1:8443\" }]\nproxy: {}\ntls:\n  certificates:\n    - { certificate: a.pem, key: a.key }\n",
    );
    assert_eq!(error.place.map(|place| place.line), Some(5), "{error}");
    assert!(error.what.contains("a.pem"), "{error}");
}

#[test]
fn clients_whose_certificates_nobody_can_judge_are_refused_at_the_start() {
    let certificates = shipped()[0]
        .ancestors()
        .find(|folder| folder.join("certificates").exists())
        .unwrap()
        .join("certificates");
    let path = |name: &str| certificates.join(name).display().to_string();
    let error = refused(&format!(
        "listeners:\n  - {{ address: \"tls:127.0.0.1:5061\", tls: {{ client-certificates: required }} }}\nproxy: {{}}\n\
         tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}] }}\n",
        path("localhost.pem"),
        path("localhost.key"),
    ));
    assert!(error.remedy.contains("client-authorities"), "{error}");
}

#[test]
fn ng_may_be_an_address_a_list_or_a_mapping() {
    let relay = |ng: &str| {
        let text = format!(
            "networks: {{ default: {{ bind: 127.0.0.1 }} }}\nrelay:\n  ports: 20000-20099\n  ng: {ng}\n"
        );
        let settings =
            Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
        settings.file.relay.and_then(|relay| relay.ng).unwrap()
    };
    let one = relay("udp:127.0.0.1:2223");
    assert_eq!((one.listen.len(), one.allow.len()), (1, 2));
    assert_eq!(relay("[udp:127.0.0.1:2223, tcp:127.0.0.1:2223, ws:127.0.0.1:2224]").listen.len(), 3);
    let full = relay("{ listen: udp:127.0.0.1:2223, allow: [127.0.0.1, 127.0.0.9], latch: any }");
    assert_eq!((full.listen.len(), full.allow.len()), (1, 2));
    assert_eq!(relay("{ listen: udp:127.0.0.1:2223, media: / }").media.as_deref(), Some(Path::new("/")));
    let error = refused(
        "networks: { default: { bind: 127.0.0.1 } }\nrelay:\n  ports: 20000-20099\n  ng: { listen: udp:127.0.0.1:2223, media: /nowhere/media }\n",
    );
    assert!(error.what.contains("/nowhere/media") && error.remedy.contains("WAV"), "{error}");
}

#[test]
fn a_rule_for_recording_says_which_calls_it_means() {
    let record = |rule: &str| {
        format!(
            "networks: {{ default: {{ bind: 127.0.0.1 }} }}\nnode-key: 0123456789abcdef\nrelay:\n  ports: 20000-20099\n  record: {{ rules: [{rule}] }}\n"
        )
    };
    let rule = "{ user: \"49*\", domain: a.example, source: [192.0.2.0/24, \"2001:db8::/32\"], calls: 5, percent: 20 }";
    let settings =
        Settings::from_text(Path::new("test.yaml"), &record(rule)).unwrap_or_else(|error| panic!("{error}"));
    let rules = host::config::lower::record_rules(&settings);
    assert_eq!(
        (rules[0].user.as_deref(), rules[0].source.len(), rules[0].calls, rules[0].share),
        (Some("49*"), 2, Some(5), 20)
    );
    for (rule, words) in [
        ("{}", "would record every call"),
        ("{ user: \"\" }", "is empty"),
        ("{ calls: 0 }", "records nothing"),
        ("{ percent: 101 }", "not from 1 to 100"),
        ("{ percent: 0 }", "not from 1 to 100"),
        ("{ usr: bob }", "usr"),
        ("{ source: [nonsense] }", "nonsense"),
    ] {
        let error = refused(&record(rule)).to_string();
        assert!(error.contains(words), "{rule}: {error}");
    }
}

#[test]
fn ng_is_never_open_to_everybody_by_accident() {
    let ng = |ng: &str| refused(&format!("relay:\n  ports: 20000-20099\n  ng: {ng}\n"));
    for (text, words) in [
        ("udp:0.0.0.0:2223", "every address"),
        ("tls:127.0.0.1:2223", "expected udp, tcp or ws"),
        ("udp:127.0.0.1:5090", "asked for twice"),
        ("[tcp:127.0.0.1:2223, ws:127.0.0.1:2223]", "asked for twice"),
        ("{ listen: udp:127.0.0.1:2223, allow: [] }", "nobody could command"),
        ("{ listen: udp:127.0.0.1:2223, alow: [127.0.0.1] }", "alow"),
    ] {
        let error = ng(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

fn with_trunks(trunks: &str, routes: &str) -> String {
    format!(
        "listeners: [{{ address: \"udp:127.0.0.1:5060\" }}]\ntrunks: {trunks}\nproxy:\n  routes:\n    - {routes}\n"
    )
}

#[test]
fn trunks_and_routes_arrive_as_written() {
    let text = with_trunks(
        "{ a: { servers: [192.0.2.1, { to: \"tcp:sip.example.org\", priority: 2, weight: 5 }], max-calls: 3 } }",
        "{ to: \"0*\", from: [users, \"udp:127.0.0.1:5060\"], strip: 1, prefix: \"+49\", trunks: a }",
    );
    let settings = Settings::from_text(Path::new("test.yaml"), &text).unwrap();
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
    let servers: Vec<_> =
        proxy.trunks[0].servers.iter().map(|s| (s.name.to_string(), s.priority, s.weight)).collect();
    assert_eq!(servers, [("udp:192.0.2.1:5060".into(), 0, 1), ("tcp:sip.example.org".into(), 2, 5)]);
    assert!(proxy.trunks[0].trusted && proxy.trunks[0].caps.calls == Some(3));
    let route = &proxy.routes[0];
    assert_eq!(route.goes, proxy::config::Goes::Trunks(vec![0]));
    assert_eq!(route.from, [proxy::config::Origin::Users, proxy::config::Origin::Listener(0)]);
}

#[test]
fn a_route_by_a_trunk_that_is_not_there_is_refused_with_the_nearest() {
    let error = refused(&with_trunks("{ north: { servers: 192.0.2.1 } }", "{ to: \"*\", trunks: nort }"));
    assert_eq!(error.remedy, "did you mean `north`?");
    assert_eq!(error.place.map(|place| place.line), Some(5), "{error}");
}

#[test]
fn a_route_leads_to_one_end() {
    let trunk = "{ north: { servers: 192.0.2.1 } }";
    assert!(refused(&with_trunks(trunk, "{ to: \"*\" }")).what.contains("too little"));
    let two = refused(&with_trunks(trunk, "{ to: \"*\", trunks: north, user: alice }"));
    assert!(two.what.contains("several ends"), "{two}");
    assert!(
        refused(&with_trunks("{ north: {} }", "{ to: \"*\", trunks: north }")).what.contains("no servers")
    );
}

#[test]
fn a_header_rule_that_would_break_routing_is_refused_with_its_reason() {
    let with = |rule: &str| {
        refused(&with_trunks(
            &format!("{{ a: {{ servers: 192.0.2.1, headers: [{rule}] }} }}"),
            "{ trunks: a }",
        ))
    };
    for name in ["Via", "Record-Route", "i", "CSeq", "Content-Length", "Contact"] {
        let error = with(&format!("{{ on: out, remove: {name} }}"));
        assert!(error.what.contains("out of bounds"), "{error}");
        assert_eq!(error.place.map(|place| place.line), Some(2), "{error}");
    }
    assert!(with("{ on: out, remove: From }").remedy.contains("rewrite"));
    assert!(with("{ on: out, rewrite: From, match: \"(\", with: x }").what.contains("can't be used"));
    assert!(with("{ on: out, rewrite: From }").what.contains("too little"));
    assert!(with("{ on: out }").what.contains("nothing"));
    assert!(with("{ on: in, remove: X-A, status: 9xx }").what.contains("9xx"));
    assert!(with("{ on: in, remove: X-A, status: 999xx }").what.contains("999xx"));
}

#[test]
fn a_header_rule_that_uses_a_group_its_expression_has_not_is_refused_at_its_words() {
    let with = |rule: &str| {
        let trunks = format!("\n  a:\n    servers: 192.0.2.1\n    headers:\n      - {{ on: out, {rule} }}");
        refused(&with_trunks(&trunks, "{ trunks: a }"))
    };
    let error = with("rewrite: From, match: \"<sip:(.*)@.*>\", with: \"<sip:$9@b>\"");
    let seen = "`<sip:$9@b>` uses the group `9`, but `match: <sip:(.*)@.*>` has one group, `$1`";
    assert_eq!(error.what, seen);
    assert_eq!(
        error.remedy,
        "put parentheses around what the group stands for, or write `$$` for a dollar sign"
    );
    let column = "      - { on: out, rewrite: From, match: \"<sip:(.*)@.*>\", with: ".len() + 1;
    assert_eq!(error.place.map(|place| (place.line, place.column)), Some((6, column)), "{error}");

    let error = with("rewrite: From, match: \"^a(b)(?<rest>.*)\", with: $1x");
    assert!(error.what.ends_with("has 2 groups, `$1` to `$2`, by name `${rest}`"), "{error}");
    assert_eq!(error.remedy, "write `${1}x` where letters follow a group");
    let error = with("add: \"X-A: $1\", of: From, match: alice");
    assert!(error.what.ends_with("has no group, only `$0`, all that matched"), "{error}");
}

#[test]
fn a_pbx_that_keeps_the_accounts_is_a_trusted_trunk_and_judges_credentials() {
    let with = |mid: &str| {
        let text = with_trunks("{ pbx: { servers: 192.0.2.1 } }", "{ trunks: pbx }");
        Settings::from_text(Path::new("test.yaml"), &format!("{text}  mid-registrar: {mid}\n"))
    };
    let settings = with("pbx").unwrap();
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
    let mid = proxy.mid_registrar.unwrap();
    assert_eq!((mid.trunk, mid.towards_pbx, mid.towards_nat), (0, 3600, 120));
    assert!(!proxy.listeners[0].authenticate);
    assert!(with("nobody").unwrap_err().what.contains("expected one of: pbx"));
    let error = with("{ trunk: pbx, expires: 1m, behind-nat: 2m }").unwrap_err();
    assert!(error.what.contains("don't go together"), "{error}");
}

#[test]
fn a_route_may_ask_dns_for_the_number_before_its_trunks() {
    let text = with_trunks("{ a: { servers: 192.0.2.1 } }", "{ to: \"+*\", enum: e164.arpa, trunks: a }");
    let settings = Settings::from_text(Path::new("test.yaml"), &text).unwrap();
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
    assert_eq!(proxy.routes[0].goes, proxy::config::Goes::Enum("e164.arpa".into(), vec![0]));
}

#[test]
fn who_comes_by_websocket_is_a_browser_unless_the_listener_says_otherwise() {
    let text = "listeners:\n  - address: \"udp:127.0.0.1:0\"\n  - address: \"ws:127.0.0.1:0\"\n\
                \x20 - { address: \"ws:127.0.0.2:0\", srtp: plain }\nproxy: { srtp: sdes }\n";
    let settings = Settings::from_text(Path::new("test.yaml"), text).unwrap();
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
    let found: Vec<_> = proxy.listeners.iter().map(|listener| listener.srtp).collect();
    assert_eq!(found, [None, Some(Srtp::Dtls), Some(Srtp::Plain)]);
    assert_eq!(proxy.srtp, Srtp::Sdes);
    let error = Settings::from_text(Path::new("test.yaml"), "proxy: { srtp: zrtp }\n").unwrap_err();
    let said = error.to_string();
    assert!(said.contains("zrtp") && said.contains("sdes"), "{said}");
}

#[test]
fn a_route_may_ask_a_server_and_says_what_of_the_call() {
    let with = |http: &str| {
        let text = with_trunks(
            "{ a: { servers: 192.0.2.1 } }",
            &format!("{{ to: \"+*\", http: {http}, trunks: a }}"),
        );
        Settings::from_text(Path::new("test.yaml"), &text)
    };
    let keys = host::keys::Keyring::from_secret(&[1; 32], None);
    let lookup = |settings: Settings| {
        let proxy = host::config::lower::proxy(&settings, &keys).unwrap();
        match &proxy.routes[0].goes {
            proxy::config::Goes::Http(lookup, trunks) if *trunks == [0] => (**lookup).clone(),
            other => panic!("{other:?}"),
        }
    };
    let plain = lookup(with("\"https://r.example/?to={number}\"").unwrap());
    let seconds = [plain.timeout, plain.cache, plain.negative].map(|span| span.as_secs());
    assert_eq!(seconds, [2, 60, 5]);
    let whole = "{ url: \"http://[::1]:8080/{user}\", timeout: 500ms, cache: 0s, negative: 1s, token: x }";
    assert_eq!(lookup(with(whole).unwrap()).token.as_deref(), Some("x"));
    for (wrong, word) in [
        ("\"https://r.example/\"", "the same of every call"),
        ("\"https://r.example/{numbr}\"", "nothing that is known"),
        ("\"ftp://r.example/{number}\"", "no URL of a server"),
        ("\"https://{host}/x\"", "no URL of a server"),
        ("\"https://r.example/ {number}\"", "no URL of a server"),
        ("{ url: \"https://r.example/{number}\", timeout: 1m }", "the caller waits"),
        ("{ url: \"https://r.example/{number}\", token: \"a b\" }", "can't stand in a header"),
        ("{ url: \"https://r.example/{number}\", retries: 3 }", "retries"),
    ] {
        let error = with(wrong).unwrap_err();
        assert!(error.what.contains(word), "{wrong}: {error}");
    }
    let both = with_trunks("{}", "{ to: \"+*\", http: \"http://a/{number}\", enum: e164.arpa }");
    assert!(refused(&both).what.contains("several ends"));
}
