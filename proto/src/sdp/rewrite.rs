//! Writing a description anew: a plan of what changes where, then one pass over the lines.

use std::net::{IpAddr, SocketAddr};

use super::lines::{Line, lines, token};
use super::read::connection;
use super::{Connection, Media, Rewrite, Sdp};

/// See [`Sdp::rewrite`].
pub(super) fn rewrite(sdp: &Sdp<'_>, sections: &[Option<Rewrite>]) -> Vec<u8> {
    let Some(first) = sections.iter().flatten().next() else { return sdp.bytes.to_vec() };
    let mut blocks = blocks(sdp.bytes);
    let mut writer = Writer::new(sdp.bytes);
    let connection = session_connection(sdp, sections, first.rtp.ip());
    writer.session(blocks.next().unwrap_or_default(), first.rtp.ip(), connection);
    for ((block, media), section) in blocks.zip(&sdp.media).zip(sections) {
        match section {
            Some(rewrite) => writer.section(block, media, rewrite, connection),
            None => writer.out.extend(block),
        }
    }
    writer.out
}

/// One rewrite or none for each section, bundled ones that share an address brought together.
pub(super) fn shared_ports(media: &[Media<'_>], sections: &[Option<Rewrite>]) -> Vec<Option<Rewrite>> {
    let mut out: Vec<Option<Rewrite>> = Vec::with_capacity(media.len());
    for (at, section) in media.iter().enumerate() {
        let asked = sections.get(at).copied().flatten();
        let mut earlier = media.iter().zip(&out);
        let shared = earlier.find(|(other, rewrite)| rewrite.is_some() && share_address(other, section));
        out.push(asked.map(|asked| shared.and_then(|(_, rewrite)| *rewrite).unwrap_or(asked)));
    }
    out
}

fn share_address(one: &Media<'_>, other: &Media<'_>) -> bool {
    one.bundled && other.bundled && other.address().is_some() && one.address() == other.address()
}

/// What the session-level c= shall say: the first rewritten address of those that inherit it (the others get a line of
/// their own), or any when none does, for it would only show the party's own. `None`: it must stay, because it holds or
/// a section that stays needs it.
fn session_connection(sdp: &Sdp<'_>, sections: &[Option<Rewrite>], first: IpAddr) -> Option<IpAddr> {
    let line = sdp.connection?;
    let holds = line.ip.is_some_and(|ip| ip.is_unspecified());
    let mut wanted = None;
    for (media, section) in sdp.media.iter().zip(sections) {
        if media.connection != Some(line) || media.port == 0 {
            continue;
        }
        if holds && media.is_blackholed() {
            return None;
        }
        wanted = wanted.or(Some(section.as_ref()?.rtp.ip()));
    }
    if holds { wanted } else { wanted.or(Some(first)) }
}

/// The session-level lines, then each section's, beginning with its m= line.
fn blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in lines(bytes) {
        if line.value(b'm').is_some() {
            starts.push(at);
        }
        at += line.text.len() + line.end.len();
    }
    starts.push(bytes.len());
    (1..starts.len()).map(move |n| &bytes[starts[n - 1]..starts[n]])
}

/// Lines written so far.
struct Writer<'a> {
    out: Vec<u8>,
    /// How the description ends its lines.
    line_end: &'a [u8],
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a [u8]) -> Writer<'a> {
        let line_end = lines(bytes).next().map(|line| line.end).filter(|end| !end.is_empty());
        Writer { out: Vec::with_capacity(bytes.len() + 64), line_end: line_end.unwrap_or(b"\r\n") }
    }

    fn session(&mut self, block: &[u8], origin: IpAddr, connection: Option<IpAddr>) {
        for line in lines(block) {
            match (line.text, connection) {
                ([b'o', b'=', ..], _) => self.address_line(line, 4, origin, None),
                ([b'c', b'=', ..], Some(ip)) => self.address_line(line, 1, ip, Some("c=IN")),
                _ if line.is_ice() => {}
                _ => self.line(line),
            }
        }
    }

    /// `session`: what the session-level c= says now, for a section that has none of its own.
    fn section(&mut self, block: &[u8], media: &Media<'_>, rewrite: &Rewrite, session: Option<IpAddr>) {
        let ip = rewrite.rtp.ip();
        let mut pending = Pending::new(block, media, rewrite, session);
        // A rejected section holds by a line of its own only: the session's changes without asking it.
        let own = || lines(block).any(|line| line_connection(&line).is_some());
        let holds = media.is_blackholed() && (media.port != 0 || own());
        for line in lines(block) {
            pending.flush(self, rank(&line));
            match line.text {
                [b'm', b'=', ..] => self.port_line(line, media, rewrite.rtp.port()),
                [b'c', b'=', ..] if holds && !names_somewhere(&line) => self.line(line),
                [b'c', b'=', ..] => self.address_line(line, 1, ip, Some("c=IN")),
                _ if is_rtcp(&line) => self.rtcp_line(line, rewrite),
                _ if line.is_ice() => {}
                _ => self.line(line),
            }
        }
        pending.flush(self, u8::MAX);
    }

    /// A line whose tokens `family` and `family + 1` are address family and address. One that is too short, or
    /// a c= line no reader could make sense of (RFC 8866 §5: UTF-8), becomes `short` and both, or stays.
    fn address_line(&mut self, line: Line<'_>, family: usize, ip: IpAddr, short: Option<&str>) {
        let text = line.text;
        match (token(text, family), token(text, family + 1)) {
            (Some(kind), Some(address)) if short.is_none() || std::str::from_utf8(text).is_ok() => {
                self.out.extend(&text[..kind.start]);
                self.out.extend(family_word(&text[kind.clone()], ip));
                self.out.extend(&text[kind.end..address.start]);
                self.out.extend(ip.to_string().bytes());
                self.out.extend(&text[address.end..]);
            }
            _ => match short {
                Some(start) => self.out.extend(format!("{start} {} {ip}", family_name(ip)).bytes()),
                None => self.out.extend(text),
            },
        }
        self.out.extend(line.end);
    }

    fn port_line(&mut self, line: Line<'_>, media: &Media<'_>, port: u16) {
        let Some(word) = token(line.text, 1).filter(|_| media.port != 0) else { return self.line(line) };
        let digits = line.text[word.clone()].iter().take_while(|b| **b != b'/').count();
        self.out.extend(&line.text[..word.start]);
        self.out.extend(port.to_string().bytes());
        self.out.extend(&line.text[word.start + digits..]);
        self.out.extend(line.end);
    }

    /// An a=rtcp line that was there: the same shape with other values. With rtcp-mux it names the media port.
    fn rtcp_line(&mut self, line: Line<'_>, rewrite: &Rewrite) {
        let rtcp = rewrite.rtcp.unwrap_or(rewrite.rtp);
        let had_address = token(line.text, 1).is_some();
        self.out.extend(rtcp_attribute(rtcp, had_address || rtcp.ip() != rewrite.rtp.ip()).bytes());
        self.out.extend(line.end);
    }

    fn line(&mut self, line: Line<'_>) {
        self.out.extend(line.text);
        self.out.extend(line.end);
    }

    /// A new line behind whatever was written, even when that was the last one and had no line end.
    fn insert(&mut self, text: &str) {
        if self.out.last().is_some_and(|last| *last != b'\n') {
            self.out.extend(self.line_end);
            self.out.extend(text.bytes());
        } else {
            self.out.extend(text.bytes());
            self.out.extend(self.line_end);
        }
    }
}

/// Lines a section lacks, waiting for their place (RFC 8866 §5: m, i, c, b, k, a).
struct Pending {
    connection: Option<String>,
    rtcp: Option<String>,
}

impl Pending {
    fn new(block: &[u8], media: &Media<'_>, rewrite: &Rewrite, session: Option<IpAddr>) -> Pending {
        let has = |which: fn(&Line<'_>) -> bool| lines(block).any(|line| which(&line));
        let ip = rewrite.rtp.ip();
        let served = media.port == 0 || media.is_blackholed() || session == Some(ip);
        let needs_connection = !served && !has(|line| line.value(b'c').is_some());
        let rtcp = rewrite.rtcp.filter(|rtcp| !is_next_port(*rtcp, rewrite.rtp) && media.port != 0);
        Pending {
            connection: needs_connection.then(|| format!("c=IN {} {ip}", family_name(ip))),
            rtcp: rtcp.filter(|_| !has(is_rtcp)).map(|rtcp| rtcp_attribute(rtcp, rtcp.ip() != ip)),
        }
    }

    /// Writes what stands before a line of this rank.
    fn flush(&mut self, writer: &mut Writer<'_>, rank: u8) {
        if rank > RANK_CONNECTION {
            self.connection.take().into_iter().for_each(|line| writer.insert(&line));
        }
        if rank >= RANK_ATTRIBUTE {
            self.rtcp.take().into_iter().for_each(|line| writer.insert(&line));
        }
    }
}

fn rank(line: &Line<'_>) -> u8 {
    let order = b"micbka";
    let place = line.text.first().and_then(|kind| order.iter().position(|o| o == kind));
    place.map_or(u8::MAX, |place| place as u8)
}

fn names_somewhere(line: &Line<'_>) -> bool {
    line_connection(line).is_some_and(|c| c.ip.is_none_or(|ip| !ip.is_unspecified()))
}

fn line_connection<'a>(line: &Line<'a>) -> Option<Connection<'a>> {
    line.text_value(b'c').and_then(connection)
}

fn is_rtcp(line: &Line<'_>) -> bool {
    line.attribute().is_some_and(|(name, _)| name == "rtcp")
}

fn is_next_port(rtcp: SocketAddr, rtp: SocketAddr) -> bool {
    rtcp.ip() == rtp.ip() && Some(rtcp.port()) == rtp.port().checked_add(1)
}

fn rtcp_attribute(rtcp: SocketAddr, with_address: bool) -> String {
    match with_address {
        true => format!("a=rtcp:{} IN {} {}", rtcp.port(), family_name(rtcp.ip()), rtcp.ip()),
        false => format!("a=rtcp:{}", rtcp.port()),
    }
}

/// The family as it was written, unless it changes.
fn family_word(written: &[u8], ip: IpAddr) -> Vec<u8> {
    let name = family_name(ip);
    if written.eq_ignore_ascii_case(name.as_bytes()) { written.to_vec() } else { name.into() }
}

fn family_name(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}

const RANK_CONNECTION: u8 = 2;
const RANK_ATTRIBUTE: u8 = 5;
