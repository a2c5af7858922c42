//! Session descriptions of a phone (RFC 3264): one audio stream of G.711 µ-law with telephone events.

use std::net::SocketAddr;

use proto::sdp::{Direction, Sdp};
use proto::srtp::Profile;
use proto::srtp::sdes::Crypto;

/// PCMU's payload type.
pub(crate) const PCMU: u8 = 0;
/// The payload type we give telephone events in offers of ours.
pub(crate) const EVENTS: u8 = 101;

/// The suite a phone knows that talks SRTP.
pub(crate) const SUITE: Profile = Profile::Aes128CmSha1_80;

/// What the other side describes, as far as it matters to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Where it wants RTP; `None`: nowhere.
    pub(crate) rtp: Option<SocketAddr>,
    /// Where it wants RTCP.
    pub(crate) rtcp: Option<SocketAddr>,
    /// Whether it takes RTCP on its RTP port.
    pub(crate) mux: bool,
    /// The key it protects what it sends with, if it does.
    pub(crate) crypto: Option<Crypto>,
    /// Seen from it.
    pub(crate) direction: Direction,
    /// Its payload type for telephone events.
    pub(crate) events: Option<u8>,
    /// Its other m= lines and their places, each as the line that refuses it.
    others: Vec<(usize, String)>,
}

/// Reads a description; `None` when there is no audio we can talk, in plain RTP or `secure`.
pub(crate) fn read(bytes: &[u8], secure: bool) -> Option<Remote> {
    let sdp = Sdp::parse(bytes).ok()?;
    let wanted = if secure { "RTP/SAVP" } else { "RTP/AVP" };
    let fits =
        |m: &proto::sdp::Media<'_>| m.media == "audio" && m.formats.contains(&"0") && m.protocol == wanted;
    let ours = sdp.media.iter().position(fits)?;
    let audio = &sdp.media[ours];
    let refused = |(at, m): (usize, &proto::sdp::Media<'_>)| {
        (at, format!("m={} 0 {} {}\r\n", m.media, m.protocol, m.formats.join(" ")))
    };
    let direction = if audio.is_blackholed() { Direction::SendOnly } else { audio.direction };
    Some(Remote {
        rtp: audio.address(),
        rtcp: proto::sdp::Media { rtcp_mux: false, ..audio.clone() }.rtcp_address(),
        mux: audio.rtcp_mux,
        crypto: match secure {
            true => Some(audio.cryptos.iter().find_map(|line| {
                Crypto::parse(line).ok().filter(|crypto| crypto.master.profile() == SUITE)
            })?),
            false => None,
        },
        direction,
        events: events_type(bytes),
        others: sdp.media.iter().enumerate().filter(|(at, _)| *at != ours).map(refused).collect(),
    })
}

/// `a=rtpmap:101 telephone-event/8000`.
fn events_type(bytes: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut maps = text.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    let (number, _) =
        maps.find(|(_, codec)| codec.to_ascii_lowercase().starts_with("telephone-event/8000"))?;
    number.parse().ok()
}

/// Who speaks, and which version this is (RFC 3264 §8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) session: u32,
    pub(crate) version: u32,
}

/// What we describe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours<'a> {
    pub(crate) local: SocketAddr,
    pub(crate) origin: Origin,
    pub(crate) direction: Direction,
    pub(crate) mux: bool,
    /// What it protects what it sends with.
    pub(crate) crypto: Option<&'a Crypto>,
}

/// Writes a description; in answer to `offer`, if there was one.
pub(crate) fn write(ours: Ours<'_>, offer: Option<&Remote>) -> Vec<u8> {
    let Ours { local, origin, direction, mux, crypto } = ours;
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (local.ip(), local.port());
    let Origin { session, version } = origin;
    let mut text =
        format!("v=0\r\no=- {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n");
    let events = offer.map_or(Some(EVENTS), |offer| offer.events);
    let others = offer.map_or(&[][..], |offer| &offer.others);
    let place = (0..).find(|at| others.iter().all(|(other, _)| other != at)).unwrap_or(0);
    others.iter().filter(|(at, _)| *at < place).for_each(|(_, line)| text += line);
    let offered = offer.and_then(|offer| offer.crypto.as_ref());
    let crypto =
        crypto.map(|ours| Crypto { tag: offered.map_or(ours.tag, |theirs| theirs.tag), ..ours.clone() });
    text += &audio(port, events, direction, crypto);
    if mux && offer.is_none_or(|offer| offer.mux) {
        text += "a=rtcp-mux\r\n";
    }
    others.iter().filter(|(at, _)| *at > place).for_each(|(_, line)| text += line);
    text.into_bytes()
}

fn audio(port: u16, events: Option<u8>, direction: Direction, crypto: Option<Crypto>) -> String {
    let format = events.map_or(String::new(), |events| format!(" {events}"));
    let map = events.map_or(String::new(), |events| {
        format!("a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-15\r\n")
    });
    let direction = match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    };
    let protocol = if crypto.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
    let crypto = crypto.map_or(String::new(), |crypto| format!("a=crypto:{crypto}\r\n"));
    format!(
        "m=audio {port} {protocol} 0{format}\r\na=rtpmap:0 PCMU/8000\r\n{map}a=ptime:20\r\n{crypto}a={direction}\r\n"
    )
}

/// The direction that answers an offer's (RFC 3264 §6.1), while we hold or not.
pub(crate) fn answering(offered: Direction, we_hold: bool) -> Direction {
    match (offered, we_hold) {
        (Direction::SendRecv, false) => Direction::SendRecv,
        (Direction::SendRecv | Direction::RecvOnly, _) => Direction::SendOnly,
        (Direction::SendOnly, false) => Direction::RecvOnly,
        (Direction::SendOnly | Direction::Inactive, _) => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(local: &str, direction: Direction) -> Ours<'static> {
        Ours {
            local: local.parse().unwrap(),
            origin: Origin { session: 1, version: 2 },
            direction,
            mux: true,
            crypto: None,
        }
    }

    #[test]
    fn what_is_offered_is_read() {
        let offer = write(ours("192.0.2.1:4000", Direction::SendOnly), None);
        let remote = read(&offer, false).unwrap();
        assert_eq!(
            (remote.rtp, remote.rtcp),
            (Some("192.0.2.1:4000".parse().unwrap()), Some("192.0.2.1:4001".parse().unwrap()))
        );
        assert_eq!((remote.direction, remote.events), (Direction::SendOnly, Some(EVENTS)));
    }

    #[test]
    fn an_answer_refuses_other_media_in_its_place() {
        let offer = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=video 5000 RTP/AVP 31\r\n\
            m=audio 4000 RTP/AVP 8 0\r\nm=image 6000 udptl t38\r\n";
        let remote = read(offer, false).unwrap();
        let answer = write(ours("[::1]:7000", Direction::SendRecv), Some(&remote));
        let sdp = Sdp::parse(&answer).unwrap();
        let seen: Vec<_> = sdp.media.iter().map(|m| (m.media, m.port)).collect();
        assert_eq!(seen, [("video", 0), ("audio", 7000), ("image", 0)]);
    }

    #[test]
    fn without_our_codec_there_is_nothing_to_talk() {
        assert_eq!(read(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4 RTP/AVP 8\r\n", false), None);
    }
}
