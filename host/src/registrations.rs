//! Who is registered, for the operator: what `postern registrations` asks for, in parts however many there are.

use std::io;
use std::time::{Duration, SystemTime};

use proto::node::Flow;
use proto::tables::Binding;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::Answer;
use crate::bindings::Bindings;
use crate::config::values::SipAddress;
use crate::server::Handle;

/// Addresses of record in one part of the answer: some hundred kilobytes at most.
const PART: usize = 256;
/// Names that are like the one that was asked for.
const LIKE_IT: usize = 3;

/// One binding, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Registration {
    /// The address of record, `user@domain`.
    pub aor: String,
    /// The Contact URI.
    pub contact: String,
    /// What its keep-alives say.
    pub state: State,
    /// Keep-alives in a row that were not answered.
    pub unanswered: u8,
    /// Seconds until it expires.
    pub left_s: u64,
    /// Where its REGISTER came from: the other end of the path to it.
    pub remote: String,
    /// Our end, by which it came in.
    pub listener: String,
    /// Whether addresses are rewritten on the way.
    pub behind_nat: bool,
    /// The Path it came through (RFC 3327), topmost first.
    pub path: Vec<String>,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626).
    pub reg_id: Option<u32>,
    /// Its User-Agent.
    pub agent: Option<String>,
}

/// Whether a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It answers keep-alives, or its connection stands.
    Reachable,
    /// It has not answered the newest one or two.
    Silent,
    /// It answers no more, or its connection was an earlier process's: calls go there only if nothing else is left.
    Unreachable,
    /// Nobody asks it: it is behind no NAT, another proxy (Path) looks after it, or there are no keep-alives.
    NotAsked,
    /// Its time is up; it is forgotten at the next look.
    Over,
}

impl Registration {
    /// A binding at `wall`; whether keep-alives are sent at all.
    pub fn of(aor: &str, binding: &Binding, wall: SystemTime, keep_alives: bool) -> Registration {
        let Flow { transport, local, remote, .. } = binding.flow;
        let left = binding.expires.duration_since(wall).unwrap_or_default();
        Registration {
            aor: aor.to_owned(),
            contact: binding.contact.clone(),
            state: State::of(binding, wall, keep_alives),
            unanswered: binding.unanswered,
            left_s: left.as_secs(),
            remote: remote.to_string(),
            listener: SipAddress { transport, addr: local }.to_string(),
            behind_nat: binding.behind_nat,
            path: binding.path.clone(),
            instance: binding.instance.clone(),
            reg_id: binding.reg_id,
            agent: binding.agent.clone(),
        }
    }
}

impl State {
    fn of(binding: &Binding, wall: SystemTime, keep_alives: bool) -> State {
        let by_connection = binding.flow.transport.is_reliable();
        let is_known = binding.path.is_empty() && (by_connection || keep_alives && binding.behind_nat);
        match binding.unanswered {
            _ if !binding.is_live(wall) => State::Over,
            _ if binding.is_unreachable() => State::Unreachable,
            1.. => State::Silent,
            0 if is_known => State::Reachable,
            0 => State::NotAsked,
        }
    }
}

/// Says who is registered, part by part, each sorted and after the one before; the last words are what comes back.
///
/// Nothing is held meanwhile but the names: bindings are copied as their part is said, so who reads slowly finds them as they
/// are by then. No part of the tables is locked for longer than it takes to copy its names, or one address of record.
pub fn list(
    address: Option<&str>,
    handle: &Handle,
    say: &mut dyn FnMut(Answer) -> io::Result<()>,
) -> io::Result<Answer> {
    let Some(serving) = handle.serving() else { return Ok(no_proxy(handle)) };
    let bindings = handle.tables().bindings();
    let wanted = match address.map(|address| Wanted::read(address, handle)) {
        Some(None) => return Ok(no_address(address.unwrap_or_default())),
        Some(Some(wanted)) => Some(wanted),
        None => None,
    };
    let names = wanted.as_ref().map_or_else(|| bindings.aors(), |wanted| wanted.names(bindings));
    let said = say_all(names, bindings, &|| handle.wall(), serving.keep_alives, say)?;
    Ok(match (&wanted, said) {
        (_, 1..) => Answer { ok: true, lines: Vec::new(), value: Value::Null },
        (Some(wanted), 0) => nobody_there(wanted, bindings, handle.has_account(&wanted.0)),
        (None, 0) => nobody(&serving.listeners),
    })
}

/// How many bindings were said.
fn say_all(
    mut names: Vec<String>,
    bindings: &Bindings,
    wall: &dyn Fn() -> SystemTime,
    keep_alives: bool,
    say: &mut dyn FnMut(Answer) -> io::Result<()>,
) -> io::Result<usize> {
    names.sort_unstable();
    let mut said = 0;
    for names in names.chunks(PART) {
        let wall = wall();
        let of = |aor: &String| {
            let mut own = bindings.of(aor);
            own.sort_by(|a, b| (&a.contact, a.reg_id).cmp(&(&b.contact, b.reg_id)));
            own.iter().map(|one| Registration::of(aor, one, wall, keep_alives)).collect::<Vec<_>>()
        };
        let part: Vec<Registration> = names.iter().flat_map(of).collect();
        if !part.is_empty() {
            said += part.len();
            say(Answer { ok: true, lines: Vec::new(), value: serde_json::to_value(part)? })?;
        }
    }
    Ok(said)
}

/// An address of record as phones register it, or `user@`: at any domain.
struct Wanted(String);

impl Wanted {
    fn read(address: &str, handle: &Handle) -> Option<Wanted> {
        let bare =
            ["sips:", "sip:"].iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or(address);
        if bare.contains('@') {
            return handle.address_of_record(&format!("sip:{bare}")).map(Wanted);
        }
        let uri = format!("sip:{bare}@any");
        let anywhere = proto::sip::Uri::parse(&uri).ok()?.aor()?;
        anywhere.strip_suffix("any").map(|user| Wanted(user.to_owned()))
    }

    fn names(&self, bindings: &Bindings) -> Vec<String> {
        match self.0.ends_with('@') {
            true => bindings
                .aors_like(|aor| aor.starts_with(self.0.as_bytes()) && !aor[self.0.len()..].contains(&b'@')),
            false => vec![self.0.clone()],
        }
    }

    fn user(&self) -> &str {
        self.0.rsplit_once('@').map_or(&*self.0, |(user, _)| user)
    }

    /// Names that whoever asked may have meant: at another domain, or written otherwise.
    fn like_it(&self, bindings: &Bindings) -> Vec<String> {
        let user = self.user().as_bytes();
        let is_like = |aor: &[u8]| {
            let at = aor.iter().rposition(|byte| *byte == b'@').unwrap_or(aor.len());
            aor[..at].eq_ignore_ascii_case(user)
        };
        let mut names = bindings.aors_like(is_like);
        names.sort_unstable();
        names.truncate(LIKE_IT);
        names
    }

    /// As it was meant.
    fn shown(&self) -> &str {
        self.0.strip_suffix('@').unwrap_or(&self.0)
    }
}

fn nobody_there(wanted: &Wanted, bindings: &Bindings, has_account: bool) -> Answer {
    let like = wanted.like_it(bindings);
    let mut lines = vec![format!("nobody is registered as `{}`", wanted.shown())];
    lines.push(match (like.is_empty(), has_account) {
        (false, _) => format!("  registered: {}", like.join(", ")),
        (true, true) => {
            "  the account is there: see whether its phone sends REGISTER here, and `postern explain IP` for what became of it"
                .to_owned()
        }
        (true, false) => {
            "  nor is there an account of that name: see `users`, or `postern registrations` for all that are registered".to_owned()
        }
    });
    Answer {
        ok: false,
        value: json!({ "what": lines[0], "registered": like, "account": has_account }),
        lines,
    }
}

fn nobody(listeners: &[SipAddress]) -> Answer {
    let at: Vec<String> = listeners.iter().map(ToString::to_string).collect();
    let lines = vec!["nobody is registered".to_owned(), format!("  phones register at {}", at.join(", "))];
    Answer { ok: true, lines, value: Value::Null }
}

fn no_address(address: &str) -> Answer {
    let what =
        format!("`{address}` is no address of record; expected alice@example.com, or alice for any domain");
    Answer { ok: false, value: json!({ "what": what }), lines: vec![what] }
}

fn no_proxy(handle: &Handle) -> Answer {
    let what = format!("no proxy runs in this process, only: {}", handle.services().join(", "));
    let remedy = "  ask the one that the phones register at: -c FILE, or --control PATH".to_owned();
    Answer { ok: false, value: json!({ "what": what }), lines: vec![what, remedy] }
}

/// How long a whole list may take to be read.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "registrations_tests.rs"]
mod tests;
