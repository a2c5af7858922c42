//! Reading a description (RFC 8866 §5, §9): one pass over its lines. What can't be read is left out, not refused.

use super::lines::{Line, lines};
use super::{Connection, Direction, Kind, Malformed, Media, Sdp};

/// See [`Sdp::parse`].
pub(super) fn parse(bytes: &[u8]) -> Result<Sdp<'_>, Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed("a session description longer than 64 KiB"));
    }
    if !lines(bytes).any(|line| line.value(b'v').or(line.value(b'm')).is_some()) {
        return Err(Malformed("a session description without a v= or m= line"));
    }
    let mut reader = Reader::default();
    lines(bytes).try_for_each(|line| reader.line(line))?;
    Ok(reader.finish(bytes))
}

/// What has been read so far. `session` holds session-level values the way a section holds its own.
#[derive(Default)]
struct Reader<'a> {
    session: Section<'a>,
    sections: Vec<Section<'a>>,
    origin_address: Option<&'a str>,
    bundle_mids: Vec<&'a str>,
}

/// One level's values: `None` where nothing was said.
#[derive(Default)]
struct Section<'a> {
    described: Option<&'a str>,
    connection: Option<Connection<'a>>,
    direction: Option<Direction>,
    rtcp: Option<(u16, Option<std::net::IpAddr>)>,
    rtcp_mux: bool,
    ice: bool,
    ice_ufrag: Option<&'a str>,
    ice_pwd: Option<&'a str>,
    mid: Option<&'a str>,
    bundle_only: bool,
    cryptos: Vec<&'a str>,
    fingerprints: Vec<&'a str>,
    setup: Option<&'a str>,
    ssrcs: Vec<u32>,
    clock_rates: Vec<(u8, u32)>,
    encodings: Vec<(u8, &'a str)>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: Line<'a>) -> Result<(), Malformed> {
        if line.value(b'm').is_some() {
            if self.sections.len() == MAX_SECTIONS {
                return Err(Malformed("a session description with more than 64 m= lines"));
            }
            let described = Some(line.text_value(b'm').unwrap_or_default());
            self.sections.push(Section { described, ..Section::default() });
        } else if let Some(value) = line.text_value(b'o') {
            let address = value.split_ascii_whitespace().nth(5).filter(|_| self.sections.is_empty());
            self.origin_address = self.origin_address.or(address);
        } else if let Some(value) = line.text_value(b'c') {
            let section = self.section();
            section.connection = section.connection.or(connection(value));
        } else if let Some((name, value)) = line.attribute() {
            self.attribute(name, value);
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &'a str) {
        if name == "group" {
            let mut words = value.split_ascii_whitespace();
            if words.next() == Some("BUNDLE") {
                self.bundle_mids.extend(words);
            }
            return;
        }
        let section = self.section();
        match name {
            "sendrecv" => section.direction = Some(Direction::SendRecv),
            "sendonly" => section.direction = Some(Direction::SendOnly),
            "recvonly" => section.direction = Some(Direction::RecvOnly),
            "inactive" => section.direction = Some(Direction::Inactive),
            "rtcp" => section.rtcp = section.rtcp.or(rtcp(value)),
            "rtcp-mux" => section.rtcp_mux = true,
            "candidate" => section.ice = true,
            "ice-ufrag" => (section.ice, section.ice_ufrag) = (true, Some(value)),
            "ice-pwd" => section.ice_pwd = Some(value),
            "crypto" => section.cryptos.push(value),
            "fingerprint" => section.fingerprints.push(value),
            "setup" => section.setup = Some(value),
            "ssrc" => section.announce(value),
            "mid" => section.mid = Some(value),
            "bundle-only" => section.bundle_only = true,
            "rtpmap" => {
                section.clock_rates.extend(rtpmap(value));
                section.encodings.extend(encoding(value));
            }
            _ => {}
        }
    }

    fn section(&mut self) -> &mut Section<'a> {
        self.sections.last_mut().unwrap_or(&mut self.session)
    }

    fn finish(self, bytes: &'a [u8]) -> Sdp<'a> {
        let Reader { session, sections, origin_address, bundle_mids } = self;
        let media = sections.into_iter().map(|section| section.finish(&session, &bundle_mids)).collect();
        Sdp { bytes, media, connection: session.connection, origin_address }
    }
}

impl<'a> Section<'a> {
    /// `a=ssrc:NUMBER attribute` (RFC 5576 §4.1): a line for each attribute.
    fn announce(&mut self, value: &str) {
        let number = value.split(' ').next().and_then(|number| number.parse().ok());
        self.ssrcs.extend(number.filter(|number| !self.ssrcs.contains(number)));
    }

    /// The section as a whole, with what it inherits. An m= line that can't be read counts as rejected.
    fn finish(self, session: &Section<'a>, bundle_mids: &[&str]) -> Media<'a> {
        let mut words = self.described.unwrap_or_default().split_ascii_whitespace();
        let media = words.next().unwrap_or_default();
        let port = words.next().and_then(|port| port.split('/').next()?.parse().ok());
        let protocol = words.next().unwrap_or_default();
        Media {
            media,
            port: port.unwrap_or(0),
            protocol,
            formats: words.collect(),
            connection: self.connection.or(session.connection),
            kind: Kind::of_protocol(protocol),
            direction: self.direction.or(session.direction).unwrap_or_default(),
            rtcp: self.rtcp,
            rtcp_mux: self.rtcp_mux,
            ice: self.ice || session.ice,
            ice_ufrag: self.ice_ufrag.or(session.ice_ufrag),
            ice_pwd: self.ice_pwd.or(session.ice_pwd),
            bundle_only: self.bundle_only,
            mid: self.mid,
            cryptos: self.cryptos,
            fingerprints: match self.fingerprints.is_empty() {
                true => session.fingerprints.clone(),
                false => self.fingerprints,
            },
            setup: self.setup.or(session.setup),
            ssrcs: self.ssrcs,
            bundled: self.mid.is_some_and(|mid| bundle_mids.contains(&mid)),
            clock_rates: self.clock_rates,
            encodings: self.encodings,
        }
    }
}

/// `IN IP4 224.2.36.42/127`.
pub(super) fn connection(value: &str) -> Option<Connection<'_>> {
    let address = value.split_ascii_whitespace().nth(2)?;
    let host = address.split('/').next().unwrap_or(address);
    Some(Connection { host, ip: host.parse().ok() })
}

/// `53020 IN IP6 2001:db8::1` (RFC 3605 §2.1).
fn rtcp(value: &str) -> Option<(u16, Option<std::net::IpAddr>)> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok()?;
    Some((port, words.nth(2).and_then(|ip| ip.parse().ok())))
}

/// The same line's encoding.
fn encoding(value: &str) -> Option<(u8, &str)> {
    let (payload_type, encoding) = value.split_once(' ')?;
    Some((payload_type.parse().ok()?, encoding.trim()))
}

/// `96 opus/48000/2` (RFC 8866 §6.6).
fn rtpmap(value: &str) -> Option<(u8, u32)> {
    let (payload_type, encoding) = value.split_once(' ')?;
    let rate = encoding.split('/').nth(1)?.trim();
    Some((payload_type.parse().ok()?, rate.parse().ok().filter(|rate| *rate > 0)?))
}

const MAX_BYTES: usize = 64 * 1024;
const MAX_SECTIONS: usize = 64;
