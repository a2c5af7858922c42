//! `postern endpoint peer`: who is online, by which path, and why.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use endpoint_sim::peer::wording::{heard, line, way};
use endpoint_sim::peer::{CallReport, PeerReport};
use proto::event::Event;
use proto::peer::nat::Class;
use tokio::signal::unix::{SignalKind, signal};

use super::exit;
use super::live::live;
use super::terminal::{harmless, pretty_json};
use crate::config::values::SipAddress;
use crate::peer::{Leave, PeerPlan, run_with};

/// A peer: finds out what NAT it is behind, logs in, and talks to its buddies directly where that can be.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// User part of its address of record, and digest user name
    #[arg(long)]
    user: String,
    /// Digest password
    #[arg(long)]
    password: String,
    /// Its domain; default: the access server's address
    #[arg(long)]
    domain: Option<String>,
    /// The access server
    #[arg(long, default_value = "udp:127.0.0.1:5070")]
    access: String,
    /// Where the access server listens for TLS, for when UDP is blocked; default: then there is no way in
    #[arg(long)]
    tls: Option<SocketAddr>,
    /// Authorities of its certificate (PEM); default: this machine's
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The STUN server; default: the access server
    #[arg(long)]
    stun: Option<SocketAddr>,
    /// The reflector
    #[arg(long)]
    reflector: Option<SocketAddr>,
    /// Its own address
    #[arg(long)]
    local: Option<SocketAddr>,
    /// How long it stays online, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Say something to a buddy once it is online: `NAME:WORDS`
    #[arg(long, value_name = "NAME:WORDS")]
    say: Vec<String>,
    /// Call this buddy once it is online; with --proxy, anybody the proxy knows
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// The SIP proxy that calls go by; without one buddies call one another directly
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// Never let others learn its address: everything goes through servers
    #[arg(long)]
    hidden: bool,
    /// The NAT it is behind, where that is known from before; default: it finds out before it logs in
    #[arg(long, value_parser = nat_types())]
    nat: Option<Class>,
    /// Don't keep its NAT's mapping towards the access server alive: to see what becomes of it
    #[arg(long)]
    no_keep_alive: bool,
}

/// The NAT types people speak of.
fn nat_types() -> impl TypedValueParser<Value = Class> {
    let words = PossibleValuesParser::new(Class::ALL.map(Class::word));
    words.try_map(|word| Class::named(&word).ok_or("no type of NAT"))
}

/// Runs it; 0: it was logged in.
pub fn peer(arguments: &Arguments, json: bool) -> u8 {
    let plan = match plan(arguments) {
        Ok(plan) => plan,
        Err(words) => {
            eprintln!("{words}");
            return exit::USAGE;
        }
    };
    match run_with(&plan, leave_at_a_signal, live(json, happened)) {
        Ok(report) => {
            match json {
                true => println!("{}", pretty_json(&report)),
                false => told(&report).iter().for_each(|line| println!("{}", harmless(line))),
            }
            if report.login_status == Some(200) { exit::OK } else { exit::UNAVAILABLE }
        }
        Err(error) => {
            eprintln!("{error}");
            exit::OS
        }
    }
}

/// Whoever stops it still gets the report, and its buddies hear that it leaves.
fn leave_at_a_signal(leave: Leave) {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
            let [Ok(mut terminate), Ok(mut interrupt)] = signals else { return };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            leave.now();
        });
    };
    if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(body) {
        tracing::warn!(%error, "signals end this peer without a farewell");
    }
}

fn plan(arguments: &Arguments) -> Result<PeerPlan, String> {
    let server: SipAddress = arguments.access.parse()?;
    if server.transport != proto::node::Transport::Udp {
        return Err(format!("peers log in over udp, not {}", server.transport));
    }
    let domain = arguments.domain.clone().unwrap_or_else(|| server.addr.ip().to_string());
    let call = arguments.call.as_ref().map(|name| named(name, &domain));
    let say = arguments.say.iter().map(|words| said(words, &domain)).collect::<Result<_, _>>()?;
    Ok(PeerPlan {
        user: arguments.user.clone(),
        domain: arguments.domain.clone(),
        password: arguments.password.clone(),
        server: server.addr,
        tls: arguments.tls,
        ca: arguments.ca.clone(),
        stun: arguments.stun,
        reflector: arguments.reflector,
        local: arguments.local,
        stay: Duration::from_secs(arguments.seconds),
        say,
        call,
        proxy: arguments.proxy,
        direct: !arguments.hidden,
        nat: arguments.nat.map(Class::verdict),
        keeps_alive: !arguments.no_keep_alive,
    })
}

fn said(words: &str, domain: &str) -> Result<(String, String), String> {
    let (name, text) =
        words.split_once(':').ok_or(format!("`{words}` names nobody; expected `NAME:WORDS`"))?;
    Ok((named(name, domain), text.to_owned()))
}

fn named(name: &str, domain: &str) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@{domain}") }
}

/// An event of a peer's, in words.
fn happened(event: &Event) -> Option<String> {
    let words = match event {
        Event::PeerLogin { status: 200, external: Some(external), behind, .. } => {
            format!("logged in: behind {behind}, seen at {external}")
        }
        Event::PeerLogin { status, .. } => format!("not logged in: {}", answer(*status)),
        Event::PeerBuddy { buddy, path: None, .. } => format!("{buddy} is offline"),
        Event::PeerBuddy { buddy, path: Some(path), at, why, .. } => {
            format!("{buddy} is online, {} ({why})", way(path, *at))
        }
        Event::PeerCall { with, path: Some(path), .. } => {
            format!("call with {with}: media goes {}", line(path))
        }
        Event::PeerCall { with, status: Some(status), .. } => {
            format!("call with {with}: {}", unanswered(*status))
        }
        Event::PeerCall { with, .. } => format!("call with {with}: ended"),
        _ => return None,
    };
    Some(words)
}

/// What a login was answered with.
fn answer(status: u16) -> String {
    match status {
        401 => "401; name or password is wrong".to_owned(),
        408 => "not answered; is the access server there (--access), and does UDP pass to it?".to_owned(),
        status => status.to_string(),
    }
}

/// Why there was no call.
fn unanswered(status: u16) -> String {
    match status {
        480 => "not answered (480: nobody takes it, or no direct path to it could be opened; with --proxy a relay stands ready)".to_owned(),
        status => format!("not answered ({status})"),
    }
}

/// A call in words, if there was one.
fn told_call(call: &CallReport) -> Option<String> {
    let status = call.phone.call_status?;
    if !call.phone.answered {
        return Some(format!("  call: {}", unanswered(status)));
    }
    let others: Vec<&str> = call.phone.heard.keys().map(String::as_str).collect();
    let with = if others.is_empty() { String::new() } else { format!(" with {}", others.join(" and ")) };
    let audio = if call.phone.audio_both_ways { "audio both ways" } else { "NO AUDIO both ways" };
    let moves = match (call.upgrades, call.falls) {
        (0, 0) => String::new(),
        (up, down) => format!(", {} from the relay to the direct path, {} back", times(up), times(down)),
    };
    let what = heard(call.phone.received, call.phone.lost, call.phone.largest_gap_ms);
    let goes = if call.phone.ended_by.is_some() { "went" } else { "goes" };
    Some(format!("  call{with}: {audio}, media {goes} {}{moves}; {what}", line(call.path)))
}

fn times(count: u32) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

/// A report in words.
fn told(report: &PeerReport) -> Vec<String> {
    let seen = report.external.map_or("nowhere".to_owned(), |at| at.to_string());
    let login = answer(report.login_status.unwrap_or(408));
    let mut lines = vec![report.name.clone(), format!("  behind: {}; seen at {seen}", report.nat)];
    lines.push(format!("  login: {login}"));
    for (name, buddy) in &report.buddies {
        let online = if buddy.online { "online" } else { "offline" };
        let path = if buddy.online {
            format!(", {} ({})", way(buddy.path, buddy.address), buddy.why)
        } else {
            String::new()
        };
        lines.push(format!("  {name}: {online}{path}"));
    }
    lines.extend(told_call(&report.call));
    lines.extend(report.messages.iter().map(|(from, text)| format!("  {from} says: {text}")));
    lines
}
