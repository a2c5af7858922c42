//! What is worth telling while it happens: whether the phone is registered, and how far its calls have come. One event for each
//! change, none for a refresh and none per packet.

use proto::event::{Event, Name, Side, Turn};
use proto::node::Output;

use crate::call::{Call, Stage};
use crate::phone::Phone;
use crate::report::EndedBy;
use crate::script::After;

impl Phone {
    /// A REGISTER came to its end, or a flow did: tells what is new about it.
    pub(crate) fn tell_registration(&mut self, status: u16) {
        let now = (self.report.registered, status);
        let same = match self.told_registered {
            Some((true, _)) => now.0,
            told => told == Some(now),
        };
        if !same {
            self.told_registered = Some(now);
            let (registered, status) = now;
            self.tell(Event::PhoneRegistered { phone: self.own_name(), registered, status });
        }
    }

    /// The call there is has come so far for the first time.
    pub(crate) fn tell_call(&mut self, milestone: After) {
        let Some(call) = &self.call else { return };
        let turn = match milestone {
            After::Ringing if call.stage == Stage::Ringing => Turn::Rings(Side::Callee),
            After::Ringing => Turn::Rings(Side::Caller),
            After::Answered => Turn::Answered,
            _ => return,
        };
        self.tell_turn(party(call), turn);
    }

    /// This call is over, which may be the one that waited.
    pub(crate) fn tell_end(&mut self, call: &Call, by: EndedBy) {
        let turn = match call.stage {
            Stage::Up | Stage::Ending => Turn::Ended { by_us: by == EndedBy::Us },
            _ => Turn::Failed { status: self.report.call_status },
        };
        self.tell_turn(party(call), turn);
    }

    fn tell_turn(&mut self, with: Name, turn: Turn) {
        self.tell(Event::PhoneCall { phone: self.own_name(), with, turn });
    }

    fn own_name(&self) -> Name {
        self.report.name.as_str().into()
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }
}

/// With whom.
fn party(call: &Call) -> Name {
    call.dialog.party().unwrap_or("somebody").into()
}
