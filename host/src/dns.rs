//! Names to addresses: [`proto::resolve`] says what to ask and orders what is found, hickory asks.
//!
//! hickory caches by TTL. What it does not cache (NXDOMAIN without SOA, servers that don't answer) is remembered here
//! for a few seconds, so that a dead name does not cost every call the full wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use proto::node::{Answer, Birth, Dice, Lane, Question, Transport};
use proto::resolve::{Found, Lookup, Naptr, Resolution, Srv, Step};
use proxy::routing::numbers::Record;

use crate::lanes::post::PostOffice;

/// The longest a question may take, all its look-ups together.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long a look-up that found nothing is not tried again.
const NEGATIVE: Duration = Duration::from_secs(5);
/// Look-ups without result that are remembered at most.
const NEGATIVES: usize = 4_096;

/// Resolves names for all lanes.
#[derive(Debug)]
pub struct Names {
    /// Knows what we can send by.
    post: Arc<PostOffice>,
    resolver: TokioResolver,
    missing: Mutex<HashMap<Lookup, Instant>>,
    dice: Mutex<Dice>,
}

impl Names {
    /// With the system's resolver configuration, for who can send by these.
    pub fn from_system(post: Arc<PostOffice>) -> Result<Names, String> {
        let builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        let (now, wall) = (Instant::now(), SystemTime::now());
        let birth = Birth { now, wall, seed: crate::keys::random(), lane: Lane::default() };
        Ok(Names { post, resolver, missing: Mutex::default(), dice: Mutex::new(birth.dice(0)) })
    }

    /// Answers a question, within its deadline.
    pub async fn answer(&self, question: Question) -> Answer {
        let (host, port, transport, secure) = match question {
            Question::Resolve { host, port, transport, secure } => (host, port, transport, secure),
            Question::Enum { domain, number } => return self.number(&domain, &number).await,
            Question::Http { url, .. } => return Answer::Nothing(format!("{url} is no name")),
            Question::Work(_) => return Answer::Nothing("work is no name".to_owned()),
        };
        let resolution = Resolution::new(&host, port, transport, secure, &self.post.transports());
        match tokio::time::timeout(DEADLINE, self.resolve(resolution)).await {
            Ok(targets) if targets.is_empty() => {
                Answer::Nothing(format!("{host} has no address we can send to"))
            }
            Ok(targets) => Answer::Targets(targets),
            Err(_) => Answer::Nothing(format!(
                "no name server told us about {host} within {} s",
                DEADLINE.as_secs()
            )),
        }
    }

    /// RFC 6116: the URIs of a number, in the order of its records (RFC 3402 §3.3). hickory caches them by TTL.
    async fn number(&self, domain: &str, number: &str) -> Answer {
        let nothing = |why: &str| Answer::Nothing(format!("{domain}: {why}"));
        let asked = self.resolver.lookup(format!("{domain}."), RecordType::NAPTR);
        let Ok(answer) = tokio::time::timeout(DEADLINE, asked).await else {
            return nothing("no name server told us in time");
        };
        let records = answer.map(|answer| answer.answers().to_vec()).unwrap_or_default();
        let mut found: Vec<(u16, u16, String)> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::NAPTR(naptr) => Some(naptr),
                _ => None,
            })
            .filter_map(|naptr| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let [flags, service, regexp] =
                    [&naptr.flags, &naptr.services, &naptr.regexp].map(|b| text(b));
                let record = Record { flags: &flags, service: &service, regexp: &regexp };
                Some((naptr.order, naptr.preference, record.uri(number)?))
            })
            .collect();
        found.sort();
        match found.is_empty() {
            true => nothing("no SIP URI stands there"),
            false => Answer::Uris(found.into_iter().map(|(_, _, uri)| uri).collect()),
        }
    }

    async fn resolve(&self, mut resolution: Resolution) -> Vec<(Transport, std::net::SocketAddr)> {
        loop {
            let step =
                resolution.step(&mut self.dice.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            match step {
                Step::Done(targets) => return targets,
                Step::Ask(lookups) => {
                    for lookup in lookups {
                        let found = self.find(&lookup).await;
                        resolution.answer(lookup, found);
                    }
                }
            }
        }
    }

    async fn find(&self, lookup: &Lookup) -> Found {
        if self.is_missing(lookup) {
            return Found::Nothing;
        }
        let found = match lookup {
            Lookup::Naptr(name) => self.records(name, RecordType::NAPTR, naptr).await.map(Found::Naptr),
            Lookup::Srv(name) => self.records(name, RecordType::SRV, srv).await.map(Found::Srv),
            Lookup::Addresses(name) => self.addresses(name).await,
        };
        found.unwrap_or_else(|| {
            self.remember_missing(lookup);
            Found::Nothing
        })
    }

    /// Names are asked as they are, never with a search domain.
    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Option<Vec<T>> {
        let answer = self.resolver.lookup(format!("{name}."), kind).await.ok()?;
        let records: Vec<T> = answer.answers().iter().filter_map(|record| read(&record.data)).collect();
        (!records.is_empty()).then_some(records)
    }

    /// Names of the hosts file count, too.
    async fn addresses(&self, name: &str) -> Option<Found> {
        let found = self.resolver.lookup_ip(format!("{name}.")).await.ok()?;
        let mut addresses: Vec<std::net::IpAddr> = found.iter().collect();
        addresses.sort_by_key(std::net::IpAddr::is_ipv6);
        (!addresses.is_empty()).then_some(Found::Addresses(addresses))
    }

    fn is_missing(&self, lookup: &Lookup) -> bool {
        let missing = self.missing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        missing.get(lookup).is_some_and(|since| since.elapsed() < NEGATIVE)
    }

    fn remember_missing(&self, lookup: &Lookup) {
        let mut missing = self.missing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if missing.len() >= NEGATIVES {
            missing.retain(|_, since| since.elapsed() < NEGATIVE);
        }
        if missing.len() < NEGATIVES {
            missing.insert(lookup.clone(), Instant::now());
        }
    }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
        service: String::from_utf8_lossy(&naptr.services).into_owned(),
        replacement: bare(&naptr.replacement.to_utf8()),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    Some(Srv {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: bare(&srv.target.to_utf8()),
    })
}

/// Without the root's dot.
fn bare(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}
