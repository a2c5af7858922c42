//! Registrations at trunks (RFC 3261 §10.2): we are the client, with digest, and keep them up.
//!
//! ```text
//!            200                      4/5 of the granted time
//!  asking ─────────► registered ───────────────────────────────► asking
//!    │ 401, 407: with credentials, once (again if the nonce was stale) ──► asking
//!    │ 423: with the longer time it wants ───────────────────────────────► asking
//!    │ anything else, or silence ──► failed ── 5 s … 10 min, doubling ───► asking
//! ```
//!
//! One lane looks after a trunk: which, its name decides.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto::event::{Event, Name};
use proto::node::{Answer, Dice, Flow, Lane};
use proto::sip::{self, Builder, Message};
use proto::timers::{Queue, Timer};

use super::login::{Challenge, Credentials};
use super::trunk::{Registering, Trunk};
use crate::config::Config;
use crate::moment::Moment;
use crate::part::{RequestId, Want};
use crate::registrar::keepalive::is_of_lane;
use crate::routing::target::{Hops, of_next_hop, resolved};

/// After a failure, from this, doubling …
const PATIENCE: Duration = Duration::from_secs(5);
/// … to this.
const MAX_PATIENCE: Duration = Duration::from_secs(600);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// No registrar is asked to remember for longer than this, whatever its Min-Expires says.
const LONGEST: u32 = 7 * 24 * 3600;

/// The registrations of one lane.
#[derive(Debug)]
pub struct Upstream {
    dice: Dice,
    lane: Lane,
    accounts: BTreeMap<Name, Account>,
    alarms: Queue<Name>,
    asked: BTreeMap<RequestId, Name>,
    asked_so_far: u64,
    wants: VecDeque<Want>,
}

/// How a registration stands, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the registrar knows us.
    pub registered: bool,
    /// Why.
    pub why: Name,
    /// For how long it has been so.
    pub since: Duration,
    /// When the registrar forgets us, from now.
    pub expires: Duration,
}

/// One registration.
#[derive(Debug)]
struct Account {
    credentials: Credentials,
    wanted: Registering,
    call_id: String,
    tag: String,
    cseq: u32,
    lifetime: u32,
    /// The challenge answered last: the next request answers it again, without being asked.
    challenge: Option<(Challenge, u32)>,
    /// Challenges in a row.
    challenged: u8,
    registered: bool,
    until: Option<Instant>,
    why: Name,
    since: Instant,
    failures: u32,
    timer: Option<Timer>,
}

impl Upstream {
    /// Nowhere yet.
    pub fn new(dice: Dice, lane: Lane) -> Upstream {
        Upstream {
            dice,
            lane,
            accounts: BTreeMap::new(),
            alarms: Queue::default(),
            asked: BTreeMap::new(),
            asked_so_far: 0,
            wants: VecDeque::new(),
        }
    }

    /// Follows the configuration: registrations that stay the same go on.
    pub fn follow(&mut self, now: Moment, config: &Config) {
        let mut before = std::mem::take(&mut self.accounts);
        let lane = self.lane;
        for trunk in config.trunks.iter().filter(|trunk| is_of_lane(&trunk.name, lane)) {
            let (Some(credentials), Some(wanted)) = (&trunk.credentials, &trunk.register) else { continue };
            let same = |old: &Account| old.credentials == *credentials && old.wanted == *wanted;
            let account = match before.remove(&trunk.name) {
                Some(old) if same(&old) => old,
                other => {
                    other.and_then(|old| old.timer).map(|timer| self.alarms.cancel(timer));
                    self.begin(now, &trunk.name, credentials, wanted)
                }
            };
            self.accounts.insert(trunk.name.clone(), account);
        }
        before.into_values().filter_map(|old| old.timer).for_each(|timer| drop(self.alarms.cancel(timer)));
    }

    fn begin(
        &mut self,
        now: Moment,
        name: &Name,
        credentials: &Credentials,
        wanted: &Registering,
    ) -> Account {
        let spread = self.dice.jitter(Duration::from_millis(250), 100);
        Account {
            credentials: credentials.clone(),
            wanted: wanted.clone(),
            call_id: self.dice.word(24),
            tag: self.dice.word(10),
            cseq: 0,
            lifetime: wanted.expires,
            challenge: None,
            challenged: 0,
            registered: false,
            until: None,
            why: "not asked yet".into(),
            since: now.at,
            failures: 0,
            timer: Some(self.alarms.set(now.at + spread, name.clone())),
        }
    }

    /// How a trunk's registration stands; `None`: there is none, or another lane looks after it.
    pub fn standing(&self, now: Moment, trunk: &Trunk) -> Option<Standing> {
        let account = self.accounts.get(&trunk.name)?;
        Some(Standing {
            registered: account.registered,
            why: account.why.clone(),
            since: now.at.saturating_duration_since(account.since),
            expires: account.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now.at)),
        })
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config) {
        while let Some(name) = self.alarms.pop(now.at) {
            let Some(account) = self.accounts.get_mut(&name) else { continue };
            account.timer = None;
            if account.registered && account.until.is_some_and(|until| until <= now.at) {
                self.turn(now, &name, false, "the registration ran out");
            }
            self.register(now, name, config);
        }
    }

    fn register(&mut self, now: Moment, name: Name, config: &Config) {
        match of_next_hop(&self.accounts[&name].wanted.registrar, config) {
            Hops::Ready(flows) => self.send(now, name, &flows, config),
            Hops::Ask(question) => {
                let id = self.next_id(&name);
                self.wants.push_back(Want::Ask { question, id });
            }
        }
    }

    /// A registrar's name was looked up.
    pub fn resolved(&mut self, now: Moment, id: RequestId, answer: Answer, config: &Config) {
        let Some(name) = self.asked.remove(&id) else { return };
        match answer {
            Answer::Targets(found) => self.send(now, name, &resolved(&found, config), config),
            Answer::Nothing(why) => self.failed(now, &name, &why, None),
            Answer::Uris(_) | Answer::Advice(_) | Answer::Done(_) => {}
        }
    }

    fn send(&mut self, now: Moment, name: Name, flows: &[Flow], config: &Config) {
        let Some(flow) = flows.first().copied() else {
            return self.failed(now, &name, "no listener of ours leads to the registrar", None);
        };
        let cnonce = self.dice.word(16);
        let Some(account) = self.accounts.get_mut(&name) else { return };
        account.cseq += 1;
        let mut message = account.request(flow, config);
        if let Some((challenge, count)) = &mut account.challenge {
            *count += 1;
            message = challenge.answered(&account.credentials, &message, *count, &cnonce);
        }
        let id = self.next_id(&name);
        self.wants.push_back(Want::Probe { flow, message, id, patience: ANSWER });
    }

    /// The registrar has answered.
    pub fn answered(&mut self, now: Moment, id: RequestId, response: &Message, config: &Config) {
        let Some(name) = self.asked.remove(&id) else { return };
        let Some(account) = self.accounts.get_mut(&name) else { return };
        let status = response.status().unwrap_or_default();
        match status {
            200..=299 => self.succeeded(now, &name, response),
            401 | 407 => match account.challenged_by(response) {
                true => self.register(now, name, config),
                false => self.failed(now, &name, &format!("{status}: the credentials are refused"), None),
            },
            423 => {
                let least = response.text(sip::Name::MinExpires).and_then(|least| least.trim().parse().ok());
                match least.filter(|least| (account.lifetime + 1..=LONGEST).contains(least)) {
                    Some(least) => {
                        account.lifetime = least;
                        self.register(now, name, config);
                    }
                    None => self.failed(now, &name, "423 without a Min-Expires that helps", None),
                }
            }
            _ => {
                let after = response
                    .text(sip::Name::RetryAfter)
                    .and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
                let words = format!("{status} {}", response.reason());
                self.failed(now, &name, &words, after.map(Duration::from_secs));
            }
        }
    }

    /// The registrar has not answered in time (408), or could not be reached (503).
    pub fn missed(&mut self, now: Moment, id: RequestId, status: u16) {
        let Some(name) = self.asked.remove(&id) else { return };
        let why = match status {
            408 => "the registrar does not answer",
            _ => "the registrar could not be reached: refused or unreachable",
        };
        self.failed(now, &name, why, None);
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`Upstream::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.deadline()
    }

    fn succeeded(&mut self, now: Moment, name: &Name, response: &Message) {
        let Some(account) = self.accounts.get_mut(name) else { return };
        let granted = Duration::from_secs(u64::from(granted(response, account.lifetime)));
        (account.challenged, account.failures) = (0, 0);
        account.until = Some(now.at + granted);
        self.turn(now, name, true, "200 to REGISTER");
        self.set_timer(now, name, granted * 4 / 5);
    }

    fn failed(&mut self, now: Moment, name: &Name, why: &str, after: Option<Duration>) {
        let Some(account) = self.accounts.get_mut(name) else { return };
        (account.challenge, account.challenged) = (None, 0);
        let patience = PATIENCE.saturating_mul(1 << account.failures.min(7)).min(MAX_PATIENCE);
        account.failures += 1;
        // A registration that still holds does not end because a refresh failed.
        let holds = account.until.is_some_and(|until| until > now.at);
        self.turn(now, name, holds, why);
        self.set_timer(now, name, after.unwrap_or(patience).clamp(PATIENCE, MAX_PATIENCE));
    }

    /// Another state, told if it is another one or failed for the first time for this reason.
    fn turn(&mut self, now: Moment, name: &Name, registered: bool, why: &str) {
        let Some(account) = self.accounts.get_mut(name) else { return };
        let same = account.registered == registered && *account.why == *why;
        if account.registered != registered {
            account.since = now.at;
        }
        (account.registered, account.why) = (registered, why.into());
        if !same {
            let event = Event::TrunkRegistered { trunk: name.clone(), registered, why: account.why.clone() };
            self.wants.push_back(Want::Event(event));
        }
    }

    fn set_timer(&mut self, now: Moment, name: &Name, wait: Duration) {
        let wait = self.dice.jitter(wait, 10);
        let Some(account) = self.accounts.get_mut(name) else { return };
        account.timer.take().into_iter().for_each(|timer| drop(self.alarms.cancel(timer)));
        account.timer = Some(self.alarms.set(now.at + wait, name.clone()));
    }

    fn next_id(&mut self, name: &Name) -> RequestId {
        self.asked_so_far += 1;
        let id = RequestId(self.asked_so_far);
        self.asked.insert(id, name.clone());
        id
    }
}

impl Account {
    /// §10.2.1: our Contact is the listener that leads there.
    fn request(&self, flow: Flow, config: &Config) -> Message {
        let listener = config.listener_at(flow.transport, flow.local);
        let us = listener.and_then(|index| config.listeners.get(index)).map_or(flow.local, |l| l.advertise);
        let Registering { user, domain, contact, .. } = &self.wanted;
        Builder::request("REGISTER", &format!("sip:{domain}"))
            .header(sip::Name::MaxForwards, 70)
            .header(sip::Name::From, format_args!("<sip:{user}@{domain}>;tag={}", self.tag))
            .header(sip::Name::To, format_args!("<sip:{user}@{domain}>"))
            .header(sip::Name::CallId, &self.call_id)
            .header(sip::Name::CSeq, format_args!("{} REGISTER", self.cseq))
            .header(sip::Name::Contact, format_args!("<sip:{contact}@{us};transport={}>", flow.transport))
            .header(sip::Name::Expires, self.lifetime)
            .finish()
    }

    /// Takes up a challenge. `false`: it was answered already, or can't be.
    fn challenged_by(&mut self, response: &Message) -> bool {
        let Some(challenge) = Challenge::of(response, &self.credentials) else { return false };
        // The first of a round may only say that the nonce we answered unasked is too old.
        let again = self.challenged == 0 || (self.challenged < 3 && challenge.is_stale());
        self.challenged += 1;
        self.challenge = Some((challenge, 0));
        again
    }
}

/// How long the registrar will remember: what it says, but no longer than asked (§10.2.4).
fn granted(response: &Message, asked: u32) -> u32 {
    let contacts = response.contacts().flatten().filter_map(|contact| contact.expires());
    contacts.chain(response.expires()).filter(|&seconds| seconds > 0).min().unwrap_or(asked).min(asked)
}
