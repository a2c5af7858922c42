//! `postern init`: writes a commented configuration to start from.

use std::io::Write;
use std::path::Path;

use super::exit;

/// The file, as shipped in `configs/`.
const TEMPLATE: &str = include_str!("../../../configs/postern.yaml");

/// Writes it; never over a file that is there.
pub fn init(file: &Path) -> u8 {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    match written {
        Ok(()) => {
            println!("wrote {0}; next: postern check -c {0}", file.display());
            exit::OK
        }
        Err(error) => {
            eprintln!(
                "cannot write {}: {error}\n  name another file with -c, or move that one away",
                file.display()
            );
            exit::OS
        }
    }
}
