//! Who has asked too often, guessed too much, or is shut out: the limits that stand before everything else.
//!
//! A pure machine of fixed size: whoever keeps [`crate::tables::Tables`] keeps one, the shell behind a lock, the world as
//! it is. Nothing a stranger sends makes it grow: counts live in a [`ledger::Ledger`] of so many lines and no more, and
//! only sources that have proven to be where they say are put on the list of bans, which is bounded, too.
//!
//! How it tells attackers from good phones:
//! - **The first request is free.** Only a wrong password *after* a challenge is a failure.
//! - **A ban needs a real source.** Over UDP anybody writes any source address, so only a failure that bears a nonce
//!   we made for that address counts; a connection is proof by itself. What is unproven is slowed down, never banned.
//! - **One account before the whole address.** Many phones live behind one NAT: first the account is banned from that
//!   source, and the whole source only after failures of many. Accounts that have proven themselves from there lately
//!   are heard all the same, and every success takes failures of its source back.
//! - **Bans end**, each lasting twice as long as the one before it.

mod bans;
mod ledger;
mod orders;
mod policy;

use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

pub use bans::Ban;
use bans::Bans;
use ledger::{Bucket, Ledger};
pub use policy::Policy;

use crate::cidr::Cidr;

/// Something a source did.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// Where it came from.
    pub source: IpAddr,
    /// Whether it surely came from there: by a connection, or with a nonce that we made for that address.
    pub real: bool,
    /// The account it names, or whom it says to be.
    pub name: &'a str,
    /// What it was.
    pub what: What,
}

/// Kinds of deeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Asked for something where no credentials are needed.
    Uses,
    /// Asked without credentials that could be right: to be challenged.
    Asks,
    /// Brought credentials under a nonce of ours that are still to be checked.
    Tries,
    /// They were wrong.
    Fails,
    /// They were right.
    Proves,
    /// Named itself as a program that looks for victims.
    Scans,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The answer.
    pub outcome: Outcome,
    /// Why it is not served; "" when it is.
    pub why: &'static str,
    /// What is new and worth telling; not every packet is.
    pub notice: Option<Measure>,
}

/// See [`Ruling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Go on.
    Pass,
    /// Not a word.
    Silence,
    /// It is who it says, and asks too often: later.
    Later,
}

/// What the shield did about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One account is not heard from there for so long.
    BannedAccount(Duration),
    /// Nobody is heard from there for so long but who proved itself lately.
    BannedSource(Duration),
    /// What is over the limit is not answered.
    Limited,
    /// A scanner is not answered.
    Ignored,
}

impl Ruling {
    /// Go on.
    pub const PASS: Ruling = Ruling { outcome: Outcome::Pass, why: "", notice: None };

    fn silence(why: &'static str, notice: Option<Measure>) -> Ruling {
        Ruling { outcome: Outcome::Silence, why, notice }
    }
}

/// Why somebody is not heard.
pub mod why {
    /// More requests than one source may send.
    pub const REQUESTS: &str = "shield: more requests from this source than its limit";
    /// More requests without credentials than one source may send.
    pub const STRANGERS: &str = "shield: more requests without credentials from this source than its limit";
    /// More requests without credentials than all may send.
    pub const EVERYBODY: &str =
        "shield: more requests without credentials than all sources together may send";
    /// More names than one source may ask for.
    pub const NAMES: &str = "shield: one source tries many names";
    /// More requests than one account may send.
    pub const ACCOUNT: &str = "shield: more requests of this account than its limit";
    /// Wrong passwords of one account.
    pub const PASSWORDS: &str = "shield: wrong passwords of one account";
    /// Wrong passwords of many accounts.
    pub const MANY_PASSWORDS: &str = "shield: wrong passwords from one source";
    /// A ban holds.
    pub const BANNED: &str = "shield: banned for the time being";
    /// The operator said so.
    pub const OPERATOR: &str = "shield: banned by the operator";
    /// A program that looks for victims.
    pub const SCANNER: &str = "shield: its User-Agent is a scanner's";
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were not answered.
    pub silenced: u64,
    /// Of those, scanners' requests.
    pub scanners: u64,
    /// Failures that counted.
    pub failures: u64,
    /// Bans so far.
    pub bans: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Shield {
    policy: Policy,
    born: Instant,
    secret: [u64; 2],
    ledger: Ledger,
    everybody: Bucket,
    bans: Bans,
    /// What the operator let pass while we run.
    allowed: Vec<Cidr>,
    counts: Counts,
}

/// How long a success is remembered, in milliseconds: twice the longest time between two registrations.
const STANDING: u64 = 2 * 3_600_000;
/// Failures that one success takes back from its source.
const CREDIT: f32 = 3.0;
/// How often one source is told about, in milliseconds.
const TOLD: u64 = 10_000;
/// So many requests without credentials may come at once, as a multiple of their rate: an office whose phones all start.
const STRANGERS_BURST: f32 = 8.0;
/// As much for one account.
const ACCOUNT_BURST: f32 = 5.0;
/// What a request costs that comes from a source which asks for very many names.
const TARPIT: f32 = 100.0;
/// Very many names, as [`ledger`] counts them: about 75, when nobody there has ever proven anything.
const MANY_ASKED: u32 = 44;
/// Addresses that an operator can let pass without the configuration.
const ALLOWED: usize = 1024;

/// The buckets of a line in the ledger.
const REQUESTS: usize = 0;
const STRANGERS: usize = 1;
const FAILURES: usize = 2;
const GARBAGE: usize = 3;
/// Its sets of names.
const ASKED: usize = 0;
const FAILED: usize = 1;
/// The source in the key of an account, wherever it is used.
const NOWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Shield {
    /// One that has seen nobody. The secret keys its hashes, so that nobody outside can aim at a line of the ledger.
    pub fn new(now: Instant, secret: [u64; 2], policy: Policy) -> Shield {
        Shield {
            policy,
            born: now,
            secret,
            ledger: Ledger::default(),
            everybody: Bucket::default(),
            bans: Bans::default(),
            allowed: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Another policy from now on. What was counted stays; who is exempt now is no longer banned.
    pub fn reconfigure(&mut self, policy: Policy) {
        self.policy = policy;
        let (policy, allowed) = (&self.policy, &self.allowed);
        self.bans.retain(|ban| !is_exempt(policy, allowed, ban.source));
    }

    /// What to do with a deed.
    pub fn judge(&mut self, now: Instant, deed: &Deed<'_>) -> Ruling {
        if !self.policy.enabled || is_exempt(&self.policy, &self.allowed, deed.source) {
            return Ruling::PASS;
        }
        let (now, source) = (self.ms(now), counted_as(deed.source));
        let ruling = match deed.what {
            What::Uses => self.over_requests(now, source).unwrap_or(Ruling::PASS),
            What::Asks => self.asks(now, source, deed.name),
            What::Tries => self.tries(now, source, deed.name),
            What::Fails => self.fails(now, source, deed),
            What::Proves => self.proves(now, source, deed.name),
            What::Scans => self.scans(now, source),
        };
        self.counts.silenced += u64::from(ruling.outcome == Outcome::Silence);
        ruling
    }

    /// Whether nothing from there is even to be read: banned as a whole, with nobody behind it who proved itself.
    pub fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        if self.is_idle(now) || is_exempt(&self.policy, &self.allowed, source) {
            return false;
        }
        let (now, source) = (self.ms(now), counted_as(source));
        let key = self.whole(source);
        let banned = |ban: &Ban| ban.by_operator || !self.is_good(now, key);
        self.policy.deny.iter().any(|cidr| cidr.contains(source))
            || self.bans.find(now, key).is_some_and(banned)
    }

    /// Whether nothing could be shut out: then nobody needs to ask until the next ban or policy.
    pub fn is_idle(&self, now: Instant) -> bool {
        !self.policy.enabled || (self.bans.is_over(self.ms(now)) && self.policy.deny.is_empty())
    }

    /// Counts something unreadable; `false`: over the limit.
    pub fn garbage(&mut self, now: Instant, source: IpAddr) -> bool {
        self.counted(now, source, GARBAGE, self.policy.garbage)
    }

    /// Counts a request outside dialogs; `false`: over the limit.
    pub fn request(&mut self, now: Instant, source: IpAddr) -> bool {
        self.counted(now, source, REQUESTS, self.policy.requests)
    }

    fn counted(&mut self, now: Instant, source: IpAddr, bucket: usize, rate: u32) -> bool {
        if !self.policy.enabled || rate == 0 || is_exempt(&self.policy, &self.allowed, source) {
            return true;
        }
        let now = self.ms(now);
        let line = self.source_line(now, counted_as(source));
        self.ledger.fill(line, bucket, rate as f32, 1.0)
    }

    fn asks(&mut self, now: u64, source: IpAddr, name: &str) -> Ruling {
        let good = self.is_good(now, self.pair(source, name));
        if !good && self.bans.find(now, self.whole(source)).is_some() {
            return Ruling::silence(why::BANNED, None);
        }
        match self.over_requests(now, source) {
            Some(ruling) => ruling,
            None if good => Ruling::PASS,
            None => self.stranger(now, source, name),
        }
    }

    /// A request of somebody we know nothing good about. A source that asks for very many names is answered a hundred
    /// times slower, whichever name it asks for: that reveals nothing, and a phone that repeats itself still gets through.
    fn stranger(&mut self, now: u64, source: IpAddr, name: &str) -> Ruling {
        let line = self.source_line(now, source);
        let names = self.ledger.note_name(line, now, ASKED, self.hash(source, name), self.window());
        let many = names > MANY_ASKED && !self.ledger.is_good(line, now);
        let (rate, all) = (self.policy.strangers as f32, self.policy.everybody as f32);
        let cost = if many { TARPIT } else { 1.0 };
        if rate > 0.0 && !self.ledger.fill(line, STRANGERS, rate * STRANGERS_BURST, cost) {
            return self.limited(now, line, if many { why::NAMES } else { why::STRANGERS });
        }
        if all > 0.0 && !self.everybody.fill(now, all) {
            return self.limited(now, line, why::EVERYBODY);
        }
        Ruling::PASS
    }

    fn over_requests(&mut self, now: u64, source: IpAddr) -> Option<Ruling> {
        let rate = self.policy.requests as f32;
        let line = self.source_line(now, source);
        let within = rate == 0.0 || self.ledger.fill(line, REQUESTS, rate, 1.0);
        (!within).then(|| self.limited(now, line, why::REQUESTS))
    }

    fn limited(&mut self, now: u64, line: usize, why: &'static str) -> Ruling {
        Ruling::silence(why, self.ledger.tell(line, now, TOLD).then_some(Measure::Limited))
    }

    fn tries(&mut self, now: u64, source: IpAddr, name: &str) -> Ruling {
        let (pair, whole) = (self.pair(source, name), self.whole(source));
        let banned = self.bans.find(now, pair).is_some()
            || (self.bans.find(now, whole).is_some() && !self.is_good(now, pair));
        match banned {
            true => Ruling::silence(why::BANNED, None),
            false => self.over_requests(now, source).unwrap_or(Ruling::PASS),
        }
    }

    fn fails(&mut self, now: u64, source: IpAddr, deed: &Deed<'_>) -> Ruling {
        if !deed.real {
            return self.stranger(now, source, deed.name);
        }
        self.counts.failures += 1;
        let rates = [0.0, 0.0, self.per_window(self.policy.failures), 0.0];
        let pair = self.ledger.line(now, self.pair(source, deed.name), rates);
        if !deed.name.is_empty() && !self.ledger.fill(pair, FAILURES, self.policy.failures as f32, 1.0) {
            self.ledger.empty(pair, FAILURES);
            return self.bans(now, source, deed.name, why::PASSWORDS);
        }
        let whole = self.source_line(now, source);
        let names = self.ledger.note_name(whole, now, FAILED, self.hash(source, deed.name), self.window());
        let many = names > self.policy.names;
        if many || !self.ledger.fill(whole, FAILURES, self.policy.source_failures as f32, 1.0) {
            self.ledger.empty(whole, FAILURES);
            return self.bans(now, source, "", if many { why::NAMES } else { why::MANY_PASSWORDS });
        }
        Ruling::PASS
    }

    fn bans(&mut self, now: u64, source: IpAddr, name: &str, why: &'static str) -> Ruling {
        self.counts.bans += 1;
        let key = if name.is_empty() { self.whole(source) } else { self.pair(source, name) };
        let lasts = self.bans.add(now, key, Ban::new(source, name, why), &self.policy);
        let whole = name.is_empty();
        let measure = if whole { Measure::BannedSource(lasts) } else { Measure::BannedAccount(lasts) };
        Ruling::silence(why, Some(measure))
    }

    fn proves(&mut self, now: u64, source: IpAddr, name: &str) -> Ruling {
        let pair = self.ledger.line(now, self.pair(source, name), [0.0; 4]);
        self.ledger.empty(pair, FAILURES);
        self.ledger.praise(pair, now + STANDING);
        let whole = self.source_line(now, source);
        self.ledger.take_back(whole, FAILURES, CREDIT);
        self.ledger.praise(whole, now + STANDING);
        let rate = self.policy.account as f32;
        let account = self.ledger.line(now, self.pair(NOWHERE, name), [rate, 0.0, 0.0, 0.0]);
        if rate > 0.0 && !self.ledger.fill(account, REQUESTS, rate * ACCOUNT_BURST, 1.0) {
            let notice = self.ledger.tell(account, now, TOLD).then_some(Measure::Limited);
            return Ruling { outcome: Outcome::Later, why: why::ACCOUNT, notice };
        }
        Ruling::PASS
    }

    fn scans(&mut self, now: u64, source: IpAddr) -> Ruling {
        self.counts.scanners += 1;
        let line = self.source_line(now, source);
        Ruling::silence(why::SCANNER, self.ledger.tell(line, now, TOLD).then_some(Measure::Ignored))
    }

    /// The line of a source, what has leaked away since it was last looked at already taken off.
    fn source_line(&mut self, now: u64, source: IpAddr) -> usize {
        let Policy { requests, strangers, source_failures, garbage, .. } = self.policy;
        let rates = [requests as f32, strangers as f32, self.per_window(source_failures), garbage as f32];
        self.ledger.line(now, self.whole(source), rates)
    }

    fn per_window(&self, times: u32) -> f32 {
        times as f32 / self.policy.window.as_secs_f32().max(1.0)
    }

    fn window(&self) -> u64 {
        self.policy.window.as_millis() as u64
    }

    fn is_good(&self, now: u64, key: u64) -> bool {
        self.ledger.find(key).is_some_and(|line| self.ledger.is_good(line, now))
    }

    /// The key of an account at a source.
    fn pair(&self, source: IpAddr, name: &str) -> u64 {
        self.hash(source, name).max(1)
    }

    /// The key of a source: no name of an account has the same.
    fn whole(&self, source: IpAddr) -> u64 {
        self.hash(source, "").wrapping_add(1).max(1)
    }

    fn hash(&self, source: IpAddr, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret[0]);
        hasher.write_u64(self.secret[1]);
        match source {
            IpAddr::V4(ip) => hasher.write_u32(ip.into()),
            IpAddr::V6(ip) => hasher.write_u128(ip.into()),
        }
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// The first millisecond is 1: a line at 0 was never touched.
    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64 + 1
    }
}

/// A source as it is counted: an IPv4 address, or the /64 that one IPv6 customer has to himself.
pub fn counted_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Who is never limited: this very machine, and whom the configuration or the operator names.
fn is_exempt(policy: &Policy, allowed: &[Cidr], source: IpAddr) -> bool {
    source.to_canonical().is_loopback()
        || policy.allow.iter().chain(allowed).any(|cidr| cidr.contains(source))
}

#[cfg(test)]
mod tests;
