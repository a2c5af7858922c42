//! `postern endpoint`: phones without a speaker, from a file or from flags.

use std::path::PathBuf;

use clap::Subcommand;
use endpoint_sim::{Act, After, Answer, Report, Script, Step};
use proto::event::{Event, Side, Turn};
use proto::node::Transport;
use proto::sip::reason_phrase;

use super::exit;
use super::live::live;
use super::terminal::{harmless, pretty_json};
use crate::config::values::SipAddress;
use crate::endpoint::{Fleet, OutboundPlan, PhonePlan, audio_flowed, first_media_port, run_with};

/// See `postern endpoint --help`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It says what happens as it happens, a line each (with `--json` to standard error), and at the end how it was. \
Exit code 0: audio flowed both ways in every call that was answered (`register`: registered); \
69: it did not, or nobody answered. A file for `run` lists phones, each with a script:\n\n  \
phones:\n    - user: bob\n      password: builder\n      proxy: udp:127.0.0.1:5060\n      \
script:\n        until-ms: 20000\n        steps:\n          - { do: register }\n          \
- { do: wait, after: ended }\n          - { do: unregister }"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the phones of a file
    Run {
        /// The file
        file: PathBuf,
    },
    /// Register and end
    Register(Who),
    /// Register, answer the next call, and stay until it ends
    Answer {
        #[command(flatten)]
        who: Who,
        /// Give up after so many seconds
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// Call somebody, talk, hang up
    Call {
        /// Whom: a SIP URI
        to: String,
        #[command(flatten)]
        who: Who,
        /// How long to talk, in seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Be a peer for a while: log in at an access server, and tell who is online, by which path, and why
    Peer(super::peer::Arguments),
}

/// Which phone.
#[derive(Debug, clap::Args)]
struct Who {
    /// User part of its address of record
    #[arg(long)]
    user: String,
    /// Digest password
    #[arg(long)]
    password: Option<String>,
    /// Its domain; default: the proxy's address
    #[arg(long)]
    domain: Option<String>,
    /// Where it sends everything
    #[arg(long, default_value = "udp:127.0.0.1:5060")]
    proxy: String,
    /// Another edge proxy, for a second flow (RFC 5626): when one fails, the others carry its calls. May be repeated
    #[arg(long, value_name = "ADDRESS")]
    edge: Vec<String>,
    /// Over which transport: udp, tcp, tls, ws or wss; default: as `--proxy` begins
    #[arg(long)]
    transport: Option<String>,
    /// Authorities of the proxy's certificate (PEM); default: this machine's
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Its own SIP address
    #[arg(long)]
    local: Option<std::net::SocketAddr>,
    /// Its first media port
    #[arg(long, default_value_t = first_media_port())]
    media_port: u16,
}

impl Who {
    fn phone(&self, script: Script) -> Result<PhonePlan, String> {
        let mut proxy: SipAddress = self.proxy.parse()?;
        if let Some(name) = &self.transport {
            let known = Transport::from_name(name);
            proxy.transport =
                known.ok_or(format!("`{name}` is no transport; expected udp, tcp, tls, ws or wss"))?;
        }
        Ok(PhonePlan {
            user: self.user.clone(),
            domain: self.domain.clone(),
            password: self.password.clone(),
            auth_user: None,
            proxy,
            ca: self.ca.clone(),
            local: self.local,
            outbound: self.outbound()?,
            media_port: self.media_port,
            script,
        })
    }
}

impl Who {
    fn outbound(&self) -> Result<Option<OutboundPlan>, String> {
        let edges: Vec<SipAddress> = self.edge.iter().map(|edge| edge.parse()).collect::<Result<_, _>>()?;
        Ok((!edges.is_empty()).then(|| OutboundPlan { edges, ..OutboundPlan::default() }))
    }
}

/// Runs the phones, prints their reports as JSON, gives the exit code.
pub fn endpoint(arguments: &Arguments, json: bool) -> u8 {
    if let Command::Peer(arguments) = &arguments.command {
        return super::peer::peer(arguments, json);
    }
    let fleet = match fleet(&arguments.command) {
        Ok(fleet) => fleet,
        Err((code, words)) => {
            eprintln!("{words}");
            return code;
        }
    };
    let several = fleet.phones.len() > 1;
    match run_with(&fleet, live(json, move |event| happened(event, several))) {
        Ok(reports) => {
            match json {
                true => println!("{}", pretty_json(&reports)),
                false => reports.iter().flat_map(told).for_each(|line| println!("{}", harmless(&line))),
            }
            verdict(&arguments.command, &reports)
        }
        Err(error) => {
            eprintln!("{error}");
            exit::OS
        }
    }
}

/// An event of a phone's, in words; of several phones, with its name.
fn happened(event: &Event, several: bool) -> Option<String> {
    let (phone, words) = match event {
        Event::PhoneRegistered { phone, registered: true, .. } => (phone, "registered".to_owned()),
        Event::PhoneRegistered { phone, status, .. } => (phone, unregistered(*status)),
        Event::PhoneCall { phone, with, turn } => (phone, format!("call with {with}: {}", turned(*turn))),
        _ => return None,
    };
    Some(if several { format!("{phone}: {words}") } else { words })
}

/// Why a phone is not registered, by the answer to its REGISTER.
fn unregistered(status: u16) -> String {
    let why = match status {
        200..300 => return "no longer registered".to_owned(),
        401 | 403 | 407 => "; are name and password right?",
        408 | 503 => "; is the proxy there?",
        _ => "",
    };
    format!("not registered: {}{why}", named(status))
}

/// How far a call has come.
fn turned(turn: Turn) -> String {
    match turn {
        Turn::Rings(Side::Callee) => "it rings here".to_owned(),
        Turn::Rings(Side::Caller) => "it rings there".to_owned(),
        Turn::Answered => "answered".to_owned(),
        Turn::Ended { by_us: true } => "ended by this side".to_owned(),
        Turn::Ended { by_us: false } => "ended by the other side".to_owned(),
        Turn::Failed { status: Some(status) } => format!("not answered: {}", named(status)),
        Turn::Failed { status: None } => "never begun".to_owned(),
    }
}

/// A status with its phrase.
fn named(status: u16) -> String {
    format!("{status} {}", reason_phrase(status)).trim_end().to_owned()
}

/// A report in words.
fn told(report: &Report) -> Vec<String> {
    let status = |status: Option<u16>| status.map_or("not answered".into(), |status| status.to_string());
    let mut lines = vec![report.name.clone()];
    if report.register_status.is_some() {
        lines.push(format!("  REGISTER: {}", status(report.register_status)));
    }
    if report.flows > 1 || report.flow_failures > 0 {
        lines.push(format!("  flows: {} stand, {} failed on the way", report.flows, report.flow_failures));
    }
    if report.call_status.is_some() || report.answered {
        lines.push(format!("  INVITE: {}", status(report.call_status)));
    }
    lines.extend(report.setup_ms.map(|ms| format!("  answered after {ms} ms")));
    if report.answered {
        let sources: Vec<String> = report.sources.iter().map(ToString::to_string).collect();
        let word = if report.audio_both_ways { "audio both ways" } else { "NO audio both ways" };
        let came = if sources.is_empty() { "nowhere".into() } else { sources.join(", ") };
        lines.push(format!(
            "  {word}: {} packets sent, {} received from {came}; {} lost, largest gap {} ms",
            report.sent, report.received, report.lost, report.largest_gap_ms
        ));
    }
    lines
}

fn fleet(command: &Command) -> Result<Fleet, (u8, String)> {
    let usage = |words: String| (exit::USAGE, words);
    let one = |phone: PhonePlan| Fleet { phones: vec![phone] };
    let fleet = match command {
        Command::Run { file } => read(file)?,
        Command::Peer(_) => Fleet { phones: Vec::new() },
        Command::Register(who) => one(who.phone(registering()).map_err(usage)?),
        Command::Answer { who, patience } => one(who.phone(answering(*patience)).map_err(usage)?),
        Command::Call { to, who, seconds } => {
            let script = calling(to, *seconds, who.password.is_some());
            one(who.phone(script).map_err(usage)?)
        }
    };
    Ok(fleet)
}

fn read(file: &PathBuf) -> Result<Fleet, (u8, String)> {
    let wrong = |words: String| (exit::CONFIG, words);
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    let error =
        |error: serde_yaml::Error| wrong(crate::config::ConfigError::from_yaml(file, &error).to_string());
    serde_yaml::from_str(&text).map_err(error)
}

fn registering() -> Script {
    let steps = vec![Step::new(Act::Register, After::Start, 0), Step::new(Act::Wait, After::Registered, 0)];
    Script { steps, until_ms: 10_000, ..Script::default() }
}

fn answering(patience: u64) -> Script {
    let steps = vec![
        Step::new(Act::Register, After::Start, 0),
        Step::new(Act::Wait, After::Ended, 0),
        Step::new(Act::Unregister, After::Previous, 0),
    ];
    let answer = Answer { after_ms: 500, ..Answer::default() };
    Script { answer, steps, until_ms: patience * 1000 }
}

/// A caller with a password registers first, as phones do.
fn calling(to: &str, seconds: u64, registers: bool) -> Script {
    let mut steps = Vec::new();
    let mut after = After::Start;
    if registers {
        steps.push(Step::new(Act::Register, After::Start, 0));
        after = After::Registered;
    }
    steps.push(Step::call(to, after, 0));
    steps.push(Step::new(Act::HangUp, After::Answered, seconds * 1000));
    if registers {
        steps.push(Step::new(Act::Unregister, After::Ended, 0));
    }
    Script { steps, until_ms: seconds * 1000 + 30_000, ..Script::default() }
}

fn verdict(command: &Command, reports: &[Report]) -> u8 {
    let good = match command {
        Command::Register(_) => reports.iter().all(|report| report.registered),
        _ => audio_flowed(reports),
    };
    if good { exit::OK } else { exit::UNAVAILABLE }
}
