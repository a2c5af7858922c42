//! Writes a party's SDP as the other party shall see it, in the order and the words rtpengine uses: clients' tests
//! compare text.
//!
//! ```text
//! session     as it came; o= and c= as the flags say; directions, ICE, groups and keys go
//! m=          port, protocol and formats
//! i= c= b=    as they came, c= ours
//! a=…         what nobody here knows, in its order
//! a=mid
//! a=rtpmap, a=fmtp, a=rtcp-fb      by format, static ones named, too
//! a=sendrecv  …                    always said
//! a=rtcp, a=rtcp-mux, a=ptime
//! ```

use std::net::IpAddr;

use proto::sdp::{Direction, Kind, Media, Rewrite, Sdp};

use super::codecs::{Codec, Key};
use super::flags::Flags;

/// What one m= section shall say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Our address; `None`: the section is none of ours and stays.
    pub(crate) rewrite: Option<Rewrite>,
    /// Its protocol, when it is another than the one that came.
    pub(crate) protocol: Option<String>,
    /// Offer (or speak) rtcp-mux.
    pub(crate) mux: bool,
    /// RTCP shares the media port for certain: `a=rtcp` says so.
    pub(crate) muxed: bool,
    /// Of an answer: what was offered; anything else is left out.
    pub(crate) offered: Option<Vec<Key>>,
    /// Of an answer: the offer's `a=mid`, when the section has none.
    pub(crate) mid: Option<String>,
    /// `a=ptime`, when the section doesn't say.
    pub(crate) ptime: Option<u32>,
}

/// How a description shall be written.
#[derive(Debug)]
pub(crate) struct Restate<'a> {
    /// What the client asks for.
    pub(crate) flags: &'a Flags,
    /// By m= section.
    pub(crate) sections: &'a [Section],
    /// Our address in the receiver's network.
    pub(crate) host: IpAddr,
    /// An answer takes on no `a=mid` that its offer has not.
    pub(crate) is_answer: bool,
    /// What marks a description we wrote.
    pub(crate) mark: Option<&'a str>,
}

/// Writes it.
pub(crate) fn restate(sdp: &Sdp<'_>, how: &Restate<'_>) -> Vec<u8> {
    let text = String::from_utf8_lossy(sdp.bytes);
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if line.starts_with("m=") {
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut().filter(|_| !line.is_empty()) {
            block.push(line);
        }
    }
    let replaces = replaces(sdp, &blocks[1..], how);
    let mut writer = Writer { out: String::with_capacity(text.len() + 256), how, replaces };
    let mut blocks = blocks.into_iter();
    writer.session(&blocks.next().unwrap_or_default());
    let nothing = Section::default();
    for (at, (block, media)) in blocks.zip(&sdp.media).enumerate() {
        let section = how.sections.get(at).unwrap_or(&nothing);
        writer.section(at, &block, sdp, media, section);
    }
    writer.out.into_bytes()
}

/// The codecs a section lists.
pub(crate) fn codecs<'a>(lines: &[&'a str], media: &Media<'a>) -> Vec<Codec<'a>> {
    let mut codecs: Vec<Codec<'a>> = media.formats.iter().map(|format| Codec::new(format)).collect();
    for line in lines {
        let Some((name, value)) = attribute(line) else { continue };
        for codec in &mut codecs {
            codec.take(name, value, line);
        }
    }
    codecs
}

/// Keys of the codecs each section lists, and what it says of `ptime`: what an answer is held against.
pub(crate) fn said(sdp: &Sdp<'_>) -> Vec<(Vec<Key>, Option<u32>)> {
    let Ok(text) = std::str::from_utf8(sdp.bytes) else { return Vec::new() };
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    let ptime =
        |lines: &[&str]| lines.iter().find_map(|line| line.strip_prefix("a=ptime:")?.trim().parse().ok());
    let keys = |lines: &[&'_ str], media: &Media<'_>| codecs(lines, media).iter().map(Codec::key).collect();
    let read = |(lines, media): (Vec<&str>, &Media<'_>)| (keys(&lines, media), ptime(&lines));
    sections.into_iter().zip(&sdp.media).map(read).collect()
}

/// Whether the session-level c= becomes ours: a section of ours relies on it, or the client asks for it.
fn replaces(sdp: &Sdp<'_>, blocks: &[Vec<&str>], how: &Restate<'_>) -> bool {
    let Some(connection) = sdp.connection else { return false };
    if connection.ip.is_some_and(|ip| ip.is_unspecified()) && !how.flags.replace_zero {
        return false;
    }
    let relies = |(block, section): (&Vec<&str>, &Section)| {
        section.rewrite.is_some() && !block.iter().any(|line| line.starts_with("c="))
    };
    how.flags.replace_connection || blocks.iter().zip(how.sections).any(relies)
}

struct Writer<'a> {
    out: String,
    how: &'a Restate<'a>,
    /// The session-level c= becomes ours.
    replaces: bool,
}

impl Writer<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push_str("\r\n");
    }

    fn session(&mut self, block: &[&str]) {
        for line in block {
            match line.as_bytes() {
                [b'o', b'=', ..] if self.how.flags.replace_origin => self.origin(line),
                [b'c', b'=', ..] if self.replaces => self.connection(self.how.host),
                _ if attribute(line).is_some_and(|(name, _)| is_session_ours(name)) => {}
                _ => self.line(line),
            }
        }
        if let Some(mark) = self.how.mark {
            self.line(&format!("a=rtpengine:{mark}"));
        }
    }

    /// The last two words are family and address.
    fn origin(&mut self, line: &str) {
        let host = self.how.flags.media_address.unwrap_or(self.how.host);
        let words: Vec<&str> = line.split(' ').collect();
        match words.len() {
            6 => {
                let text = format!("{} {} {host}", words[..4].join(" "), family(host));
                self.line(&text);
            }
            _ => self.line(line),
        }
    }

    fn connection(&mut self, host: IpAddr) {
        let host = self.how.flags.media_address.unwrap_or(host);
        self.line(&format!("c=IN {} {host}", family(host)));
    }

    fn section(&mut self, at: usize, block: &[&str], sdp: &Sdp<'_>, media: &Media<'_>, section: &Section) {
        let Some(rewrite) = section.rewrite else { return self.untouched(block, sdp) };
        let found = codecs(block, media);
        let codecs = self.chosen(&found, media, section);
        self.m_line(block, media, section, &codecs, rewrite.rtp.port());
        for line in block.iter().skip(1).filter(|line| !line.starts_with("a=")) {
            match line.starts_with("c=") && !self.holds(media) {
                true => self.connection(rewrite.rtp.ip()),
                false => self.line(line),
            }
        }
        self.foreign_attributes(block, media, &found);
        self.mid(at, block, section);
        if rewrite.rtp.port() == 0 {
            return;
        }
        if media.kind == Kind::Rtp {
            self.codec_lines(&codecs);
        }
        self.direction(block, media);
        if media.kind == Kind::Rtp {
            self.rtcp(section, rewrite);
            if let Some(ptime) = self.ptime(block, section) {
                self.line(&format!("a=ptime:{ptime}"));
            }
        }
    }

    /// Not ours. Its own address is said where the session's no longer is it.
    fn untouched(&mut self, block: &[&str], sdp: &Sdp<'_>) {
        let own = block.iter().any(|line| line.starts_with("c="));
        for (at, line) in block.iter().enumerate() {
            self.line(line);
            if let Some(connection) = sdp.connection.filter(|_| at == 0 && !own && self.replaces) {
                let family = if connection.host.contains(':') { "IP6" } else { "IP4" };
                self.line(&format!("c=IN {family} {}", connection.host));
            }
        }
    }

    fn holds(&self, media: &Media<'_>) -> bool {
        media.is_blackholed() && !self.how.flags.replace_zero
    }

    fn m_line(
        &mut self,
        block: &[&str],
        media: &Media<'_>,
        section: &Section,
        codecs: &[&Codec<'_>],
        port: u16,
    ) {
        let count =
            block.first().and_then(|line| line.split(' ').nth(1)?.split_once('/')).map(|(_, count)| count);
        let port = count.map_or(port.to_string(), |count| format!("{port}/{count}"));
        let protocol = section.protocol.as_deref().unwrap_or(media.protocol);
        let formats: Vec<&str> = codecs.iter().map(|codec| codec.format).collect();
        self.line(&format!("m={} {port} {protocol} {}", media.media, formats.join(" ")));
    }

    /// The formats that stay: in an answer those that were offered, then what the flags leave; never none.
    fn chosen<'c>(&self, found: &'c [Codec<'c>], media: &Media<'_>, section: &Section) -> Vec<&'c Codec<'c>> {
        if media.kind != Kind::Rtp {
            return found.iter().collect();
        }
        let offered =
            |codec: &&Codec<'_>| section.offered.as_ref().is_none_or(|keys| keys.contains(&codec.key()));
        let mut stay: Vec<&Codec<'_>> = found.iter().filter(offered).collect();
        if stay.is_empty() {
            stay = found.iter().collect();
        }
        let left: Vec<&Codec<'_>> =
            stay.iter().copied().filter(|codec| codec.stays(self.how.flags)).collect();
        if left.is_empty() { stay } else { left }
    }

    fn foreign_attributes(&mut self, block: &[&str], media: &Media<'_>, codecs: &[Codec<'_>]) {
        let plain = !media.protocol.contains("SAVP");
        for line in block {
            let Some((name, value)) = attribute(line) else { continue };
            let format = value.split(' ').next().unwrap_or_default();
            let of_codec = codecs.iter().any(|codec| codec.format == format);
            let ours = is_section_ours(name)
                || plain && ["crypto", "setup", "fingerprint"].contains(&name)
                || media.kind == Kind::Rtp && matches!(name, "rtpmap" | "fmtp")
                || name == "rtcp-fb" && of_codec
                || is_direction(name) && !self.how.flags.original_direction;
            if !ours {
                self.line(line);
            }
        }
    }

    fn mid(&mut self, at: usize, block: &[&str], section: &Section) {
        let said = block.iter().find(|line| line.starts_with("a=mid:"));
        match said {
            Some(line) => self.line(line),
            None if let Some(mid) = &section.mid => self.line(&format!("a=mid:{mid}")),
            None if self.how.flags.generate_mid && !self.how.is_answer => {
                self.line(&format!("a=mid:{}", at + 1))
            }
            None => {}
        }
    }

    fn codec_lines(&mut self, codecs: &[&Codec<'_>]) {
        for codec in codecs {
            if let Some(name) = codec.name {
                self.line(&format!("a=rtpmap:{} {name}", codec.format));
            }
            codec.fmtp.iter().chain(&codec.feedback).for_each(|line| self.line(line));
        }
    }

    fn direction(&mut self, block: &[&str], media: &Media<'_>) {
        let said = block.iter().any(|line| attribute(line).is_some_and(|(name, _)| is_direction(name)));
        if self.how.flags.original_direction && (said || media.is_blackholed()) {
            return;
        }
        let held = media.is_blackholed() && media.direction == Direction::SendRecv;
        let word = match media.direction {
            _ if held => "sendonly",
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        };
        self.line(&format!("a={word}"));
    }

    fn rtcp(&mut self, section: &Section, rewrite: Rewrite) {
        let rtcp = match section.muxed {
            true => rewrite.rtp,
            false => rewrite.rtcp.unwrap_or(rewrite.rtp),
        };
        if self.how.flags.full_rtcp {
            let host = self.how.flags.media_address.unwrap_or(rtcp.ip());
            self.line(&format!("a=rtcp:{} IN {} {host}", rtcp.port(), family(host)));
        } else if !self.how.flags.no_rtcp {
            self.line(&format!("a=rtcp:{}", rtcp.port()));
        }
        if section.mux {
            self.line("a=rtcp-mux");
        }
    }

    fn ptime(&self, block: &[&str], section: &Section) -> Option<u32> {
        let said = block.iter().find_map(|line| line.strip_prefix("a=ptime:")?.trim().parse().ok());
        self.how.flags.ptime.or(said).or(section.ptime)
    }
}

/// Name and value of an attribute line.
fn attribute(line: &str) -> Option<(&str, &str)> {
    let text = line.strip_prefix("a=")?;
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    Some((name.trim_end(), value.trim()))
}

fn is_direction(name: &str) -> bool {
    matches!(name, "sendrecv" | "sendonly" | "recvonly" | "inactive")
}

fn is_ice(name: &str) -> bool {
    name.starts_with("ice-") || matches!(name, "candidate" | "end-of-candidates" | "remote-candidates")
}

fn is_session_ours(name: &str) -> bool {
    is_direction(name) || is_ice(name) || matches!(name, "group" | "crypto")
}

/// What we write ourselves, or leave out.
fn is_section_ours(name: &str) -> bool {
    is_ice(name) || matches!(name, "mid" | "rtcp" | "rtcp-mux" | "rtcp-mux-only" | "ptime")
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}
