//! A byte stream, cut where the first byte says: cutting must not change what comes out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::sip::{Frame, Framer, Message};

fuzz_target!(|data: &[u8]| {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = messages(stream, stream.len().max(1));
    assert_eq!(messages(stream, usize::from(piece).max(1)), whole);
    for frame in whole {
        if let Frame::Message(bytes) = frame {
            let _ = Message::parse(bytes);
        }
    }
});

/// The messages of a stream; a ping in two pieces looks different from one in one piece, so they are left out.
fn messages(stream: &[u8], piece: usize) -> Vec<Frame> {
    let mut framer = Framer::default();
    let mut seen = Vec::new();
    for bytes in stream.chunks(piece) {
        framer.push(bytes);
        seen.extend(std::iter::from_fn(|| framer.poll()).filter(|frame| matches!(frame, Frame::Message(_))));
    }
    seen
}
