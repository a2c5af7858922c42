//! The peer logs in: what it says of itself (step 2 of US 8,000,325), how it proves itself, and what it makes of the profile
//! and the routing table that it is given (steps 7 and 8).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use minicbor::bytes::ByteArray;
use proto::digest;
use proto::node_auth::NodeKey;
use proto::peer::reach::Path;
use proto::peer::words::{self, LOGIN, Login, Profile, Sealing};
use proto::sip::{Builder, Message, Name};
use proto::stun::TransactionId;

use super::link::Link;
use super::node::{Peer, Purpose};
use super::opening::Part;

#[derive(Debug)]
pub(super) struct Registration {
    pub(super) call_id: String,
    pub(super) tag: String,
    pub(super) number: u32,
    pub(super) tries: u8,
    pub(super) under_way: bool,
    /// How often in a row it was told to come back later.
    pub(super) put_off: u32,
    /// The server does not know our session any more: a password it is.
    pub(super) anew: bool,
    /// When to log in (again).
    pub(super) at: Option<Instant>,
}

/// What a login brought.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) you: SocketAddr,
    pub(super) sealing: Sealing,
    pub(super) keep_alive: Option<Duration>,
    pub(super) keep_alive_at: Option<Instant>,
    pub(super) asked: Option<TransactionId>,
    /// Keep-alives without an answer.
    pub(super) unanswered: u8,
    /// When the server's hello was heeded last.
    pub(super) greeted: Option<Instant>,
}

/// How long to wait after a failed login.
const RETRY: Duration = Duration::from_secs(5);
/// The longest wait between two tries at a server that says it has too much to do.
const PUT_OFF: u64 = 60;
/// Challenges answered for one login.
const MAX_TRIES: u8 = 2;
/// Bind tickets and tokens age: a login renews them.
const RENEW: Duration = Duration::from_secs(500);

impl Peer {
    /// STUN has said where we are (step 1); now the login that uses it (step 2).
    pub(super) fn log_in(&mut self) {
        let Some(findings) = self.findings else { return };
        self.registration.number += 1;
        (self.registration.tries, self.registration.under_way, self.registration.at) = (0, true, None);
        let (aor, local) = (self.config.aor(), self.config.local);
        let via = self.server_flow().transport.via();
        let branch = self.dice.word(16);
        let Registration { call_id, tag, number, .. } = &self.registration;
        let request = Builder::request("REGISTER", &format!("sip:{}", self.config.domain))
            .header(Name::Via, format_args!("SIP/2.0/{via} {local};branch=z9hG4bK{branch};rport"))
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:{aor}>;tag={tag}"))
            .header(Name::To, format_args!("<sip:{aor}>"))
            .header(Name::CallId, call_id)
            .header(Name::CSeq, format_args!("{number} REGISTER"))
            .header(Name::Contact, format_args!("<sip:{}@{local}>", self.config.user))
            .header(Name::Expires, if self.leaving { 0 } else { 300 });
        let login = Login {
            external: findings.external,
            verdict: findings.verdict,
            hosts: vec![local],
            device: ByteArray::from([0; 32]),
            allows: self.config.allows,
            bind: self.bind.proven.map(|(address, ticket)| (address, ByteArray::from(ticket))),
            proof: ByteArray::from([0; 64]),
        };
        let login = login.sign(&self.config.secret, &aor, call_id);
        let request = match self.leaving {
            true => request.finish(),
            false => request.body(LOGIN, &words::write(&login)).finish(),
        };
        let request = match self.session.as_ref().filter(|_| !self.registration.anew) {
            Some(session) => NodeKey(*session.sealing.key).sign(&request, self.birth.unix_at(self.now)),
            None => request,
        };
        let purpose = if self.leaving { Purpose::Logout } else { Purpose::Login(request.clone()) };
        self.send_to_server(request, purpose);
    }

    /// Logs in (again) then, unless it is about to.
    pub(super) fn log_in_at(&mut self, at: Instant) {
        if !self.leaving && !self.registration.under_way {
            self.registration.at = Some(self.registration.at.map_or(at, |planned| planned.min(at)));
        }
    }

    /// To learn what has become of buddies.
    pub(super) fn log_in_again(&mut self) {
        if self.session.is_some() && !self.leaving {
            self.registration.at = Some(self.now);
        }
    }

    pub(super) fn login_finished(&mut self, request: &Message, status: u16, response: Option<&Message>) {
        if status == 401 && self.answer_challenge(request, response) {
            return;
        }
        self.registration.under_way = false;
        self.report.login_status = Some(status);
        let profile = response.filter(|_| status == 200).and_then(|r| words::read::<Profile>(r.body()));
        self.report.logged_in = profile.is_some();
        match profile {
            Some(profile) => self.take_in(&profile),
            None => {
                self.session = None;
                self.registration.at = Some(self.now + self.until_next_try(response));
            }
        }
    }

    /// A server with too much to do says when to come back (RFC 3261 §20.33); each further time twice as late.
    fn until_next_try(&mut self, response: Option<&Message>) -> Duration {
        let put_off = response.filter(|response| response.status() == Some(503));
        let Some(seconds) = put_off.and_then(|r| r.text(Name::RetryAfter)?.trim().parse::<u64>().ok()) else {
            return self.dice.jitter(RETRY, 50);
        };
        let longer = seconds.max(1).saturating_mul(1 << self.registration.put_off.min(6));
        self.registration.put_off += 1;
        self.dice.jitter(Duration::from_secs(longer.min(PUT_OFF)), 50)
    }

    /// RFC 3261 §22.2.
    pub(super) fn answer_challenge(&mut self, request: &Message, response: Option<&Message>) -> bool {
        let Some(response) = response.filter(|_| self.registration.tries < MAX_TRIES) else { return false };
        let lines = response.headers().filter(|header| header.name == Name::WwwAuthenticate);
        let challenges = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
        let covered = digest::Request { method: "REGISTER", body: request.body() };
        let (cnonce, uri) = (self.dice.word(12), request.request_uri());
        let credentials = digest::choose(challenges).and_then(|challenge| {
            digest::answer(challenge, &self.config.user, &self.config.password, uri, covered, 1, &cnonce)
        });
        let Some(credentials) = credentials else { return false };
        self.registration.tries += 1;
        self.registration.number += 1;
        let (branch, local) = (self.dice.word(16), self.config.local);
        let via = self.server_flow().transport.via();
        let again = request
            .edit()
            .set_first(Name::Via, &format!("SIP/2.0/{via} {local};branch=z9hG4bK{branch};rport"))
            .remove(Name::NodeAuth)
            .remove(Name::Authorization)
            .append(Name::Authorization, &credentials)
            .set(Name::CSeq, &format!("{} REGISTER", self.registration.number))
            .finish();
        self.send_to_server(again.clone(), Purpose::Login(again));
        true
    }

    /// Profile and routing table (step 7); every buddy that is online is told that we are here (step 8).
    pub(super) fn take_in(&mut self, profile: &Profile) {
        let told = profile.keep_alive_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let keep_alive = told.filter(|_| self.config.keeps_alive);
        self.report.external = Some(profile.you);
        let lease = Duration::from_secs(u64::from(profile.lease_s));
        // Keep-alives extend the lease; who leaves them out lets it end.
        let renew = if told.is_some() { RENEW } else { RENEW.min(lease * 4 / 5) };
        self.registration.at = Some(self.now + renew);
        (self.registration.put_off, self.registration.anew) = (0, false);
        self.session = Some(Session {
            you: profile.you,
            sealing: profile.session.clone(),
            keep_alive,
            keep_alive_at: keep_alive.map(|every| self.now + super::channel::spread(every, &mut self.dice)),
            asked: None,
            unanswered: 0,
            greeted: None,
        });
        if keep_alive.is_some() {
            self.measure_life();
        }
        for (buddy, route) in profile.buddies.iter().zip(&profile.routes) {
            let (link, moved) = self.link_for(buddy, route);
            if buddy.online && (moved || !self.links[link].online) {
                let reach = self.links[link].reach;
                if reach.path <= Path::Punch || reach.path == Path::Tunnel || reach.neighbours {
                    self.open_link(link, Part::Initiator);
                }
                self.links[link].announce = Some(true);
            }
            if !buddy.online {
                self.links[link].online = false;
            }
        }
    }

    /// The link to a buddy, made or brought up to date; whether it is elsewhere than before.
    pub(super) fn link_for(&mut self, buddy: &words::Buddy, route: &words::Route) -> (usize, bool) {
        match self.links.iter().position(|link| link.aor == buddy.aor) {
            Some(link) => {
                let moved = self.links[link].external != buddy.external;
                self.links[link].update(buddy, route);
                (link, moved)
            }
            None => {
                self.links.push(Link::new(buddy, route));
                (self.links.len() - 1, true)
            }
        }
    }

    pub(super) fn open_link(&mut self, link: usize, part: Part) {
        let (ours, local) = (self.ours(), self.config.local);
        self.links[link].open(self.now, part, local, ours, &mut self.dice, &mut self.out);
    }
}
