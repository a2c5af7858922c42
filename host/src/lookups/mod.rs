//! Routes by HTTP ([`proto::lookup`]): what servers say of calls is fetched, remembered for as long as they say, and never waited
//! for longer than a route allows.
//!
//! Calls that ask the same at once are answered together. At most [`AT_ONCE`] requests are under way, the others wait within their
//! own time. A server that fails is not asked the same again for a while (`negative`).

mod fetch;
mod said;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::lookup::Lookup;
use proto::node::Answer;
use tokio::sync::{OnceCell, Semaphore};

use fetch::{Connections, Page};

/// Requests under way at a time.
const AT_ONCE: usize = 64;
/// Answers remembered at most.
const REMEMBERED: usize = 16_384;
/// No answer is remembered for longer, whatever its server says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Asks for all lanes.
#[derive(Debug)]
pub struct Lookups {
    connections: Connections,
    permits: Semaphore,
    known: Mutex<HashMap<String, (Answer, Instant)>>,
    under_way: Mutex<HashMap<String, Arc<OnceCell<Answer>>>>,
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups {
            connections: Connections::default(),
            permits: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
            under_way: Mutex::default(),
        }
    }
}

impl Lookups {
    /// What the server behind this URL says, from memory or fetched.
    pub async fn answer(&self, lookup: &Lookup, url: String) -> Answer {
        if let Some(known) = self.known(&url) {
            return known;
        }
        let shared = locked(&self.under_way).entry(url.clone()).or_default().clone();
        let answer = shared.get_or_init(|| self.fetch(lookup, &url)).await.clone();
        let mut under_way = locked(&self.under_way);
        if under_way.get(&url).is_some_and(|there| Arc::ptr_eq(there, &shared)) {
            under_way.remove(&url);
        }
        answer
    }

    async fn fetch(&self, lookup: &Lookup, url: &str) -> Answer {
        let asked = async {
            let _permit = self.permits.acquire().await;
            self.connections.fetch(url, lookup.token.as_deref()).await
        };
        let page = match tokio::time::timeout(lookup.timeout, asked).await {
            Ok(page) => page,
            Err(_) => Err(format!("no answer within {} ms", lookup.timeout.as_millis())),
        };
        let (answer, life) = match page.and_then(|page| understood(lookup, &page)) {
            Ok(understood) => understood,
            Err(why) => {
                tracing::warn!(
                    server = lookup.server(),
                    why,
                    "a route's HTTP server is of no use: the next route decides"
                );
                (Answer::Nothing(why), lookup.negative)
            }
        };
        self.remember(url, &answer, life);
        answer
    }

    fn known(&self, url: &str) -> Option<Answer> {
        let known = locked(&self.known);
        known.get(url).filter(|(_, until)| *until > Instant::now()).map(|(answer, _)| answer.clone())
    }

    fn remember(&self, url: &str, answer: &Answer, life: Duration) {
        let (now, mut known) = (Instant::now(), locked(&self.known));
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < REMEMBERED && !life.is_zero() {
            known.insert(url.to_owned(), (answer.clone(), now + life.min(LONGEST_LIFE)));
        }
    }
}

/// What a page says, and for how long. 404 and 204 say that the server knows nothing of this call, which is no failure.
fn understood(lookup: &Lookup, page: &Page) -> Result<(Answer, Duration), String> {
    match page.status {
        200 => {
            let (advice, life) = said::read(&page.body)?;
            let answer = advice.map_or(Answer::Nothing("nothing is said of it".into()), Answer::Advice);
            Ok((answer, life.unwrap_or(lookup.cache)))
        }
        204 | 404 => Ok((Answer::Nothing("nothing is known of it".into()), lookup.negative)),
        status => Err(format!("it answers {status}; expected 200 with JSON, or 404")),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
