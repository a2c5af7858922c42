//! Sections and their lines: what is kept, in which order; holds, rejected sections, and what is no RTP.

use crate::story::{EVENTS, Story, VIDEO, a, answer, b, offer, plain, replaced, sdp, story};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        story(
            "attributes nobody here knows, and their order",
            vec![
                offer(
                    sdp(
                        10,
                        &format!(
                            "m=audio 4000 RTP/AVP 0 8 101\ni=title\nc=IN IP4 192.0.2.10\nb=AS:64\na=foo\na=rtpmap:8 PCMA/8000\n\
                             a=bar:x y\n{EVENTS}\na=sendrecv\na=maxptime:40\na=ptime:30\na=rtcp:4001 IN IP4 192.0.2.10\n\
                             a=ssrc:1234 cname:x\na=label:7\na=last"
                        ),
                    ),
                    plain(),
                ),
                answer(b(), plain()),
            ],
        ),
        story(
            "c= at both levels",
            vec![
                offer(sdp(10, "m=audio 4000 RTP/AVP 0 8\nc=IN IP4 192.0.2.11"), plain()),
                answer(sdp(20, "m=audio 5000 RTP/AVP 0\nc=IN IP4 192.0.2.21"), plain()),
            ],
        ),
        story(
            "attributes of the session",
            vec![offer(
                a().replace(
                    "t=0 0\r\n",
                    "t=0 0\r\nb=AS:84\r\na=sendonly\r\na=ptime:20\r\na=foo\r\na=ice-lite\r\n",
                ),
                plain(),
            )],
        ),
        story(
            "hold by sendonly",
            vec![
                offer(a() + "a=sendonly\r\n", plain()),
                answer(b().replace("sendrecv", "recvonly"), plain()),
            ],
        ),
        story(
            "hold by inactive",
            vec![
                offer(a() + "a=inactive\r\n", plain()),
                answer(b().replace("sendrecv", "inactive"), plain()),
            ],
        ),
        story(
            "hold by 0.0.0.0",
            vec![
                offer(a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"), plain()),
                answer(b(), plain()),
            ],
        ),
        story(
            "hold by 0.0.0.0, replaced",
            vec![offer(
                a().replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"),
                replaced(&["origin", "zero-address", "session-connection"]),
            )],
        ),
        story("nothing but a rejected section", vec![offer(sdp(10, "m=audio 0 RTP/AVP 0"), plain())]),
        story(
            "audio and video, video rejected",
            vec![
                offer(
                    a() + &format!("m=video 4010 RTP/AVP 96 97\r\n{}\r\n", VIDEO.replace('\n', "\r\n")),
                    plain(),
                ),
                answer(b() + "m=video 0 RTP/AVP 96\r\na=inactive\r\n", plain()),
            ],
        ),
        story(
            "audio and video",
            vec![
                offer(
                    a() + &format!("m=video 4010 RTP/AVP 96 97\r\n{}\r\n", VIDEO.replace('\n', "\r\n")),
                    plain(),
                ),
                answer(
                    b() + "m=video 5010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 ccm fir\r\n",
                    plain(),
                ),
            ],
        ),
        story(
            "T.38",
            vec![
                offer(
                    sdp(
                        10,
                        "m=image 4000 udptl t38\na=T38FaxVersion:0\na=T38MaxBitRate:14400\na=T38FaxUdpEC:t38UDPRedundancy",
                    ),
                    plain(),
                ),
                answer(sdp(20, "m=image 5000 udptl t38\na=T38FaxVersion:0"), plain()),
            ],
        ),
        story(
            "MSRP over TCP is nobody's business here",
            vec![offer(
                a() + "m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\na=path:msrp://192.0.2.10:2855/x;tcp\r\n",
                plain(),
            )],
        ),
        story(
            "BUNDLE comes apart",
            vec![offer(
                a().replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE a v\r\n")
                    + "a=mid:a\r\na=rtcp-mux\r\nm=video 4000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=mid:v\r\na=rtcp-mux\r\n",
                plain(),
            )],
        ),
        story("a count of ports", vec![offer(sdp(10, "m=audio 4000/2 RTP/AVP 0"), plain())]),
        story(
            "BUNDLE comes apart, and is answered by a phone",
            vec![
                offer(
                    a().replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE a v\r\n")
                        + "a=mid:a\r\na=rtcp-mux\r\nm=video 4000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=mid:v\r\na=rtcp-mux\r\n",
                    plain(),
                ),
                answer(b() + "m=video 5010 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n", plain()),
            ],
        ),
        story(
            "bundle-only",
            vec![offer(
                a().replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE a v\r\n")
                    + "a=mid:a\r\na=rtcp-mux\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=mid:v\r\na=bundle-only\r\na=rtcp-mux\r\n",
                plain(),
            )],
        ),
        story(
            "what stays of a rejected section",
            vec![
                offer(a() + "m=video 4010 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=mid:v\r\n", plain()),
                answer(
                    b() + "m=video 0 RTP/AVP 96\r\nb=AS:64\r\na=foo:bar\r\na=rtpmap:96 VP8/90000\r\na=inactive\r\n",
                    plain(),
                ),
            ],
        ),
    ]
}
