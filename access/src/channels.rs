//! Channels: buddies of whom one has no UDP hear one another through the server, each by the path it has to it. What is said
//! by a channel is not looked at; who may not talk to whom has none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use proto::event::Registration;
use proto::node::{Flow, Transport};
use proto::peer::channel::{self, CHANNELS, FIRST};

use crate::accounts::Number;
use crate::server::Access;

/// Who has which channels.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// By whose path something comes: of those with channels or connections alone.
    paths: BTreeMap<(SocketAddr, u64), Number>,
    /// Where each one's channels lead, the first one's first.
    ends: BTreeMap<Number, Vec<Option<Number>>>,
}

impl Channels {
    /// A device is met by this path now.
    pub(crate) fn met(&mut self, flow: Flow, number: Number) {
        self.paths.insert((flow.remote, flow.id.0), number);
    }

    /// … and by that one no more.
    pub(crate) fn left(&mut self, flow: Flow) {
        self.paths.remove(&(flow.remote, flow.id.0));
    }

    /// Whose path it was when that was noted last.
    pub(crate) fn whose(&self, flow: Flow) -> Option<Number> {
        self.paths.get(&(flow.remote, flow.id.0)).copied()
    }

    /// Makes sure that one has a channel to another; more than there are numbers for have none.
    fn dig(&mut self, own: Number, other: Number) {
        let ends = self.ends.entry(own).or_default();
        if ends.contains(&Some(other)) {
            return;
        }
        match ends.iter().position(Option::is_none) {
            Some(free) => ends[free] = Some(other),
            None if ends.len() < CHANNELS => ends.push(Some(other)),
            None => {}
        }
    }

    /// One's channel to another.
    pub(crate) fn channel(&self, own: Number, other: Number) -> Option<u16> {
        let place = self.ends.get(&own)?.iter().position(|end| *end == Some(other))?;
        Some(FIRST + place as u16)
    }

    fn end(&self, own: Number, channel: u16) -> Option<Number> {
        *self.ends.get(&own)?.get(usize::from(channel.checked_sub(FIRST)?))?
    }

    /// All channels of one that is gone, at both ends.
    pub(crate) fn fill(&mut self, gone: Number) {
        for other in self.ends.remove(&gone).unwrap_or_default().into_iter().flatten() {
            let ends = self.ends.get_mut(&other).into_iter().flatten();
            ends.filter(|end| **end == Some(gone)).for_each(|end| *end = None);
        }
    }
}

impl Access {
    /// A channel between two devices that can't do without.
    pub(crate) fn dig_channel(&mut self, one: Number, other: Number) {
        let (Some(from), Some(to)) = (self.accounts.device_of(one), self.accounts.device_of(other)) else {
            return;
        };
        if from.verdict.udp && to.verdict.udp {
            return;
        }
        for (flow, own, end) in [(from.flow, one, other), (to.flow, other, one)] {
            self.channels.met(flow, own);
            self.channels.dig(own, end);
        }
    }

    /// What is said by a channel goes on by the other's, as long as both want that.
    pub(crate) fn pass_through(&mut self, flow: Flow, bytes: &[u8]) {
        let Some((channel, said)) = channel::unwrap(bytes) else { return };
        if channel == channel::LINE {
            return self.say_outside(flow, said);
        }
        let Some(own) = self.online_by(flow) else { return };
        let Some(other) =
            self.channels.end(own, channel).filter(|other| self.accounts.are_mutual(own, *other))
        else {
            return;
        };
        let back = self.channels.channel(other, own);
        if let (Some(back), Some(device)) = (back, self.accounts.device_of(other)) {
            self.send(device.flow, channel::wrap(back, said));
        }
    }

    /// Whose device is met by this path.
    pub(crate) fn online_by(&self, flow: Flow) -> Option<Number> {
        let number = self.channels.whose(flow)?;
        self.accounts.device_of(number).filter(|device| device.flow == flow).map(|_| number)
    }

    /// Who was met by a connection that is closed is gone, until it logs in again.
    pub(crate) fn connection_closed(&mut self, now: Instant, flow: Flow) {
        let gone = self.online_by(flow);
        self.channels.left(flow);
        let Some(number) = gone else { return };
        let aor = self.accounts.name(number).to_owned();
        self.tell_gone(now, number);
        let device = self.accounts.log_out(&aor);
        self.forget_device(number, device);
        self.tell_registered(&aor, flow, Registration::Lost);
    }

    /// A login came by this path; by another one than before, the channels are dug anew.
    pub(crate) fn met_by(&mut self, number: Number, before: Option<Flow>, flow: Flow) {
        if let Some(before) = before.filter(|before| *before != flow) {
            self.channels.left(before);
            self.channels.fill(number);
        }
        if flow.transport != Transport::Udp {
            self.channels.met(flow, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_leads_to_the_same_end_until_that_is_gone() {
        let mut channels = Channels::default();
        for other in [7, 8, 9] {
            channels.dig(1, other);
            channels.dig(other, 1);
        }
        channels.dig(1, 8);
        assert_eq!([7, 8, 9].map(|other| channels.channel(1, other)), [0, 1, 2].map(|n| Some(FIRST + n)));
        channels.fill(8);
        assert_eq!((channels.end(1, FIRST + 1), channels.channel(8, 1)), (None, None));
        assert_eq!(channels.end(1, FIRST + 2), Some(9), "the others stay where they are");
        channels.dig(1, 5);
        assert_eq!(channels.end(1, FIRST + 1), Some(5));
        assert_eq!(channels.end(1, FIRST + 99), None);
    }

    #[test]
    fn there_are_255_and_no_more() {
        let mut channels = Channels::default();
        (2..400).for_each(|other| channels.dig(1, other));
        assert_eq!((channels.end(1, FIRST + 254), channels.channel(1, 399)), (Some(256), None));
    }
}
