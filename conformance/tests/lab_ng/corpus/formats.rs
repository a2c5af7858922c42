//! Formats and profiles: codecs taken out, payload types of every kind, AVP and AVPF, packet times.

use conformance::lab::ng::{list, text};
use relay::ng::value::{Dict, Value};

use crate::story::{Story, a, answer, b, codec, offer, plain, sdp, story, with};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        story(
            "dynamic and static payload types",
            vec![
                offer(
                    sdp(
                        10,
                        "m=audio 4000 RTP/AVP 111 9 18 0 13\na=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\n\
                         a=fmtp:18 annexb=no\na=rtpmap:9 G722/8000",
                    ),
                    plain(),
                ),
                answer(
                    sdp(20, "m=audio 5000 RTP/AVP 111\na=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10"),
                    plain(),
                ),
            ],
        ),
        story(
            "an answer with what was not offered",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVP 0 8"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0 18\na=rtpmap:18 G729/8000"), plain()),
            ],
        ),
        story(
            "AVPF on both sides",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVPF 0\na=rtcp-fb:0 trr-int 100"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVPF 0"), plain()),
            ],
        ),
        story(
            "transport-protocol=RTP/AVPF",
            vec![
                offer(a(), with(vec![("transport-protocol", text("RTP/AVPF"))])),
                answer(sdp(20, "m=audio 5000 RTP/AVPF 0"), plain()),
            ],
        ),
        story(
            "transport-protocol=RTP/AVP",
            vec![
                offer(
                    sdp(10, "m=audio 4000 RTP/AVPF 0"),
                    with(vec![("transport-protocol", text("RTP/AVP"))]),
                ),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0"), plain()),
            ],
        ),
        story("codec strip", vec![offer(a(), codec("strip", &["PCMA"]))]),
        story(
            "codec strip all, but",
            vec![offer(
                a(),
                with(vec![(
                    "codec",
                    Value::Dict(
                        Dict::default().with("strip", list(&["all"])).with("except", list(&["PCMA"])),
                    ),
                )]),
            )],
        ),
        story("codec-strip as a flag", vec![offer(a(), with(vec![("flags", list(&["codec-strip-PCMU"]))]))]),
        story("ptime", vec![offer(a(), with(vec![("ptime", Value::Int(40))])), answer(b(), plain())]),
        story("ptime of the answer", vec![offer(a(), plain()), answer(b() + "a=ptime:30\r\n", plain())]),
    ]
}
