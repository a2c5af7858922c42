//! What a proxy asks for in SIP, and what it gets: ports, SDP, refusals (`proto::control`).

#[path = "../rig/mod.rs"]
mod rig;

mod ports;
mod requests;
mod sections;

use proto::control::{Mode, Session};
use proto::event::{Event, Release, Side};
use proto::node::{Flow, Input};
use proto::sip::{Message, Name};
use relay::{Config, Why};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const S: Session = Session(1);

/// A phone whose m= sections are these.
fn with(media: &str, sections: &[&str]) -> String {
    public(media).head() + &sections.concat()
}

fn text(message: &Message) -> &str {
    str::from_utf8(message.body()).unwrap()
}

impl Talk {
    fn new() -> Talk {
        let mut rig = Rig::new(config());
        let call = rig.call(1, &public(A), &public(B));
        Talk { rig, call }
    }

    /// One party's new description.
    fn says(&mut self, leg: Side, sdp: &str) -> Message {
        let phone = if leg == Side::Caller { public(A) } else { public(B) };
        self.rig.invite(&phone.ask(S, leg), sdp, true)
    }
}

struct Talk {
    rig: Rig,
    call: Call,
}

fn audio() -> String {
    "m=audio 4000 RTP/AVP 0\r\n".to_owned()
}
