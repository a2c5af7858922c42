//! The control socket: `postern status` and the like ask a running process here. One JSON object a line each way; a long
//! answer is several, `more` in each but the last. Only the user who runs the process may connect (mode 0600).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::config::schema::File;
use crate::explain;
use crate::history::CallRecord;
use crate::lanes::seat::CaptureOrder;
use crate::registrations;
use crate::server::{Handle, Recordings};
use crate::shield::{self, Order};
use crate::succession;
use crate::trunks;
use crate::workshop;

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the process waits at its end for answers that are under way.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long `upgrade` may take.
const PATIENCE_OF_AN_UPGRADE: Duration = Duration::from_secs(100);

/// The longest question, in bytes.
const LONGEST: u64 = 4096;
/// Questions at once; who comes while so many are being asked is turned away.
const MOST: usize = 16;

/// What may be asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// How everything stands.
    Status,
    /// Who is registered. The one question whose answer is as long as that.
    Registrations {
        /// An address of record, or its user part; none: all.
        address: Option<String>,
    },
    /// The newest calls.
    Calls {
        /// How many at most.
        most: usize,
    },
    /// One call in plain words.
    Explain {
        /// Its Call-ID, the beginning of it, or `last`.
        call: String,
    },
    /// How the trunks stand.
    Trunks,
    /// What would become of a call.
    Route {
        /// For whom: a URI, a number, a user.
        uri: String,
        /// From whom: `user`, a trunk, an address, a listener.
        from: String,
    },
    /// Read the configuration again.
    Reload,
    /// No new calls.
    Drain,
    /// Give everything to the process that asks: what follows on this connection is no [`Answer`].
    HandOver {
        /// Of the protocol.
        version: u32,
    },
    /// Start a process that takes over.
    Upgrade,
    /// Record a call, or the next ones.
    Capture {
        /// Its Call-ID, the beginning of it, `last`, or the name of a relay session.
        call: Option<String>,
        /// How many calls yet to begin.
        next: usize,
        /// Stop instead.
        stop: bool,
    },
    /// Who is banned, and who is not to be.
    Shield {
        /// What is wanted.
        order: Order,
    },
}

/// What is answered: lines for people, a value for programs.
#[derive(Debug, Deserialize, Serialize)]
pub struct Answer {
    /// Whether it could be done.
    pub ok: bool,
    /// For people.
    pub lines: Vec<String>,
    /// For programs.
    pub value: Value,
}

/// A line of an answer.
#[derive(Deserialize, Serialize)]
struct Line {
    #[serde(flatten)]
    answer: Answer,
    /// Another line follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

/// Where the socket of a process with this configuration is.
pub fn path(settings: &Settings) -> PathBuf {
    path_by(&settings.path, &settings.file)
}

/// The same by what was read from `path`, checked or not: whoever asks need not be able to run it.
pub fn path_by(path: &Path, file: &File) -> PathBuf {
    let beside = file.store.as_ref().map(|store| store.with_extension("sock"));
    file.control.clone().or(beside).unwrap_or_else(|| default_path(path))
}

/// In the run-time folder, named after the configuration.
fn default_path(config: &Path) -> PathBuf {
    let stem = config.file_stem().map_or("postern".into(), |stem| stem.to_string_lossy().into_owned());
    runtime_folder().join(format!("postern-{stem}.sock"))
}

/// Where processes that were started without `control` or `store` have their sockets.
pub fn runtime_folder() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let run = || nix::unistd::geteuid().is_root().then(|| PathBuf::from("/run"));
    own.filter(|folder| folder.is_dir()).or_else(run).unwrap_or_else(std::env::temp_dir)
}

/// A control socket; it goes when this does.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    handle: Arc<Handle>,
    /// Who is being answered.
    places: Arc<()>,
}

impl Admin {
    /// Listens. A socket that a dead process left behind is replaced; that of a living one only by who takes over from it.
    pub fn start(path: PathBuf, handle: Arc<Handle>, replaces: bool) -> io::Result<Admin> {
        if !replaces && UnixStream::connect(&path).is_ok() {
            let words = format!("{} belongs to a running postern", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, words));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let places = Arc::new(());
        let (asked, taken) = (Arc::clone(&handle), Arc::clone(&places));
        let serve = move || serve(&listener, &asked, &taken);
        std::thread::Builder::new().name("admin".into()).spawn(serve)?;
        Ok(Admin { path, handle, places })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Admin {
    /// Whoever is being answered hears the end of it; what a successor listens on stays.
    fn drop(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        while Arc::strong_count(&self.places) > 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !self.handle.ending().has_succeeded() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Everybody is answered on a thread of their own: who asks slowly keeps nobody waiting.
fn serve(listener: &UnixListener, handle: &Arc<Handle>, places: &Arc<()>) {
    for stream in listener.incoming().flatten() {
        if Arc::strong_count(places) > MOST {
            continue;
        }
        let (handle, place) = (Arc::clone(handle), Arc::clone(places));
        let talk = move || {
            let _ = answer(&stream, &handle);
            drop(place);
        };
        // Without a thread the connection closes, and whoever asked hears that.
        let _ = std::thread::Builder::new().name("admin".into()).spawn(talk);
    }
}

fn answer(stream: &UnixStream, handle: &Handle) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(Ask::HandOver { version }) => return succession::give(stream, handle, version),
        Ok(Ask::Registrations { address }) => list_registrations(stream, address.as_deref(), handle)?,
        Ok(ask) => perform(ask, handle),
        Err(error) => {
            Answer { ok: false, lines: vec![format!("not understood: {error}")], value: Value::Null }
        }
    };
    say(stream, Line { answer, more: false })
}

fn say(mut stream: &UnixStream, line: Line) -> io::Result<()> {
    let mut words = serde_json::to_vec(&line)?;
    words.push(b'\n');
    stream.write_all(&words)
}

/// Says who is registered, and gives the last words. Who does not read on hears the end of it: half an answer says so itself.
fn list_registrations(stream: &UnixStream, address: Option<&str>, handle: &Handle) -> io::Result<Answer> {
    // Many phones are much to write, and lanes go first.
    workshop::stand_back();
    let until = Instant::now() + registrations::PATIENCE;
    registrations::list(address, handle, &mut |answer| match Instant::now() < until {
        true => say(stream, Line { answer, more: true }),
        false => Err(io::ErrorKind::TimedOut.into()),
    })
}

fn perform(ask: Ask, handle: &Handle) -> Answer {
    match ask {
        Ask::Status => status(handle),
        Ask::Calls { most } => {
            let mut calls = handle.history().newest(most);
            listen_in(&mut calls, handle);
            let value = calls.iter().map(explain::value).collect();
            Answer { ok: true, lines: calls.iter().map(explain::line).collect(), value }
        }
        Ask::Explain { call } => match call.parse() {
            Ok(source) => shield::story(source, handle),
            Err(_) => explain_call(&call, handle),
        },
        Ask::Capture { call, next, stop } => capture(call.as_deref(), next, stop, handle),
        Ask::Shield { order } => shield::perform(&order, handle),
        Ask::Trunks => trunks::answer(&handle.status().trunks),
        Ask::Route { uri, from } => trunks::plan(handle.plan(&uri, &from)),
        Ask::Reload => match handle.reload() {
            Ok(left) => Answer { ok: true, value: json!({ "left": left }), lines: reloaded(left) },
            Err(error) => {
                Answer { ok: false, lines: vec![error.to_string()], value: json!({ "what": error.what }) }
            }
        },
        Ask::HandOver { .. } | Ask::Registrations { .. } => {
            Answer { ok: false, lines: vec!["ask this on a connection".to_owned()], value: Value::Null }
        }
        Ask::Upgrade => match succession::upgrade(handle) {
            Ok(pid) => Answer {
                ok: true,
                lines: vec![format!("process {pid} goes on")],
                value: json!({ "pid": pid }),
            },
            Err(words) => Answer { ok: false, value: json!({ "what": words }), lines: vec![words] },
        },
        Ask::Drain => {
            handle.drain();
            Answer { ok: true, lines: vec!["no new calls are taken".into()], value: Value::Null }
        }
    }
}

fn explain_call(call: &str, handle: &Handle) -> Answer {
    match handle.history().find(call) {
        Some(mut found) => {
            listen_in(std::slice::from_mut(&mut found), handle);
            Answer { ok: true, lines: explain::story(&found), value: explain::value(&found) }
        }
        None => {
            Answer { ok: false, lines: vec![format!("no call `{call}` is remembered")], value: Value::Null }
        }
    }
}

/// Adds to calls that are still going on how their media is at this moment.
fn listen_in(calls: &mut [CallRecord], handle: &Handle) {
    let going_on = calls.iter().filter(|call| call.ended.is_none());
    let live = handle.live(going_on.flat_map(CallRecord::sessions).map(|name| name.to_string()).collect());
    for call in calls {
        let names: Vec<_> = call.sessions().cloned().collect();
        call.now = live.iter().filter(|live| names.contains(&live.session)).cloned().collect();
    }
}

fn capture(call: Option<&str>, next: usize, stop: bool, handle: &Handle) -> Answer {
    let fail = |words: String| Answer { ok: false, lines: vec![words], value: Value::Null };
    let Some(recordings) = handle.recordings() else {
        return fail("no relay runs in this process: ask the one that carries the media".into());
    };
    let order = match call {
        Some(call) => CaptureOrder::Sessions(sessions(call, handle), !stop),
        None => CaptureOrder::Next(if stop { 0 } else { next }),
    };
    let (folder, about) = (recordings.folder().display().to_string(), handle.capture(&order));
    let words = match (call, about) {
        (Some(call), 0) => return fail(format!("no session of `{call}` is here now")),
        (Some(_), sessions) if stop => format!("{sessions} session(s) are recorded no more"),
        (Some(_), sessions) => format!("{sessions} session(s) are being recorded to {folder}"),
        (None, _) if stop => "no further calls will be recorded".into(),
        (None, _) => format!("the next {next} session(s) will be recorded to {folder}"),
    };
    Answer { ok: true, lines: vec![words], value: json!({ "sessions": about, "folder": folder }) }
}

/// The relay sessions of a call, or one named as such.
fn sessions(call: &str, handle: &Handle) -> Vec<String> {
    let Some(found) = handle.history().find(call) else { return vec![call.to_owned()] };
    found.sessions().map(|name| name.to_string()).collect()
}

fn reloaded(left: Vec<String>) -> Vec<String> {
    std::iter::once("reloaded".to_owned()).chain(left).collect()
}

fn status(handle: &Handle) -> Answer {
    let status = handle.status();
    let totals = &status.totals;
    let mut lines = vec![format!("postern {}, up {} s", status.version, status.uptime)];
    lines.push(format!("listening  {}", status.listening.join("  ")));
    for (service, count) in status.registered.iter().filter(|(_, count)| **count > 0) {
        lines.push(format!("registered {count} at the {service}"));
    }
    for lane in &status.lanes {
        lines.push(format!(
            "{:<10} {} calls, {} sessions, {} ports, {} transactions; {} in, {} out, {} dropped, {} refused, {} panics ({})",
            lane.lane, lane.calls, lane.sessions, lane.ports, lane.transactions, lane.received, lane.sent, lane.dropped,
            lane.refused, lane.panics, lane.path
        ));
        if lane.online > 0 {
            lines.push(format!("           {} peers online", lane.online));
        }
        let reflected: Vec<String> = lane
            .reflected
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        if !reflected.is_empty() {
            lines.push(format!("           reflector: {}", reflected.join(", ")));
        }
        if !lane.media_dropped.is_empty() {
            let dropped: Vec<String> =
                lane.media_dropped.iter().map(|(why, count)| format!("{why} {count}")).collect();
            let flooded = match lane.flooded {
                0 => String::new(),
                ports => format!("; ports flooded now: {ports}"),
            };
            lines.push(format!("           media dropped: {}{flooded}", dropped.join(", ")));
        }
        if lane.overloaded || lane.turned_away > 0 {
            let state = if lane.overloaded { "overloaded" } else { "was overloaded" };
            lines.push(format!(
                "           {state}: {} requests wait, {} were told to come back later",
                lane.waiting, lane.turned_away
            ));
        }
    }
    lines.extend(status.trunks.iter().flat_map(trunks::lines));
    lines.push(format!(
        "calls      {} begun, {} answered, {} ended ({} failed, {} through a relay); {} requests refused",
        totals.begun, totals.answered, totals.ended, totals.failed, totals.anchored, totals.refused
    ));
    lines.push(status.shield.line());
    if let Some(kernel) = &status.kernel_path {
        lines.push(format!("kernel     {kernel}"));
    }
    if let Some(icmp) = &status.icmp {
        lines.push(format!("icmp       {icmp}"));
    }
    if let Some(recorded) = &status.recordings {
        let Recordings { folder, written, lost } = recorded;
        lines.push(format!("recorded   {written} packets, {lost} lost, in {folder}"));
    }
    lines.extend(status.warnings.iter().map(|words| format!("warning    {words}")));
    Answer { ok: true, lines, value: serde_json::to_value(&status).unwrap_or_default() }
}

/// Asks a running process what it answers in one line.
pub fn ask(path: &Path, ask: &Ask) -> io::Result<Answer> {
    answers(path, ask)?.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
}

/// Asks a running process; each line of the answer, or why there are no more.
pub fn answers(path: &Path, ask: &Ask) -> io::Result<impl Iterator<Item = io::Result<Answer>> + use<>> {
    let mut stream = UnixStream::connect(path)?;
    let patience = if matches!(ask, Ask::Upgrade) { PATIENCE_OF_AN_UPGRADE } else { PATIENCE };
    stream.set_read_timeout(Some(patience))?;
    let mut words = serde_json::to_vec(ask)?;
    words.push(b'\n');
    stream.write_all(&words)?;
    let mut reader = Some(BufReader::new(stream));
    Ok(std::iter::from_fn(move || {
        let line = read_line(reader.as_mut()?);
        if !line.as_ref().is_ok_and(|line| line.more) {
            reader = None;
        }
        Some(line.map(|line| line.answer))
    }))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Line> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(serde_json::from_str(&line)?),
    }
}
