//! `postern capture` and `postern wav`: what a call's parties sent, as packets and as sound.

use std::path::{Path, PathBuf};

use super::ask::{Target, ask};
use super::exit;
use crate::admin::Ask;
use crate::capture::wav::{self, Mute};

/// What is to be recorded.
#[derive(Debug, clap::Args)]
pub struct Capture {
    /// The call's Call-ID, the beginning of it, `last`, or the name of a relay session
    #[arg(required_unless_present = "next", conflicts_with = "next")]
    call: Option<String>,
    /// The next N sessions that begin, instead (of each of the relay's threads)
    #[arg(long, value_name = "N")]
    next: Option<usize>,
    /// Record no more
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    target: Target,
}

/// Which recording becomes sound.
#[derive(Debug, clap::Args)]
pub struct Wav {
    /// The recording
    #[arg(value_name = "FILE.pcapng")]
    recording: PathBuf,
    /// Where the sound goes; without it, beside the recording
    #[arg(short = 'o', long, value_name = "FILE.wav")]
    output: Option<PathBuf>,
}

/// Asks the running process.
pub fn capture(wanted: &Capture, json: bool) -> u8 {
    let order = Ask::Capture { call: wanted.call.clone(), next: wanted.next.unwrap_or(0), stop: wanted.stop };
    ask(&wanted.target, &order, json)
}

/// Makes the sound.
pub fn wav(wanted: &Wav) -> u8 {
    let output = wanted.output.clone().unwrap_or_else(|| wanted.recording.with_extension("wav"));
    match convert(&wanted.recording, &output) {
        Ok(()) => {
            println!("wrote {}", output.display());
            exit::OK
        }
        Err(words) => {
            eprintln!("{words}");
            exit::OS
        }
    }
}

fn convert(recording: &Path, output: &Path) -> Result<(), String> {
    let shown = recording.display();
    let bytes = std::fs::read(recording).map_err(|error| {
        format!("cannot read {shown}: {error}\n  `postern status` names the folder recordings are in")
    })?;
    let sound = wav::of_recording(&bytes).map_err(|mute| match mute {
        Mute::NotARecording => {
            format!("{shown} is no recording of ours: expected a file of `postern capture`")
        }
        Mute::NoG711 => format!("{shown} has no G.711 in it: only PCMU and PCMA can be made sound"),
    })?;
    std::fs::write(output, sound)
        .map_err(|error| format!("cannot write {}: {error}\n  name another file with -o", output.display()))
}
