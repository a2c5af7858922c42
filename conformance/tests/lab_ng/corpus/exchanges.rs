//! Exchanges that go on: second offers, forks, and commands that mean nothing.

use conformance::lab::ng::{list, text};

use crate::story::{Step, Story, a, answer, b, offer, plain, story, tagged, with};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        story(
            "a second exchange, by the caller, then by the callee",
            vec![
                offer(a(), plain()),
                answer(b(), plain()),
                tagged(offer(a() + "a=sendonly\r\n", plain()), ["a", "b"]),
                answer(b().replace("sendrecv", "recvonly"), plain()),
                tagged(offer(b(), plain()), ["b", "a"]),
                tagged(answer(a(), plain()), ["b", "a"]),
            ],
        ),
        story(
            "video is added and refused",
            vec![
                offer(a(), plain()),
                answer(b(), plain()),
                tagged(
                    offer(a() + "m=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n", plain()),
                    ["a", "b"],
                ),
                answer(b() + "m=video 0 RTP/AVP 96\r\n", plain()),
            ],
        ),
        story(
            "branches of a fork",
            vec![
                offer(a(), with(vec![("via-branch", text("1"))])),
                offer(a(), with(vec![("via-branch", text("2"))])),
                answer(b(), with(vec![("via-branch", text("1"))])),
                tagged(answer(b(), with(vec![("via-branch", text("2"))])), ["a", "c"]),
            ],
        ),
        story(
            "forks without a branch",
            vec![offer(a(), plain()), answer(b(), plain()), tagged(answer(b(), plain()), ["a", "c"])],
        ),
        story(
            "commands without a call",
            vec![
                Step { command: "query", ..offer("", Vec::new()) },
                Step { command: "delete", ..offer("", Vec::new()) },
                Step { command: "delete", ..offer("", vec![("flags", list(&["fatal"]))]) },
                Step { command: "dance", ..offer("", Vec::new()) },
                tagged(answer(b(), plain()), ["x", "y"]),
                offer("rubbish", plain()),
            ],
        ),
    ]
}
