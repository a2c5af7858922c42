//! The record as a ladder a SIP engineer can read: time on the left, a lifeline for each node, an arrow for each
//! message with its first line and the media address of its SDP. A run of RTP is one arrow, where it begins.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use proto::peer::channel;
use proto::peer::ticket::{MAGIC, TOKEN, read_reflected};
use proto::rtp::{Packet, classify};
use proto::sdp::Sdp;
use proto::sip::Message;
use proto::stun;

use super::NodeId;
use super::record::{Entry, Fate};

/// Distance between lifelines.
const WIDTH: usize = 28;
/// Room for the time.
const MARGIN: usize = 12;

/// Draws the whole record. `names` are the nodes' in order.
pub(super) fn draw(names: &[String], entries: &[Entry]) -> String {
    let mut page = Page { names: names.to_vec(), text: String::new() };
    let runs = runs(entries);
    page.header();
    for (n, entry) in entries.iter().enumerate() {
        match runs.get(&n) {
            Some(run) => page.arrow(entry, '=', &run.label(entry)),
            None if entry.transport.is_some() => page.arrow(entry, '-', &label(entry)),
            None => {}
        }
    }
    page.text
}

/// First line, media address, and what happened on the way.
fn label(entry: &Entry) -> String {
    let mut label = match entry.sip() {
        Some(message) => sip_label(&message),
        None if entry.bytes.iter().all(|b| b"\r\n\0".contains(b)) => "keep-alive".to_owned(),
        None => packet_label(&entry.bytes),
    };
    if let Some(transport) = entry.transport.filter(|t| t.is_reliable()) {
        write!(label, " {transport}").ok();
    }
    match &entry.fate {
        Fate::Arrived { seen, .. } if seen.0 != entry.sent.0 => {
            write!(label, " (from {})", seen.0).ok();
        }
        Fate::Dropped(why) => {
            write!(label, " ({why})").ok();
        }
        _ => {}
    }
    label
}

/// What is neither SIP nor media: a check of a pair, or STUN; something for a reflector, or from one; said by a channel.
fn packet_label(bytes: &[u8]) -> String {
    if let Some(message) = stun::Message::parse(bytes) {
        let what = if is_sealed(bytes) { "check" } else { "STUN" };
        return match message.class() {
            stun::Class::Request => what.to_owned(),
            class => format!("{what} {}", format!("{class:?}").to_lowercase()),
        };
    }
    let inside = |bytes: &[u8]| match Message::parse(Bytes::copy_from_slice(bytes)) {
        Ok(message) => sip_label(&message),
        Err(_) => packet_label(bytes),
    };
    if let Some((_, said)) = channel::unwrap(bytes) {
        return format!("channel: {}", inside(said));
    }
    match (bytes.starts_with(&MAGIC), bytes.get(TOKEN..), read_reflected(bytes)) {
        (true, Some(said), _) if Message::parse(Bytes::copy_from_slice(said)).is_ok() => {
            format!("reflect: {}", inside(said))
        }
        (true, _, Some((_, said))) => format!("reflected: {}", inside(said)),
        _ => format!("{} bytes", bytes.len()),
    }
}

/// Checks of pairs and keep-alives of sessions are sealed, requests and answers alike.
fn is_sealed(bytes: &[u8]) -> bool {
    let message = stun::Message::parse(bytes);
    message.is_some_and(|message| message.attribute(stun::attribute::MESSAGE_INTEGRITY_SHA256).is_some())
}

fn sip_label(message: &Message) -> String {
    let mut label = match message.status() {
        Some(status) => format!("{status} {} ({})", message.reason(), message.method().as_str()),
        None => format!("{} {}", message.method().as_str(), short_uri(message.request_uri())),
    };
    for address in message.sdp().and_then(|(_, sdp)| media_addresses(sdp)).unwrap_or_default() {
        write!(label, " [{address}]").ok();
    }
    label
}

/// Without scheme and parameters; long users (tokens) cut.
fn short_uri(uri: &str) -> String {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    match rest.split_once('@') {
        Some((user, host)) if user.len() > 20 => format!("{}…@{host}", &user[..8.min(user.len())]),
        _ => rest.to_owned(),
    }
}

fn media_addresses(sdp: &[u8]) -> Option<Vec<String>> {
    let sdp = Sdp::parse(sdp).ok()?;
    let address = |m: &proto::sdp::Media<'_>| match m.connection {
        Some(connection) => format!("{}:{}", connection.host, m.port),
        None => format!("?:{}", m.port),
    };
    Some(sdp.media.iter().map(address).collect())
}

/// Media packets of one sender to one address with one outcome, one after another; drawn where the first was sent.
struct Run {
    kind: String,
    count: usize,
    last: Duration,
}

/// A longer silence ends a run.
const PAUSE: Duration = Duration::from_secs(6);

/// The runs of a record, by the place of their first packet.
fn runs(entries: &[Entry]) -> BTreeMap<usize, Run> {
    let mut runs: BTreeMap<usize, Run> = BTreeMap::new();
    let mut open: BTreeMap<(NodeId, (SocketAddr, SocketAddr), String), usize> = BTreeMap::new();
    for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.transport.is_none()) {
        let kind = kind(entry);
        let first = open.entry((entry.from, entry.sent, kind.clone())).or_insert(n);
        if runs.get(first).is_some_and(|run| run.last + PAUSE < entry.at) {
            *first = n;
        }
        let run = runs.entry(*first).or_insert(Run { kind, count: 0, last: entry.at });
        run.count += 1;
        run.last = entry.at;
    }
    runs
}

impl Run {
    fn label(&self, first: &Entry) -> String {
        let seconds = (self.last - first.at).as_secs_f64();
        format!("{} ×{} {seconds:.1} s {} > {}", self.kind, self.count, first.sent.0, first.sent.1)
    }
}

/// What a media packet is, and what became of it if it did not arrive.
fn kind(entry: &Entry) -> String {
    let kind = match classify(&entry.bytes) {
        Packet::Rtp(_) => "RTP",
        Packet::Rtcp(_) => "RTCP",
        Packet::Stun => "STUN",
        Packet::Dtls => "DTLS",
        _ => "data",
    };
    match &entry.fate {
        Fate::Dropped(why) => format!("{kind} ({why})"),
        _ => kind.to_owned(),
    }
}

struct Page {
    names: Vec<String>,
    text: String,
}

impl Page {
    fn header(&mut self) {
        let mut row = vec![' '; self.width()];
        for (n, name) in self.names.iter().enumerate() {
            let start = lifeline(n).saturating_sub(name.chars().count() / 2);
            put(&mut row, start, name);
        }
        self.line(&row);
    }

    fn width(&self) -> usize {
        MARGIN + self.names.len() * WIDTH
    }

    /// One message: in one row if its label fits between the lifelines, else the label above.
    fn arrow(&mut self, entry: &Entry, shaft: char, label: &str) {
        let from = entry.from.0;
        let to = entry.receiver().map_or_else(|| self.towards(from), |to| to.0);
        let (left, right) = (lifeline(from.min(to)), lifeline(from.max(to)));
        let room = (right - left).saturating_sub(6);
        let mut row = self.lifelines();
        put(&mut row, 0, &format!("{:>9.3}", entry.at.as_secs_f64()));
        if label.chars().count() > room {
            put(&mut row, left + 2, label);
            self.line(&row);
            row = self.lifelines();
        }
        if from == to {
            put(&mut row, left + 1, "<.");
            return self.line(&row);
        }
        (left + 1..right).for_each(|n| row[n] = shaft);
        let arrived = entry.receiver().is_some();
        let tip = if arrived { if from < to { '>' } else { '<' } } else { 'x' };
        row[if from < to { right - 1 } else { left + 1 }] = tip;
        if label.chars().count() <= room {
            put(&mut row, left + 1 + (right - left - label.chars().count()) / 2, label);
        }
        self.line(&row);
    }

    /// Where an arrow points that arrives nowhere.
    fn towards(&self, from: usize) -> usize {
        if from + 1 < self.names.len() { from + 1 } else { from.saturating_sub(1) }
    }

    fn lifelines(&self) -> Vec<char> {
        let mut row = vec![' '; self.width()];
        (0..self.names.len()).for_each(|n| row[lifeline(n)] = '|');
        row
    }

    fn line(&mut self, row: &[char]) {
        let line: String = row.iter().collect();
        writeln!(self.text, "{}", line.trim_end()).ok();
    }
}

fn lifeline(n: usize) -> usize {
    MARGIN + WIDTH / 2 + n * WIDTH
}

fn put(row: &mut Vec<char>, start: usize, text: &str) {
    for (n, c) in text.chars().enumerate() {
        if start + n >= row.len() {
            row.push(c);
        } else {
            row[start + n] = c;
        }
    }
}
