//! One message: a cookie, then a dictionary in either encoding, which says what is wanted.

use std::net::IpAddr;
use std::time::Duration;

use super::flags::Flags;
use super::value::{Dict, Value};
use super::{bencode, json};
use crate::insert::Digit;
use crate::play::Span;

/// Largest message that is read.
pub const LARGEST: usize = 64 * 1024;
/// Longest cookie.
pub(crate) const COOKIE: usize = 128;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `d…e`.
    Bencode,
    /// `{…}`.
    Json,
}

/// A message as it came: answers repeat the cookie and keep the encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    /// What tells one request from another, and a repetition from both.
    pub cookie: &'a [u8],
    /// How it is written.
    pub encoding: Encoding,
    /// What it says; `None`: it can't be read.
    pub body: Option<Value<'a>>,
}

impl<'a> Envelope<'a> {
    /// Parts a message; `None`: there is no cookie to answer to.
    pub fn read(bytes: &'a [u8]) -> Option<Envelope<'a>> {
        let space = bytes.iter().take(COOKIE + 1).position(|byte| *byte == b' ').filter(|at| *at > 0)?;
        let (cookie, body) = (&bytes[..space], bytes[space + 1..].trim_ascii_end());
        let (encoding, body) = match body.first() {
            _ if bytes.len() > LARGEST => (Encoding::Bencode, None),
            Some(b'{') => (Encoding::Json, json::read(body)),
            Some(b'd') => (Encoding::Bencode, bencode::read(body)),
            _ => return None,
        };
        Some(Envelope { cookie, encoding, body })
    }
}

/// An answer to a message, on the wire.
pub fn seal(cookie: &[u8], encoding: Encoding, answer: Dict<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    out.extend(cookie);
    out.push(b' ');
    match encoding {
        Encoding::Bencode => bencode::write(&Value::Dict(answer), &mut out),
        Encoding::Json => json::write(&Value::Dict(answer), &mut out),
    }
    out
}

/// The answer to a message that nobody has time for; `None`: it can't be answered.
pub fn refusal(bytes: &[u8], words: &str) -> Option<Vec<u8>> {
    let Envelope { cookie, encoding, .. } = Envelope::read(bytes)?;
    Some(seal(cookie, encoding, error(words)))
}

/// What an answer says when there is none.
pub(crate) fn error(words: &str) -> Dict<'static> {
    Dict::default().with("error-reason", Value::text(words)).with("result", Value::text("error"))
}

/// The call a message is about: which lane it belongs to. Quick: nothing else is looked at.
pub fn call_id(bytes: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::read(bytes)?;
    match envelope.body?.as_dict()?.value("call-id")? {
        Value::Text(id) => Some(id.to_vec()),
        _ => None,
    }
}

/// Which call, and whose part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The call.
    pub call: String,
    /// Who sent the message the command is about.
    pub from: Option<String>,
    /// Who received it.
    pub to: Option<String>,
    /// Which branch of a fork.
    pub branch: Option<String>,
    /// A label instead of a tag.
    pub label: Option<String>,
    /// The address a party's SDP names for its media, instead of a tag.
    pub address: Option<IpAddr>,
    /// Everybody in the call.
    pub all: bool,
}

/// An offer or an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Describe {
    /// Of which call.
    pub target: Target,
    /// The SDP as it came.
    pub sdp: Vec<u8>,
    /// What is to become of it.
    pub flags: Flags,
}

/// What may be switched off and on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Media from a party is dropped.
    Media,
    /// Its telephone-events are.
    Dtmf,
    /// Its media is sent on as silence.
    Silence,
    /// The call is recorded.
    Record,
    /// Its recording waits, and goes on in the same file when it is started again.
    Pause,
}

/// Where the sound to be played is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sound {
    /// In the message.
    Blob(Vec<u8>),
    /// In a file of this name.
    File(String),
}

/// Something to be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    /// To whom.
    pub target: Target,
    /// What.
    pub sound: Sound,
    /// How much of it.
    pub span: Span,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Are you there?
    Ping,
    /// The first half of an offer/answer exchange.
    Offer(Box<Describe>),
    /// The second.
    Answer(Box<Describe>),
    /// The call, or a branch of it, is over.
    Delete(Target, Option<Duration>, bool),
    /// How is it?
    Query(Target),
    /// Which calls are there?
    List(usize),
    /// How is everything?
    Statistics,
    /// Switch something on or off.
    Set(Target, Switch, bool),
    /// Say a digit in a party's place.
    PlayDtmf(Target, Digit),
    /// Play something to a party.
    PlayMedia(Box<Play>),
    /// Play it no more.
    StopMedia(Target),
}

/// Why a command can't be obeyed, in rtpengine's words where it has some.
pub type Wrong = &'static str;

impl Command {
    /// Of a message.
    pub fn read(dict: &Dict<'_>) -> Result<Command, Wrong> {
        let name = dict.text("command").ok_or("Dictionary contains no key \"command\"")?;
        let name = name.to_ascii_lowercase().replace(['-', '_'], " ");
        let switch = |switch, on| Ok(Command::Set(target(dict)?, switch, on));
        match name.as_str() {
            "ping" => Ok(Command::Ping),
            "offer" => Ok(Command::Offer(Box::new(describe(dict)?))),
            "answer" => Ok(Command::Answer(Box::new(describe(dict)?))),
            "delete" => Ok(Command::Delete(target(dict)?, delay(dict), Flags::read(dict).fatal)),
            "query" => Ok(Command::Query(target(dict)?)),
            "list" => Ok(Command::List(limit(dict))),
            "statistics" => Ok(Command::Statistics),
            "block media" => switch(Switch::Media, false),
            "unblock media" => switch(Switch::Media, true),
            "block dtmf" => switch(Switch::Dtmf, false),
            "unblock dtmf" => switch(Switch::Dtmf, true),
            "silence media" => switch(Switch::Silence, false),
            "unsilence media" => switch(Switch::Silence, true),
            "start recording" => switch(Switch::Record, true),
            "stop recording" => switch(Switch::Record, false),
            "play dtmf" => Ok(Command::PlayDtmf(target(dict)?, digit(dict)?)),
            "play media" => Ok(Command::PlayMedia(Box::new(play(dict)?))),
            "stop media" => Ok(Command::StopMedia(target(dict)?)),
            "pause recording" => switch(Switch::Pause, true),
            other => Err(not_built(other).unwrap_or("Unrecognized command")),
        }
    }
}

fn describe(dict: &Dict<'_>) -> Result<Describe, Wrong> {
    let sdp = match dict.value("sdp") {
        Some(Value::Text(sdp)) => sdp.to_vec(),
        _ => return Err("No SDP body in message"),
    };
    let target = target(dict)?;
    if target.from.is_none() {
        return Err("No from-tag in message");
    }
    Ok(Describe { target, sdp, flags: Flags::read(dict) })
}

fn target(dict: &Dict<'_>) -> Result<Target, Wrong> {
    let text = |key: &str| dict.text(key).map(str::to_owned).filter(|text| !text.is_empty());
    Ok(Target {
        call: text("call-id").ok_or("No call-id in message")?,
        from: text("from-tag"),
        to: text("to-tag"),
        branch: text("via-branch"),
        label: text("label").or_else(|| text("from-label")),
        address: text("address")
            .map(|address| address.parse())
            .transpose()
            .map_err(|_| "Failed to parse network address")?,
        all: dict.text("all").is_some()
            || dict.value("flags").is_some_and(|flags| flags.words().contains(&"all")),
    })
}

/// Times and volume are put into rtpengine's limits.
fn digit(dict: &Dict<'_>) -> Result<Digit, Wrong> {
    let code = dict.value("code").or(dict.value("digit")).ok_or("No valid 'code' specified")?;
    let letter = |text: &str| "0123456789*#ABCD".find(&text.to_ascii_uppercase());
    let code = match (code.as_int(), code.as_text()) {
        (Some(code @ 0..=15), _) => code as u8,
        (Some(_), _) => return Err("Out of range 'code' specified"),
        (None, Some(text)) if text.chars().count() == 1 => {
            letter(text).ok_or("Invalid 'code' character")? as u8
        }
        _ => return Err("Given 'code' is not a single digit"),
    };
    let number = |key: &str, usual: i64| dict.value(key).and_then(Value::as_int).unwrap_or(usual);
    let time = |key, usual| Duration::from_millis(number(key, usual).clamp(100, 5000) as u64);
    let volume = number("volume", 8).unsigned_abs().min(63) as u8;
    Ok(Digit { code, duration: time("duration", 250), pause: time("pause", 100), volume })
}

/// `repeat-duration` alone repeats until it is over; with `repeat-times`, whichever comes first ends it.
fn play(dict: &Dict<'_>) -> Result<Play, Wrong> {
    let sound = match (dict.text("file"), dict.value("blob")) {
        (Some(file), _) => Sound::File(file.to_owned()),
        (None, Some(Value::Text(blob))) => Sound::Blob(blob.to_vec()),
        _ if dict.value("db-id").is_some() => {
            return Err("This relay does not support \"db-id\": use \"file\" or \"blob\"");
        }
        _ => return Err("No media file specified"),
    };
    let number = |key: &str| dict.value(key).and_then(Value::as_int).and_then(|n| u64::try_from(n).ok());
    let time = number("repeat-duration").filter(|time| *time > 0).map(Duration::from_millis);
    let times = number("repeat-times").map(|times| times.max(1));
    let times = times.or(if time.is_none() { Some(1) } else { None });
    let span = Span { start: number("start-pos").unwrap_or(0), times, time };
    Ok(Play { target: target(dict)?, sound, span })
}

fn delay(dict: &Dict<'_>) -> Option<Duration> {
    let seconds = dict.value("delete-delay")?.as_int()?;
    u64::try_from(seconds).ok().map(|seconds| Duration::from_secs(seconds.min(3600)))
}

fn limit(dict: &Dict<'_>) -> usize {
    let limit = dict.value("limit").and_then(Value::as_int).and_then(|limit| usize::try_from(limit).ok());
    limit.filter(|limit| *limit > 0).unwrap_or(32).min(10_000)
}

/// What is said to those commands of rtpengine that make a third party's copy of media.
fn not_built(name: &str) -> Option<Wrong> {
    Some(match name {
        "start forwarding" => "This relay does not support \"start forwarding\": use \"start recording\"",
        "stop forwarding" => "This relay does not support \"stop forwarding\": use \"stop recording\"",
        "publish" => "This relay does not support \"publish\": a call has two parties",
        "subscribe request" => "This relay does not support \"subscribe request\": a call has two parties",
        "subscribe answer" => "This relay does not support \"subscribe answer\": a call has two parties",
        "unsubscribe" => "This relay does not support \"unsubscribe\": a call has two parties",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(bytes: &[u8]) -> Result<Command, Wrong> {
        let envelope = Envelope::read(bytes).unwrap();
        Command::read(envelope.body.unwrap().as_dict().unwrap())
    }

    #[test]
    fn either_encoding_may_stand_behind_the_cookie() {
        assert_eq!(command(b"1_2 d7:command4:pinge"), Ok(Command::Ping));
        assert_eq!(command(b"x {\"command\":\"ping\"}\n"), Ok(Command::Ping));
        assert_eq!(Envelope::read(b"d7:command4:pinge"), None);
        assert_eq!(Envelope::read(b"x y"), None);
        assert_eq!(Envelope::read(b"x {").map(|envelope| envelope.body), Some(None));
    }

    #[test]
    fn refusals_are_in_rtpengines_words() {
        let table: [(&[u8], &str); 3] = [
            (b"c d7:command3:fooe", "Unrecognized command"),
            (b"c d7:command5:offere", "No SDP body in message"),
            (b"c d7:command5:querye", "No call-id in message"),
        ];
        for (bytes, words) in table {
            assert_eq!(command(bytes), Err(words));
        }
    }

    #[test]
    fn a_command_that_is_not_to_be_had_is_named_in_its_refusal() {
        let names = [
            "start forwarding",
            "stop forwarding",
            "publish",
            "subscribe request",
            "subscribe answer",
            "unsubscribe",
        ];
        for name in names {
            let words = command(format!("c d7:command{}:{name}e", name.len()).as_bytes()).unwrap_err();
            assert!(words.contains(&format!("\"{name}\"")), "{name}: {words}");
        }
    }

    #[test]
    fn a_digit_is_read_as_a_number_or_a_character_within_rtpengines_limits() {
        let read = |keys: &str| {
            command(format!("c {{\"command\":\"play DTMF\",\"call-id\":\"c\",{keys}}}").as_bytes())
        };
        let digit = |keys: &str| match read(keys) {
            Ok(Command::PlayDtmf(_, digit)) => digit,
            other => panic!("{keys}: {other:?}"),
        };
        let usual = digit("\"code\":5");
        assert_eq!(
            (usual.code, usual.duration.as_millis(), usual.pause.as_millis(), usual.volume),
            (5, 250, 100, 8)
        );
        for (written, code) in [("\"7\"", 7), ("\"*\"", 10), ("\"#\"", 11), ("\"d\"", 15), ("12", 12)] {
            assert_eq!(digit(&format!("\"digit\":{written}")).code, code, "{written}");
        }
        let extreme = digit("\"code\":\"1\",\"duration\":9,\"pause\":99999,\"volume\":-70");
        assert_eq!(
            (extreme.duration.as_millis(), extreme.pause.as_millis(), extreme.volume),
            (100, 5000, 63)
        );
        for (keys, words) in [
            ("\"x\":1", "No valid 'code' specified"),
            ("\"code\":16", "Out of range 'code' specified"),
            ("\"code\":\"*#\"", "Given 'code' is not a single digit"),
            ("\"code\":\"x\"", "Invalid 'code' character"),
        ] {
            assert_eq!(read(keys), Err(words));
        }
    }

    #[test]
    fn what_is_to_be_played_ends_after_a_number_or_a_time() {
        let read = |keys: &str| {
            command(format!("c {{\"command\":\"play media\",\"call-id\":\"c\",{keys}}}").as_bytes())
        };
        let span = |keys: &str| match read(&format!("\"file\":\"a.wav\"{keys}")) {
            Ok(Command::PlayMedia(play)) if play.sound == Sound::File("a.wav".into()) => {
                (play.span.start, play.span.times, play.span.time.map(|time| time.as_millis()))
            }
            other => panic!("{keys}: {other:?}"),
        };
        assert_eq!(span(""), (0, Some(1), None));
        assert_eq!(span(",\"repeat-times\":3,\"start-pos\":\"160\""), (160, Some(3), None));
        assert_eq!(span(",\"repeat-duration\":500"), (0, None, Some(500)));
        assert_eq!(span(",\"repeat-duration\":500,\"repeat-times\":2"), (0, Some(2), Some(500)));
        assert_eq!(span(",\"repeat-times\":-1,\"repeat-duration\":0,\"start-pos\":\"\""), (0, Some(1), None));
        assert_eq!(read("\"x\":1"), Err("No media file specified"));
        assert!(read("\"db-id\":1").unwrap_err().contains("\"blob\""));
    }

    #[test]
    fn a_message_is_found_to_its_call() {
        assert_eq!(call_id(b"c d7:call-id3:a@b7:command5:querye").as_deref(), Some(&b"a@b"[..]));
        assert_eq!(call_id(b"c d7:command4:pinge"), None);
    }

    #[test]
    fn switches_and_delays_are_read() {
        let media = command(b"c d7:call-id1:a7:command11:block media8:from-tag1:fe").unwrap();
        assert!(matches!(media, Command::Set(Target { .. }, Switch::Media, false)));
        let delete = command(b"c d7:call-id1:a7:command6:delete12:delete-delayi5ee").unwrap();
        assert!(matches!(delete, Command::Delete(_, Some(delay), false) if delay.as_secs() == 5));
    }
}
