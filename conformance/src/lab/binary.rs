//! The `postern` binary that laboratory and processes run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The binary of this very source, or the one POSTERN_BINARY names. `cargo test --workspace` has made it before the first
/// test runs; where only some packages are tested it is built when it is first asked for.
pub fn postern() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Ok(named) = std::env::var("POSTERN_BINARY") {
            return named;
        }
        let own = std::env::current_exe().expect("a test has a path");
        let folder = own.parent().and_then(Path::parent).expect("tests live in TARGET/PROFILE/deps");
        let binary = folder.join("postern");
        if !is_current(&binary) {
            build(folder);
        }
        binary.to_string_lossy().into_owned()
    })
}

/// Whether it is younger than all it was made of: the sources that cargo lists beside it, and the manifests. Asking cargo
/// would cost minutes: alone, the binary's dependencies have other features than beside the tests, and are built once more.
fn is_current(binary: &Path) -> bool {
    let Ok(list) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some(made) = changed(binary) else { return false };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let sources = sources.replace("\\ ", "\0");
    let sources = sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " ")));
    sources.chain(manifests()).all(|source| changed(&source).is_some_and(|at| at <= made))
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|known| known.modified()).ok()
}

/// The workspace's manifest and lock file, and those of its packages.
fn manifests() -> impl Iterator<Item = PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("conformance lies in the workspace");
    let packages = std::fs::read_dir(root).into_iter().flatten().flatten();
    let own = packages.map(|package| package.path().join("Cargo.toml")).filter(|manifest| manifest.exists());
    [root.join("Cargo.toml"), root.join("Cargo.lock")].into_iter().chain(own)
}

fn build(folder: &Path) {
    let profile = if folder.ends_with("release") { "release" } else { "dev" };
    let target = folder.parent().expect("PROFILE lies in TARGET");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "host",
            "--bin",
            "postern",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the postern binary does not build");
}
