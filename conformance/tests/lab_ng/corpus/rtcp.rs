//! RTCP: on the media port or beside it, and what `a=rtcp` says of it.

use conformance::lab::ng::list;

use crate::story::{Story, a, a_mux, answer, b, b_mux, both, mux, offer, plain, story, with};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        story("rtcp-mux on both sides", vec![offer(a_mux(), plain()), answer(b_mux(), plain())]),
        story("rtcp-mux offered, not answered", vec![offer(a_mux(), plain()), answer(b(), plain())]),
        story("rtcp-mux=offer", vec![offer(a(), mux(&["offer"])), answer(b(), plain())]),
        story("rtcp-mux=offer, taken", vec![offer(a(), mux(&["offer"])), answer(b_mux(), plain())]),
        story("rtcp-mux=demux", vec![offer(a_mux(), mux(&["demux"])), answer(b(), plain())]),
        story("rtcp-mux=accept", vec![offer(a_mux(), mux(&["accept"])), answer(b(), plain())]),
        story("rtcp-mux=reject", vec![offer(a_mux(), mux(&["reject"])), answer(b(), plain())]),
        both("no-rtcp-attribute", with(vec![("flags", list(&["no-rtcp-attribute"]))])),
        both("full-rtcp-attribute", with(vec![("flags", list(&["full-rtcp-attribute"]))])),
        story("rtcp-mux=require", vec![offer(a(), mux(&["require"])), answer(b_mux(), plain())]),
        story("rtcp-mux=require, not taken", vec![offer(a_mux(), mux(&["require"])), answer(b(), plain())]),
        story(
            "rtcp-mux=demux and accept",
            vec![offer(a_mux(), mux(&["demux", "accept"])), answer(b(), plain())],
        ),
        story(
            "rtcp-mux=offer and reject",
            vec![offer(a_mux(), mux(&["offer", "reject"])), answer(b_mux(), plain())],
        ),
    ]
}
