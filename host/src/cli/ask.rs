//! Commands that ask a running process over its control socket.

use std::io;
use std::path::{Path, PathBuf};

use super::exit;
use super::terminal::{harmless_lines, json as as_json};
use crate::admin::{self, Ask};
use crate::config::schema::File;

/// Which running process is meant.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The configuration it runs by; without it, the only one running here
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its control socket
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    control: Option<PathBuf>,
}

impl Target {
    /// Where it is asked; the exit code, after saying why, if that is not known.
    pub(super) fn socket(&self) -> Result<PathBuf, u8> {
        self.find().map_err(|(code, words)| {
            eprintln!("{words}");
            code
        })
    }

    fn find(&self) -> Result<PathBuf, (u8, String)> {
        match (&self.control, &self.config) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(config)) => match File::read(config) {
                Ok(file) => Ok(admin::path_by(config, &file)),
                Err(error) => Err((exit::CONFIG, error.to_string())),
            },
            (None, None) => only_one(),
        }
    }
}

fn only_one() -> Result<PathBuf, (u8, String)> {
    let folder = admin::runtime_folder();
    let is_ours = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("postern-") && name.ends_with(".sock")
    };
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    // What a killed process left behind answers nobody.
    let answers = |path: &PathBuf| is_ours(path) && std::os::unix::net::UnixStream::connect(path).is_ok();
    let mut found: Vec<PathBuf> = entries.filter(answers).collect();
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err((exit::UNAVAILABLE, "no postern is running here; say which with -c FILE".into())),
        _ => Err((exit::USAGE, "several are running here: say which with -c FILE".into())),
    }
}

/// Asks, prints the answer, gives the exit code.
pub fn ask(target: &Target, ask: &Ask, json: bool) -> u8 {
    let path = match target.socket() {
        Ok(path) => path,
        Err(code) => return code,
    };
    match admin::ask(&path, ask) {
        Ok(answer) if json => {
            println!("{}", as_json(&answer.value));
            if answer.ok { exit::OK } else { exit::UNAVAILABLE }
        }
        Ok(answer) => {
            answer.lines.iter().flat_map(|text| harmless_lines(text)).for_each(|line| println!("{line}"));
            if answer.ok { exit::OK } else { exit::UNAVAILABLE }
        }
        Err(error) => nobody_answers(&path, &error),
    }
}

/// Says so, and what to do; the exit code for it.
pub(super) fn nobody_answers(path: &Path, error: &io::Error) -> u8 {
    eprintln!("nobody answers at {}: {error}\n  start it with `postern run`", path.display());
    exit::UNAVAILABLE
}
