//! The committed profile of the release build (`host/profile`) is one that the compiler can use: `make profile` makes it anew.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it reads files of this workspace")]

use std::path::PathBuf;

fn file(path: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(path: &str) -> String {
    String::from_utf8(file(path)).expect("text")
}

/// Names of functions have the compiler's version in them: by another one none would be found, and nothing would say so.
#[test]
fn it_is_of_the_compiler_that_is_pinned() {
    let pinned = text("rust-toolchain.toml");
    let pinned = pinned.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    let made_by = text("host/profile/postern.from");
    let made_by = made_by.strip_prefix("rustc ").and_then(|rest| rest.split(' ').next()).expect("a version");
    assert_eq!(pinned.trim_matches('"'), made_by, "make profile");
}

#[test]
fn every_service_that_carries_load_is_in_it() {
    let profile = file("host/profile/postern.profdata");
    for package in ["proto", "proxy", "relay", "access", "reflector", "host"] {
        let name = format!("_ZN{}{package}", package.len());
        let found = profile.windows(name.len()).filter(|window| *window == name.as_bytes()).count();
        assert!(found >= 3, "{found} functions of {package}");
    }
}
