//! The `postern` command.

pub mod ask;
pub mod capture;
pub mod certificate;
pub mod check;
pub mod endpoint;
pub mod init;
pub mod live;
pub mod peer;
pub mod registrations;
pub mod run;
pub mod shield;
pub mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal, signal};

use self::ask::Target;
use crate::admin::Ask;

/// Exit codes, as `sysexits.h` has them.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// The command line makes no sense.
    pub const USAGE: u8 = 64;
    /// A service that is needed is not there.
    pub const UNAVAILABLE: u8 = 69;
    /// The operating system refused.
    pub const OS: u8 = 71;
    /// The configuration is wrong; nothing was started.
    pub const CONFIG: u8 = 78;
}

/// SIP calls and their media through NATs and firewalls.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    about = "SIP calls and their media through NATs and firewalls",
    after_help = "Exit codes: 0 done; 64 wrong usage; 69 nobody answers on the \
control socket, or a call did not come about; 71 the operating system refused; 78 the configuration is wrong (nothing \
was started or changed)."
)]
pub struct Cli {
    /// Machine-readable output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the services a configuration names, until SIGTERM or SIGINT
    Run(run::Arguments),
    /// Have a running process replaced by a new one, of the binary as it is now: no packet and no call is lost
    Upgrade(Target),
    /// Read a configuration and say what it would do
    Check(FileArg),
    /// Write a commented configuration to start from
    Init(FileArg),
    /// Make a certificate to try TLS out, by an authority of your own
    Certificate(certificate::Arguments),
    /// How a running process stands
    Status(Target),
    /// Who is registered, by which path, and whether the phone answers
    Registrations(registrations::Registrations),
    /// The newest calls of a running process
    Calls {
        /// How many at most
        #[arg(short = 'n', long, default_value_t = 20)]
        most: usize,
        #[command(flatten)]
        target: Target,
    },
    /// Why the media of a call went where it went, or what the shield did about a source
    Explain {
        /// The call's Call-ID, the beginning of it, `last`, or an IP address
        #[arg(default_value = "last")]
        call: String,
        #[command(flatten)]
        target: Target,
    },
    /// How the trunks of a running process stand, and why
    Trunks(Target),
    /// What would become of a call, which rule decides and why; nothing is sent
    Route {
        /// For whom: a URI, a number, or a user of ours
        uri: String,
        /// From whom: `user`, a trunk's name, an address, or a listener
        #[arg(long, value_name = "WHO", default_value = "user")]
        from: String,
        #[command(flatten)]
        target: Target,
    },
    /// Record a call's media, as its relay hears it, to a pcapng file
    Capture(capture::Capture),
    /// Make a stereo WAV of a recording's G.711: the caller left, the callee right
    Wav(capture::Wav),
    /// Read the configuration again; a bad file changes nothing
    Reload(Target),
    /// Who is banned and why; whom to let pass, whom to shut out
    #[command(subcommand)]
    Shield(shield::Shield),
    /// Take no new calls
    Drain(Target),
    /// Phones without a speaker: register, call, answer, and tell what they heard
    Endpoint(endpoint::Arguments),
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct FileArg {
    /// The configuration
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "postern.yaml")]
    file: PathBuf,
}

/// `postern calls | head` ends when `head` has seen enough, as any command does: Rust's own way is to panic.
#[allow(unsafe_code, reason = "a signal's action is set by sigaction alone")]
fn end_with_its_reader() {
    // SAFETY: the default action takes no handler, and this thread is the only one so far.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    if !matches!(cli.command, Command::Run(_) | Command::Endpoint(_)) {
        end_with_its_reader();
    }
    let code = match cli.command {
        Command::Run(arguments) => run::run(&arguments, cli.json),
        Command::Upgrade(target) => ask::ask(&target, &Ask::Upgrade, cli.json),
        Command::Check(arg) => check::check(&arg.file, cli.json),
        Command::Init(arg) => init::init(&arg.file),
        Command::Certificate(arguments) => certificate::certificate(&arguments),
        Command::Status(target) => ask::ask(&target, &Ask::Status, cli.json),
        Command::Registrations(wanted) => registrations::registrations(&wanted, cli.json),
        Command::Calls { most, target } => ask::ask(&target, &Ask::Calls { most }, cli.json),
        Command::Explain { call, target } => ask::ask(&target, &Ask::Explain { call }, cli.json),
        Command::Trunks(target) => ask::ask(&target, &Ask::Trunks, cli.json),
        Command::Route { uri, from, target } => ask::ask(&target, &Ask::Route { uri, from }, cli.json),
        Command::Capture(wanted) => capture::capture(&wanted, cli.json),
        Command::Wav(wanted) => capture::wav(&wanted),
        Command::Reload(target) => ask::ask(&target, &Ask::Reload, cli.json),
        Command::Endpoint(arguments) => endpoint::endpoint(&arguments, cli.json),
        Command::Shield(shield) => shield::shield(&shield, cli.json),
        Command::Drain(target) => ask::ask(&target, &Ask::Drain, cli.json),
    };
    ExitCode::from(code)
}
