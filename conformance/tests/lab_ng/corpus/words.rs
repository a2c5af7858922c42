//! Words that ask for addresses, networks, origins and directions.

use conformance::lab::ng::{list, text};

use crate::story::{Story, a, answer, b, both, offer, plain, replaced, story, with};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        both("nothing but ICE=remove", plain()),
        both("replace-origin", replaced(&["origin"])),
        both("replace-origin and replace-session-connection", replaced(&["origin", "session-connection"])),
        story(
            "between two networks",
            vec![
                offer(
                    a(),
                    with(vec![("direction", list(&["default", "office"])), ("replace", list(&["origin"]))]),
                ),
                answer(
                    b(),
                    with(vec![("direction", list(&["office", "default"])), ("replace", list(&["origin"]))]),
                ),
            ],
        ),
        both("a network nobody knows", with(vec![("direction", list(&["moon", "mars"]))])),
        both("generate-mid", with(vec![("flags", list(&["generate-mid"]))])),
        story(
            "original-sendrecv",
            vec![offer(
                a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"),
                with(vec![("flags", list(&["original-sendrecv"]))]),
            )],
        ),
        both("media-address", with(vec![("media-address", text("198.51.100.7"))])),
        both(
            "SIP-source-address",
            with(vec![
                ("flags", list(&["SIP-source-address", "symmetric"])),
                ("received-from", list(&["IP4", "203.0.113.9"])),
            ]),
        ),
    ]
}
