//! The house rules that no compiler checks: imports go down only, and floors 0 and 1 hold no I/O crate.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Floor of every crate of the workspace. A new crate must be given its floor here.
const FLOORS: [(&str, u8); 9] = [
    ("proto", 0),
    ("proxy", 1),
    ("relay", 1),
    ("redirect", 1),
    ("access", 1),
    ("reflector", 1),
    ("endpoint-sim", 1),
    ("host", 2),
    ("conformance", 3),
];

/// Crates that do I/O, read a clock or throw dice: never below `host`.
const WORLDLY: [&str; 12] = [
    "tokio",
    "mio",
    "nix",
    "libc",
    "socket2",
    "quinn-udp",
    "io-uring",
    "hickory-resolver",
    "redb",
    "notify",
    "getrandom",
    "dashmap",
];

/// Direct dependencies (not the ones only tests use) of each workspace crate, from `cargo metadata`.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), normal_dependencies(package))).collect()
}

fn normal_dependencies(package: &serde_json::Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter().filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a string").to_owned()
}

#[test]
fn every_crate_has_a_floor() {
    let known: BTreeSet<_> = FLOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(dependencies().into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn imports_go_down_only() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    for (name, wanted) in dependencies() {
        for (other, floor) in wanted.iter().filter_map(|d| floors.get(d.as_str()).map(|f| (d, f))) {
            let own = floors[name.as_str()];
            assert!(*floor < own, "{name} (floor {own}) imports {other} (floor {floor})");
        }
    }
}

#[test]
fn services_and_words_do_no_io() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    for (name, wanted) in dependencies().iter().filter(|(name, _)| floors[name.as_str()] < 2) {
        for worldly in WORLDLY {
            assert!(!wanted.contains(worldly), "{name} is a machine and must not depend on {worldly}");
        }
    }
}

#[test]
fn no_room_is_called_common() {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new("git").args(["ls-files", "*.rs"]).current_dir(workspace).output();
    let Ok(output) = output else { return eprintln!("skipped: git is not here") };
    for path in String::from_utf8_lossy(&output.stdout).lines() {
        for word in ["common", "util", "utils", "helper", "helpers", "misc"] {
            assert!(!path.split(['/', '.']).any(|part| part == word), "{path}: say what it is");
        }
    }
}
