//! Answers given lately, by who asked and with which cookie: a repetition gets the same answer and changes nothing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::Flow;

/// How long an answer is kept: clients give up long before.
const LIFE: Duration = Duration::from_secs(30);
/// Answers kept at most; their bytes are bounded by it, too.
const MOST: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    answers: HashMap<(Flow, Box<[u8]>), Bytes>,
    order: VecDeque<(Instant, Flow, Box<[u8]>)>,
}

impl Cookies {
    /// The answer to a repetition.
    pub(crate) fn known(&mut self, now: Instant, flow: Flow, cookie: &[u8]) -> Option<Bytes> {
        self.forget(now);
        self.answers.get(&(flow, cookie.into())).cloned()
    }

    /// Remembers an answer.
    pub(crate) fn keep(&mut self, now: Instant, flow: Flow, cookie: &[u8], answer: Bytes) {
        let cookie: Box<[u8]> = cookie.into();
        if self.answers.insert((flow, cookie.clone()), answer).is_none() {
            self.order.push_back((now, flow, cookie));
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, ..)) = self.order.front()
            && (now.saturating_duration_since(*at) > LIFE || self.order.len() > MOST)
            && let Some((_, flow, cookie)) = self.order.pop_front()
        {
            self.answers.remove(&(flow, cookie));
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "one Instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_for_half_a_minute_and_no_longer() {
        let now = Instant::now();
        let flow = |port| Flow::udp(([127, 0, 0, 1], 2223).into(), ([127, 0, 0, 1], port).into());
        let mut cookies = Cookies::default();
        cookies.keep(now, flow(1), b"c", Bytes::from_static(b"yes"));
        assert_eq!(cookies.known(now + LIFE, flow(1), b"c").as_deref(), Some(&b"yes"[..]));
        assert_eq!(cookies.known(now + LIFE, flow(2), b"c"), None, "another client's");
        assert_eq!(cookies.known(now + LIFE + Duration::from_millis(1), flow(1), b"c"), None);
    }
}
