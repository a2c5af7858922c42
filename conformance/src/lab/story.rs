//! The story a capture tells: SIP messages and RTP streams, with addresses, in the order of time.
//!
//! The reading here is deliberately plain and independent of the product's own: it is what an engineer does with a
//! trace, so a mistake in the product's parser doesn't hide itself.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::wire::{Packet, Transport, Wire};

/// A SIP message as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub String);

impl Message {
    /// The message in these bytes, if they begin like one.
    pub fn read(bytes: &[u8]) -> Option<Message> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let first = text.lines().next()?;
        (first.starts_with("SIP/2.0 ") || first.ends_with(" SIP/2.0")).then_some(Message(text))
    }

    /// The first line.
    pub fn start(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// A request's method.
    pub fn method(&self) -> Option<&str> {
        let first = self.start();
        first.ends_with(" SIP/2.0").then(|| first.split(' ').next().unwrap_or_default())
    }

    /// A request's URI.
    pub fn uri(&self) -> &str {
        self.start().split(' ').nth(1).unwrap_or_default()
    }

    /// A response's status.
    pub fn status(&self) -> Option<u16> {
        self.start().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Whether this is the named message: `INVITE`, or `200 INVITE` for a response, or `2xx INVITE` for a class.
    pub fn is(&self, name: &str) -> bool {
        let (status, method) =
            name.split_once(' ').map_or((None, name), |(status, method)| (Some(status), method));
        match (status, self.status()) {
            (None, None) => self.method() == Some(method),
            (Some(wanted), Some(status)) => {
                let status = status.to_string();
                let fits = wanted == status || wanted.ends_with("xx") && wanted[..1] == status[..1];
                fits && self.header("CSeq").is_some_and(|cseq| cseq.ends_with(&format!(" {method}")))
            }
            _ => false,
        }
    }

    /// The first header of this name, or of its compact name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).into_iter().next()
    }

    /// All headers of this name, one a line.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head().lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| same_name(found.trim(), name)).map(|(_, value)| value.trim()).collect()
    }

    /// The tag of From or To.
    pub fn tag(&self, header: &str) -> Option<&str> {
        let value = self.header(header)?;
        let value = value.rsplit('>').next()?.split(";tag=").nth(1)?;
        value.split(';').next()
    }

    /// The URI between the angle brackets of the first Contact.
    pub fn contact(&self) -> Option<&str> {
        let value = self.header("Contact")?;
        let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
        inner.split('>').next()
    }

    /// What follows the empty line.
    pub fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// The streams of its SDP.
    pub fn media(&self) -> Vec<Media> {
        media_of(self.body())
    }

    /// The address of its first stream, as an RTP destination.
    pub fn audio(&self) -> Option<SocketAddr> {
        self.media().first().and_then(Media::address)
    }

    fn head(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or(&self.0, |(head, _)| head)
    }
}

fn same_name(found: &str, wanted: &str) -> bool {
    const COMPACT: [(&str, &str); 9] = [
        ("v", "Via"),
        ("f", "From"),
        ("t", "To"),
        ("i", "Call-ID"),
        ("m", "Contact"),
        ("l", "Content-Length"),
        ("c", "Content-Type"),
        ("k", "Supported"),
        ("s", "Subject"),
    ];
    found.eq_ignore_ascii_case(wanted)
        || COMPACT
            .iter()
            .any(|(short, long)| found.eq_ignore_ascii_case(short) && wanted.eq_ignore_ascii_case(long))
}

/// One `m=` section of an SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// The port of the `m=` line.
    pub port: u16,
    /// `RTP/AVP`, `udptl`, …
    pub protocol: String,
    /// The connection address that counts for it.
    pub ip: Option<IpAddr>,
    /// Its `a=` lines without `a=`.
    pub attributes: Vec<String>,
}

impl Media {
    /// Where its packets go.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip?, self.port))
    }

    /// Whether an attribute line says this.
    pub fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|a| a == attribute)
    }
}

/// The streams of a session description.
pub fn media_of(sdp: &str) -> Vec<Media> {
    let (mut session_ip, mut streams) = (None, Vec::<Media>::new());
    for line in sdp.lines() {
        match (line.split_once('='), streams.last_mut()) {
            (Some(("m", value)), _) => streams.extend(media_line(value, session_ip)),
            (Some(("c", value)), Some(stream)) => stream.ip = connection(value),
            (Some(("c", value)), None) => session_ip = connection(value),
            (Some(("a", value)), Some(stream)) => stream.attributes.push(value.to_owned()),
            _ => {}
        }
    }
    streams
}

fn media_line(value: &str, ip: Option<IpAddr>) -> Option<Media> {
    let mut words = value.split(' ');
    let (kind, port, protocol) = (words.next()?, words.next()?, words.next()?);
    let port = port.split('/').next()?.parse().ok()?;
    Some(Media { kind: kind.into(), port, protocol: protocol.into(), ip, attributes: Vec::new() })
}

fn connection(value: &str) -> Option<IpAddr> {
    value.split(' ').nth(2)?.parse().ok()
}

/// A SIP message as one host saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was complete.
    pub at: Duration,
    /// Where it was seen.
    pub host: String,
    /// How it travelled.
    pub transport: Transport,
    /// Its source address as seen there.
    pub from: SocketAddr,
    /// Its destination as seen there.
    pub to: SocketAddr,
    /// The message.
    pub message: Message,
}

impl Seen {
    /// Whether this is the named message (see [`Message::is`]) on this way; an empty address is anybody's.
    pub fn is(&self, name: &str, from: &str, to: &str) -> bool {
        let fits = |place: SocketAddr, wanted: &str| {
            wanted.is_empty() || place.ip().to_string() == wanted || place.to_string() == wanted
        };
        self.message.is(name) && fits(self.from, from) && fits(self.to, to)
    }
}

/// One RTP stream as one host saw it.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where it was seen.
    pub host: String,
    /// Its source address as seen there.
    pub from: SocketAddr,
    /// Its destination as seen there.
    pub to: SocketAddr,
    /// The synchronisation source.
    pub ssrc: u32,
    /// When each packet was seen, in order, and its sequence number.
    pub packets: Vec<(Duration, u16)>,
}

impl Stream {
    /// The longest silence between two packets.
    pub fn longest_gap(&self) -> Duration {
        self.packets.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
    }
}

impl Wire {
    /// All SIP messages, retransmissions included.
    pub fn sip(&self) -> Vec<Seen> {
        let (mut story, mut buffers) =
            (Vec::new(), BTreeMap::<(&str, SocketAddr, SocketAddr), Vec<u8>>::new());
        for packet in &self.packets {
            let seen = |message| seen(packet, message);
            match packet.transport {
                Transport::Udp => story.extend(Message::read(&packet.payload).map(seen)),
                Transport::Tcp => {
                    let buffer = buffers.entry((&packet.host, packet.from, packet.to)).or_default();
                    buffer.extend_from_slice(&packet.payload);
                    story.extend(std::iter::from_fn(|| framed(buffer)).map(seen));
                }
            }
        }
        story
    }

    /// All RTP streams, in the order of their first packets.
    pub fn streams(&self) -> Vec<Stream> {
        let mut streams = Vec::<Stream>::new();
        for packet in self.packets.iter().filter(|packet| is_rtp(packet)) {
            let word = |at: usize| {
                u32::from_be_bytes(packet.payload[at..at + 4].try_into().expect("an RTP header has 12 bytes"))
            };
            let (ssrc, sequence) = (word(8), word(0) as u16);
            let known = streams.iter_mut().find(|s| {
                s.host == packet.host && s.from == packet.from && s.to == packet.to && s.ssrc == ssrc
            });
            match known {
                Some(stream) => stream.packets.push((packet.at, sequence)),
                None => {
                    let packets = vec![(packet.at, sequence)];
                    streams.push(Stream {
                        host: packet.host.clone(),
                        from: packet.from,
                        to: packet.to,
                        ssrc,
                        packets,
                    });
                }
            }
        }
        streams
    }

    /// The whole story as lines for a reader: every SIP message, every RTP stream.
    pub fn ladder(&self) -> String {
        let began = self.packets.first().map_or(Duration::ZERO, |packet| packet.at);
        let mut text = String::new();
        for seen in self.sip() {
            let media: Vec<_> = seen
                .message
                .media()
                .iter()
                .map(|m| format!("{} {}:{}", m.kind, m.ip.map_or("?".into(), |ip| ip.to_string()), m.port))
                .collect();
            let cseq = if seen.message.status().is_some() {
                seen.message.header("CSeq").unwrap_or_default()
            } else {
                ""
            };
            let (at, start) = ((seen.at - began).as_secs_f64(), seen.message.start());
            let _ = writeln!(
                text,
                "{at:8.3} {:<8} {} → {}  {start} {cseq} {}",
                seen.host,
                seen.from,
                seen.to,
                media.join(", ")
            );
        }
        for stream in self.streams() {
            let (first, last) =
                (stream.packets[0].0 - began, stream.packets[stream.packets.len() - 1].0 - began);
            let (first, last, count) = (first.as_secs_f64(), last.as_secs_f64(), stream.packets.len());
            let _ = writeln!(
                text,
                "{first:8.3} {:<8} {} → {}  RTP {:08x}, {count} packets until {last:.3}",
                stream.host, stream.from, stream.to, stream.ssrc
            );
        }
        text
    }
}

/// A step of a story: what it is called, and how it is recognised.
pub type Step<'a> = (&'a str, &'a dyn Fn(&Seen) -> bool);

/// Finds the steps in this order, each after the one before it, and returns them; panics with the ladder when one is missing.
pub fn in_order<'a>(wire: &Wire, story: &'a [Seen], steps: &[Step<'_>]) -> Vec<&'a Seen> {
    let (mut found, mut rest) = (Vec::new(), story);
    for (name, fits) in steps {
        let at = rest.iter().position(fits).unwrap_or_else(|| {
            let before =
                found.last().map_or("the beginning".into(), |seen: &&Seen| seen.message.start().to_owned());
            panic!("no {name:?} after {before}:\n{}", wire.ladder())
        });
        found.push(&rest[at]);
        rest = &rest[at + 1..];
    }
    found
}

fn seen(packet: &Packet, message: Message) -> Seen {
    Seen {
        at: packet.at,
        host: packet.host.clone(),
        transport: packet.transport,
        from: packet.from,
        to: packet.to,
        message,
    }
}

/// Takes the first complete message out of a stream's buffer (RFC 3261 §18.3).
fn framed(buffer: &mut Vec<u8>) -> Option<Message> {
    let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    buffer.drain(..blank);
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let message = Message::read(&buffer[..head])?;
    let length: usize = message.header("Content-Length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let whole = buffer.get(..head + length)?.to_vec();
    buffer.drain(..head + length);
    Message::read(&whole)
}

/// RTP by its first two bytes (RFC 7983 and RFC 5761): version 2, and not one of RTCP's types.
fn is_rtp(packet: &Packet) -> bool {
    let payload = &packet.payload;
    packet.transport == Transport::Udp
        && payload.len() >= 12
        && payload[0] >> 6 == 2
        && !(192..=223).contains(&payload[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.1\r\nTo: <sip:b@x>;tag=7;x=y\r\nCSeq: 2 INVITE\r\nm: <sip:b@192.0.2.2:5062>;q=1\r\nl: 84\r\n\r\n\
        v=0\r\nc=IN IP4 198.51.100.9\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\nm=video 0 RTP/AVP 96\r\nc=IN IP6 2001:db8::1\r\n";

    #[test]
    fn a_message_is_read_with_its_compact_names_and_its_streams() {
        let message = Message::read(ANSWER.as_bytes()).unwrap();
        assert!(
            message.is("200 INVITE")
                && message.is("2xx INVITE")
                && !message.is("200 BYE")
                && !message.is("INVITE")
        );
        assert_eq!((message.tag("To"), message.contact()), (Some("7"), Some("sip:b@192.0.2.2:5062")));
        let media = message.media();
        assert_eq!(media[0].address(), Some("198.51.100.9:4000".parse().unwrap()));
        assert!(
            media[0].has("sendonly")
                && media[1].port == 0
                && media[1].ip == Some("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn a_stream_is_cut_into_messages_wherever_its_segments_end() {
        let twice = format!(
            "\r\n\r\nOPTIONS sip:x SIP/2.0\r\nContent-Length: 2\r\n\r\nhi{}",
            "BYE sip:y SIP/2.0\r\nContent-Length: 0\r\n\r\n"
        );
        let (mut buffer, mut starts) = (Vec::new(), Vec::new());
        for byte in twice.bytes() {
            buffer.push(byte);
            starts.extend(framed(&mut buffer).map(|message| message.start().to_owned()));
        }
        assert_eq!(starts, ["OPTIONS sip:x SIP/2.0", "BYE sip:y SIP/2.0"]);
    }

    #[test]
    #[should_panic(expected = "no \"an answer\" after INVITE")]
    fn a_story_without_a_step_is_refused() {
        let at = |at, text: &str| Seen {
            at: Duration::from_secs(at),
            host: "x".into(),
            transport: Transport::Udp,
            from: "192.0.2.1:1".parse().unwrap(),
            to: "192.0.2.2:2".parse().unwrap(),
            message: Message(text.into()),
        };
        let story =
            [at(0, "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"), at(1, "INVITE sip:b SIP/2.0\r\n\r\n")];
        in_order(
            &Wire::default(),
            &story,
            &[("a call", &|s| s.message.is("INVITE")), ("an answer", &|s| s.message.is("200 INVITE"))],
        );
    }
}
