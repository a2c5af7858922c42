//! The media of a call of peers: what comes directly is heard by its tag ([`proto::peer::media`]), whatever way it came, and what goes
//! takes the way there is.
//!
//! A buddy whose NAT has bound anew does not know it yet. Its next packet comes from elsewhere and is heard all the same; a
//! check goes back to there, and once it is answered our media follows. Where its packets can't come in, it hears us no
//! more and asks: the relay carries on, and the access server, to which it shows where it is now, has us open the path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Input, Output, SocketId};
use proto::peer::media;
use proto::rtcp;
use proto::rtp::{Packet, Rtp, classify};

use super::carrier::{By, Carrier};
use super::link::{Link, channel_at};
use super::node::Peer;
use super::opening::Way;

/// The newest packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    ssrc: u32,
    number: u16,
}

impl Newest {
    fn of(rtp: &Rtp<'_>) -> Newest {
        Newest { ssrc: rtp.ssrc(), number: rtp.sequence() }
    }

    /// Whether a packet goes on where this one was: a repetition of what was seen doesn't.
    fn goes_on_with(self, next: Newest) -> bool {
        self.ssrc == next.ssrc && (1..0x8000).contains(&next.number.wrapping_sub(self.number))
    }
}

/// The last packet said again and again, so that one of them is there when the other's NAT opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knocking {
    pub(super) next: Instant,
    until: Instant,
}

/// A call that takes the relay looks for a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeking {
    pub(super) next: Instant,
    wait: Duration,
}

/// Until a path is looked for first, or again after an opening that found none; twice as long each time, up to the longest.
const SEEK: Duration = Duration::from_secs(5);
const SEEK_LONGEST: Duration = Duration::from_secs(60);
/// The server is asked where we are so often, at most: a path may be late again and again.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Between two knocks, and how long they go on: the server's answer takes a round trip.
const KNOCK: Duration = Duration::from_millis(5);
const KNOCKS_FOR: Duration = Duration::from_millis(500);
/// A beat is an RTP header (RFC 3550 §5.1) of this length and first byte, without CSRCs, extension or payload.
const BEAT: usize = 12;
const PLAIN: u8 = 0x80;

impl Peer {
    /// Media that came past the relay; `false`: it is none.
    pub(super) fn media_directly(&mut self, by: Option<SocketId>, from: SocketAddr, bytes: &[u8]) -> bool {
        let (Packet::Rtp(_) | Packet::Rtcp(_)) = classify(bytes) else { return false };
        let way = Way { socket: by, remote: from };
        let Some((link, (socket, _))) = self.voice.buddy.zip(self.voice.relay) else { return true };
        let (key, sender) = (&self.links[link].pair.key, &self.links[link].aor);
        let Some(packet) = media::open(key, sender, bytes) else { return true };
        let known = self.links[link].is_heard_by(way) || self.voice.way == Some(way);
        match (classify(packet), self.voice.newest) {
            (Packet::Rtp(rtp), newest) => {
                let goes_on = newest.is_some_and(|newest| newest.goes_on_with(Newest::of(&rtp)));
                if rtp.payload().is_empty() {
                    self.beat_heard(
                        known,
                        newest.is_some_and(|newest| goes_on || newest == Newest::of(&rtp)),
                    );
                    return true;
                }
                if !known && !goes_on {
                    return true;
                }
                let another = newest.is_none_or(|newest| newest.ssrc != rtp.ssrc());
                if goes_on || another {
                    self.voice.newest = Some(Newest::of(&rtp));
                }
                self.voice.carrier.hear(self.now);
                self.voice.knocking = None;
            }
            _ if known && self.missed_by_the_other(packet) => return true,
            _ if known => {}
            _ => return true,
        }
        if !known {
            self.ask_whether_moved(link, way);
        }
        let bytes = Bytes::copy_from_slice(packet);
        self.voice.phone.take_in(self.now, Input::Media { socket, from, bytes });
        true
    }

    /// Whom it talks with, and whether there is another path than before.
    pub(super) fn follow_call(&mut self) {
        let with = self.voice.phone.talks_with();
        let buddy = with.and_then(|aor| self.links.iter().position(|link| link.aor == aor));
        if self.voice.phone.has_begun() && (buddy != self.voice.buddy) {
            (self.voice.buddy, self.voice.way, self.voice.relay) = (buddy, None, None);
            (self.voice.carrier, self.voice.newest) = (Carrier::default(), None);
        }
        let way = self.voice.buddy.and_then(|link| self.links[link].way.or(self.way_meanwhile(link)));
        if way != self.voice.way {
            self.voice.way = way;
            if way.is_some() {
                self.voice.carrier.proven();
            }
        }
    }

    /// Of two who talk by the relay though there may be a path, one asks the server now and then to have both open it: what was
    /// in its way may be gone.
    pub(super) fn seek_due(&mut self) {
        let lacking = self.voice.buddy.filter(|_| self.voice.way.is_none() && !self.voice.by_pair);
        let Some(link) = lacking.map(|link| &self.links[link]).filter(|link| self.is_to_seek(link)) else {
            self.voice.seeking = None;
            return;
        };
        let first = Seeking { next: self.now + SEEK, wait: SEEK };
        let seeking = self.voice.seeking.get_or_insert(first);
        if link.opening.is_some() {
            seeking.next = seeking.next.max(first.next);
        } else if seeking.next <= self.now {
            seeking.wait = (seeking.wait * 2).min(SEEK_LONGEST);
            seeking.next = self.now + self.dice.jitter(seeking.wait, 10);
            let whom = link.aor.clone();
            self.wish_open(&whom);
        }
    }

    /// One of the two is enough.
    fn is_to_seek(&self, link: &Link) -> bool {
        link.may_open() && self.config.aor() < link.aor
    }

    /// While a path is opened anew, and no relay stands ready, the old one is as good as any.
    fn way_meanwhile(&self, link: usize) -> Option<Way> {
        let opens = self.voice.by_pair && self.links[link].opening.is_some();
        self.voice.way.filter(|way| opens && way.socket.is_none())
    }

    /// A beat says that the path carries; an old one, which anybody may have kept, says nothing.
    fn beat_heard(&mut self, known: bool, is_new: bool) {
        if known && is_new {
            self.voice.carrier.hear_beat(self.now);
        }
    }

    /// The header of what went last, again: the other side need not wait for the next packet to know that the path carries.
    pub(super) fn beat_due(&mut self) {
        let Some(packet) = self.voice.carrier.beats(self.now) else { return };
        let header = packet.get(..BEAT).filter(|header| header[0] == PLAIN);
        if let Some(((link, way), header)) = self.voice.buddy.zip(self.voice.way).zip(header) {
            let sealed = media::seal(&self.links[link].pair.key, &self.config.aor(), header);
            self.send_directly(way, sealed.into());
        }
    }

    /// Nothing has come directly for a while: by the relay, too, if there is one, and then by it alone.
    pub(super) fn fall_back(&mut self) {
        if let Some(again) = self.voice.carrier.suspect(self.now) {
            self.say_again(again);
            self.say_what_is_missed();
        }
        let open = self.voice.way.is_some();
        let Some(again) = self.voice.carrier.fall(self.now, open) else { return };
        self.say_again(again);
        if let (Some(link), Some(way)) = (self.voice.buddy, self.voice.way) {
            self.ask_consent(link, way);
        }
    }

    /// The other side can't know that its words don't come in: it hears of it by whichever way is open.
    fn say_what_is_missed(&mut self) {
        let Some((link, way)) = self.voice.buddy.zip(self.voice.way) else { return };
        let Some((newest, ours)) = self.voice.newest.zip(self.voice.carrier.source()) else { return };
        if self.voice.by_pair {
            return;
        }
        let missed = Bytes::from(rtcp::nack(ours, newest.ssrc, newest.number.wrapping_add(1)));
        let sealed = media::seal(&self.links[link].pair.key, &self.config.aor(), &missed);
        self.send_directly(way, sealed.into());
        self.say_again(vec![missed]);
    }

    /// The other side has missed something; `false`: that is not what it says.
    pub(super) fn missed_by_the_other(&mut self, packet: &[u8]) -> bool {
        let Some((source, first)) = rtcp::read_nack(packet) else { return false };
        if self.voice.carrier.source() == Some(source) {
            let again = self.voice.carrier.missed(self.now, first);
            self.say_again(again);
        }
        true
    }

    /// What may have been lost, by the relay; without one, the path is to be opened again.
    fn say_again(&mut self, again: Vec<Bytes>) {
        match (self.voice.by_pair, self.voice.relay) {
            (true, _) => self.ask_where_we_are(),
            (false, Some((socket, to))) => {
                self.out.extend(again.into_iter().map(|bytes| Output::SendMedia { socket, to, bytes }));
            }
            (false, None) => {}
        }
    }

    /// Perhaps it is we who have moved: the server sees it, and has the buddy open its NAT.
    fn ask_where_we_are(&mut self) {
        let tunnelled = self.voice.way.is_some_and(|way| channel_at(way.remote).is_some());
        if !tunnelled && self.voice.asked.is_none_or(|asked| asked + ASKED_EVERY <= self.now) {
            self.voice.asked = Some(self.now);
            self.voice.knocking = Some(Knocking { next: self.now, until: self.now + KNOCKS_FOR });
            self.ask_server();
        }
    }

    /// Until something is heard again.
    pub(super) fn knock_due(&mut self) {
        let Some(knocking) = self.voice.knocking.filter(|knocking| knocking.next <= self.now) else { return };
        let next = self.now + KNOCK;
        self.voice.knocking = (next < knocking.until).then_some(Knocking { next, ..knocking });
        let last = self.voice.last.clone();
        if let Some(way) = self.voice.way.filter(|_| !last.is_empty()) {
            self.send_directly(way, last);
        }
    }

    pub(super) fn phone_talks(&mut self, socket: SocketId, to: SocketAddr, bytes: Bytes) {
        self.voice.relay = Some((socket, to));
        let by = match self.voice.by_pair {
            true => By::Direct,
            false => self.voice.carrier.next(self.now, &bytes),
        };
        if by != By::Relay
            && let Some((link, way)) = self.voice.buddy.zip(self.voice.way)
        {
            let sealed = Bytes::from(media::seal(&self.links[link].pair.key, &self.config.aor(), &bytes));
            match (self.voice.by_pair, classify(&bytes)) {
                (true, _) => self.voice.last = sealed.clone(),
                (false, Packet::Rtp(_)) => self.voice.carrier.sent(self.now, &bytes),
                (false, _) => {}
            }
            self.send_directly(way, sealed);
        }
        // What a buddy's SDP says without a proxy is an address behind its NAT: nothing is sent there.
        if by != By::Direct {
            self.out.push_back(Output::SendMedia { socket, to, bytes });
        }
    }
}
