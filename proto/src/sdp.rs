//! Session descriptions (RFC 8866) as lines: typed reads of what a relay looks at, and an editor that changes those
//! lines and leaves everything else byte for byte. Unknown, misplaced and malformed lines pass through.

use std::net::{IpAddr, SocketAddr};

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
pub enum Direction { #[default] SendRecv, SendOnly, RecvOnly, Inactive }

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

/// One m= section.
#[derive(Clone, Debug)]
pub struct Media<'a> {
    /// `audio`, `video`, `image` …
    pub media: &'a str,
    /// Port; 0: rejected or disabled.
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
    /// Has ICE lines (`a=candidate`, `a=ice-ufrag`).
    pub ice: bool,
    /// In a BUNDLE group (RFC 9143).
    pub bundled: bool,
}

impl Media<'_> {
    /// Where its media is wanted: `None` for port 0, a name instead of an address, or 0.0.0.0 / ::.
    pub fn address(&self) -> Option<SocketAddr> { todo!() }
    /// Where its RTCP is wanted (RFC 3605 §2.1: port + 1 unless said otherwise; the media address with rtcp-mux).
    pub fn rtcp_address(&self) -> Option<SocketAddr> { todo!() }
    /// Held the old way (RFC 2543): c=0.0.0.0 or ::.
    pub fn is_blackholed(&self) -> bool { todo!() }
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
    /// Indexes a description. Refuses only what has no `v=`/`m=` shape at all or passes a limit.
    pub fn parse(bytes: &'a [u8]) -> Result<Sdp<'a>, Malformed> { let _ = bytes; todo!() }
    /// Every address media is wanted at (blackholes left out), in order, without repeats.
    pub fn addresses(&self) -> Vec<IpAddr> { todo!() }
    /// Whether any section has ICE lines.
    pub fn has_ice(&self) -> bool { todo!() }
    /// Writes the description anew with the sections' rewrites (`None`: that section stays byte for byte). c= lines
    /// change where they stand (added to a section where one session-level line can't serve all); `0.0.0.0`, `::`
    /// and port 0 stay byte for byte; o='s address follows when it named the same host; ICE lines go from rewritten
    /// sections (and session-level ones when any section was rewritten).
    pub fn rewrite(&self, sections: &[Option<Rewrite>]) -> Vec<u8> { let _ = sections; todo!() }
}

/// What an address is, for the media decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Reachable from anywhere (documentation ranges count: laboratories live there).
    Public,
    /// RFC 1918, ULA, CGNAT 100.64/10.
    Private,
    /// Loopback.
    Loopback,
    /// Link-local, multicast, unspecified, broadcast, reserved.
    Unusable,
}

/// What this address is (IPv4-mapped IPv6 counts as IPv4).
pub fn reach(ip: IpAddr) -> Reach { let _ = ip; todo!() }
