//! What a node says and hears, put differently: session descriptions of other makes of phones, or of liars, in the
//! mouth of a phone that knows only audio.

use bytes::Bytes;
use proto::node::{Input, Output};
use proto::sip::Message;

use super::{NodeId, World};

/// How a node's session descriptions are changed.
#[derive(Clone, Copy, Debug)]
pub struct Tongue {
    /// In what it sends.
    pub says: fn(&str) -> String,
    /// In what it is sent.
    pub hears: fn(&str) -> String,
}

impl World {
    /// From now on a node's session descriptions are changed so.
    pub fn give_tongue(&mut self, node: NodeId, tongue: Tongue) {
        self.nodes[node.0].tongue = Some(tongue);
    }
}

impl Tongue {
    pub(super) fn output(self, output: Output) -> Output {
        match output.on_the_wire() {
            Output::Send { flow, bytes, ticket } => {
                let said =
                    Message::parse(bytes.clone()).ok().and_then(|message| reworded(&message, self.says));
                Output::Send { flow, bytes: said.map_or(bytes, |message| message.bytes().clone()), ticket }
            }
            other => other,
        }
    }

    pub(super) fn input(self, input: Input) -> Input {
        match input {
            Input::Message { flow, message } => {
                let message = reworded(&message, self.hears).unwrap_or(message);
                Input::Message { flow, message }
            }
            other => other,
        }
    }
}

fn reworded(message: &Message, words: fn(&str) -> String) -> Option<Message> {
    let (_, sdp) = message.sdp()?;
    let sdp = words(std::str::from_utf8(sdp).ok()?);
    Some(message.edit().sdp(&Bytes::from(sdp)).finish())
}
