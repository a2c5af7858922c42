//! Session descriptions (RFC 8866) as lines: typed reads of what a relay looks at, and an editor that changes those
//! lines and leaves everything else byte for byte. Unknown, misplaced and malformed lines pass through.
//!
//! | line | read as | changed by [`Sdp::rewrite`] |
//! |---|---|---|
//! | `o=` | its address | address and family follow the media, so that the party's own is shown nowhere |
//! | `c=` | session-level, overridden by a section's own | address and family; a hold (`0.0.0.0`, `::`) stays |
//! | `m=` | media, port, protocol, formats | the port (`/count` stays; 0 stays) |
//! | `a=rtcp` (RFC 3605) | port and address | both, as far as they are written |
//! | `a=candidate`, `a=ice-…` | that there is ICE | taken out |
//! | `m=` protocol, `a=crypto`, `a=fingerprint`, `a=setup`, `a=mid` | how its packets are protected | by [`dress`] alone |
//! | anything else | directions, `rtcp-mux`, BUNDLE, clock rates | never |

use std::net::{IpAddr, SocketAddr};

mod anonymous;
mod lines;
mod reach;
mod read;
mod rewrite;
mod secure;

pub use anonymous::anonymous;
pub use reach::{Reach, reach};
pub use secure::{Dress, Protection, dress, with_bundled_ports};

/// A session description, indexed.
#[derive(Clone, Debug)]
pub struct Sdp<'a> {
    /// As it came.
    pub bytes: &'a [u8],
    /// Its m= sections, in order.
    pub media: Vec<Media<'a>>,
    /// Session-level connection address as written (`0.0.0.0` included); `None`: no c= line there.
    pub connection: Option<Connection<'a>>,
    /// The o= line's address, as written.
    pub origin_address: Option<&'a str>,
}

/// Why bytes are not a session description we can work with; the words are for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A c= line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// As written: an address (without `/ttl`) or a name.
    pub host: &'a str,
    /// The address, when it is one.
    pub ip: Option<IpAddr>,
}

/// Which way media flows (RFC 8866 §6.7), seen from the describing side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways; also when nothing is said.
    #[default]
    SendRecv,
    /// It sends only: the other side is on hold.
    SendOnly,
    /// It only listens.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// What a media section's packets look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RTP/AVP, RTP/SAVP, UDP/TLS/RTP/SAVPF …: RTP with RTCP.
    Rtp,
    /// `udptl` and any other protocol over UDP: any datagram, no RTCP port.
    Datagram,
    /// TCP-based and others a relay of datagrams can't carry.
    Other,
}

impl Kind {
    /// By the protocol of an m= line, in any case (RFC 8866 §8.2.4 and the IANA registry). What nobody knows is taken
    /// for datagrams.
    pub fn of_protocol(protocol: &str) -> Kind {
        let upper = protocol.to_ascii_uppercase();
        let first = upper.split('/').next().unwrap_or_default();
        match first {
            "TCP" | "TLS" | "DCCP" | "SCTP" | "BFCP" | "" => Kind::Other,
            _ if upper.split('/').any(|part| part == "RTP") => Kind::Rtp,
            _ => Kind::Datagram,
        }
    }
}

/// One m= section.
#[derive(Clone, Debug)]
pub struct Media<'a> {
    /// `audio`, `video`, `image` …
    pub media: &'a str,
    /// Port; 0: rejected or disabled (also when the line can't be read).
    pub port: u16,
    /// As written: `RTP/AVP`, `udptl` …
    pub protocol: &'a str,
    /// Formats as written: payload types, or others.
    pub formats: Vec<&'a str>,
    /// Media-level c=, else the session's.
    pub connection: Option<Connection<'a>>,
    /// What its packets look like.
    pub kind: Kind,
    /// Direction attribute, media-level before session-level.
    pub direction: Direction,
    /// `a=rtcp` (RFC 3605): port, and address if written.
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// Has ICE lines (`a=candidate`, `a=ice-ufrag`), here or at session level.
    pub ice: bool,
    /// Its ICE credentials (RFC 8839 §5.4), here or at session level.
    pub ice_ufrag: Option<&'a str>,
    /// See [`Media::ice_ufrag`].
    pub ice_pwd: Option<&'a str>,
    /// In a BUNDLE group (RFC 9143).
    pub bundled: bool,
    /// `a=bundle-only` (RFC 9143 §6): port 0 does not mean that it is rejected.
    pub bundle_only: bool,
    /// `a=mid` (RFC 5888).
    pub mid: Option<&'a str>,
    /// What stands behind `a=crypto:` (RFC 4568), line by line.
    pub cryptos: Vec<&'a str>,
    /// What stands behind `a=fingerprint:` (RFC 8122), here or at session level.
    pub fingerprints: Vec<&'a str>,
    /// `a=setup` (RFC 4145, RFC 5763), here or at session level.
    pub setup: Option<&'a str>,
    /// The sources that `a=ssrc` announces (RFC 5576), each once.
    pub ssrcs: Vec<u32>,
    /// `a=rtpmap`: payload types and their clock rates in Hz, as far as they can be read.
    pub clock_rates: Vec<(u8, u32)>,
    /// The same lines' encodings as written: `PCMU/8000`, `opus/48000/2`.
    pub encodings: Vec<(u8, &'a str)>,
}

impl Media<'_> {
    /// Where its media is wanted: `None` for port 0, a name instead of an address, or 0.0.0.0 / ::.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.connection?.ip?;
        (self.port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, self.port))
    }

    /// Where its RTCP is wanted (RFC 3605 §2.1: port + 1 unless said otherwise; the media address with rtcp-mux).
    pub fn rtcp_address(&self) -> Option<SocketAddr> {
        let media = self.address().filter(|_| self.kind == Kind::Rtp)?;
        let (port, ip) = match self.rtcp {
            _ if self.rtcp_mux => return Some(media),
            Some((port, ip)) => (port, ip.unwrap_or(media.ip())),
            None => (media.port().checked_add(1)?, media.ip()),
        };
        (port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, port))
    }

    /// Held the old way (RFC 2543): c=0.0.0.0 or ::. The same address with ICE and port 9 is no hold but trickle ICE's
    /// placeholder (RFC 8840 §4.1.1).
    pub fn is_blackholed(&self) -> bool {
        let nowhere = self.connection.and_then(|c| c.ip).is_some_and(|ip| ip.is_unspecified());
        nowhere && !(self.ice && self.port == 9)
    }

    /// Clock rate of a payload type in Hz: by `a=rtpmap`, else by RFC 3551's table of static ones.
    pub fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        let mapped = self.clock_rates.iter().find(|(pt, _)| *pt == payload_type);
        mapped.map(|(_, rate)| *rate).or_else(|| static_clock_rate(payload_type))
    }
}

/// Clock rate of a static payload type in Hz: RFC 3551 §6, tables 4 and 5.
pub fn static_clock_rate(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        16 => Some(11_025),
        17 => Some(22_050),
        _ => None,
    }
}

/// What a media section shall say instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Media address: c= and the m= port.
    pub rtp: SocketAddr,
    /// RTCP address, written as `a=rtcp` when there was such a line or the port is not `rtp + 1`; `None`: rtcp-mux or
    /// a protocol without RTCP.
    pub rtcp: Option<SocketAddr>,
}

impl<'a> Sdp<'a> {
    /// Indexes a description. Refuses only what has no `v=`/`m=` shape at all or passes a limit (64 KiB, 64 sections).
    pub fn parse(bytes: &'a [u8]) -> Result<Sdp<'a>, Malformed> {
        read::parse(bytes)
    }

    /// Every address media is wanted at (blackholes left out), in order, without repeats.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut out = Vec::new();
        for ip in self.media.iter().filter_map(|m| m.address()).map(|a| a.ip()) {
            if !out.contains(&ip) {
                out.push(ip);
            }
        }
        out
    }

    /// Whether any section has ICE lines.
    pub fn has_ice(&self) -> bool {
        self.media.iter().any(|m| m.ice)
    }

    /// Writes the description anew with the sections' rewrites (`None`: that section stays byte for byte; so do
    /// sections beyond the slice). Without any rewrite nothing changes. With one:
    ///
    /// - c= lines change where they stand; one is added to a section where the session-level line can't serve all.
    ///   A hold's `0.0.0.0` or `::` stays.
    /// - The m= port changes, unless it is 0: a rejected section keeps it, and only its own c= and ICE lines follow.
    /// - o='s address follows the first rewritten section's, always, so that it stays the same when a later offer puts
    ///   the call on hold (RFC 3264 §8) and the party's own address is shown nowhere.
    /// - ICE lines go from rewritten sections, and from the session level.
    /// - Bundled sections that shared a port share one afterwards: the first one's.
    pub fn rewrite(&self, sections: &[Option<Rewrite>]) -> Vec<u8> {
        rewrite::rewrite(self, &rewrite::shared_ports(&self.media, sections))
    }

    /// The same where sections that shared a port may part: each has its own rewrite.
    pub fn rewrite_apart(&self, sections: &[Option<Rewrite>]) -> Vec<u8> {
        let mut sections = sections.to_vec();
        sections.resize(self.media.len(), None);
        rewrite::rewrite(self, &sections)
    }
}

#[cfg(test)]
mod tests;
