//! A session description: read everything, rewrite it as a relay does, and hold what must hold.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use proto::sdp::{Rewrite, Sdp};

fuzz_target!(|data: &[u8]| {
    let Ok(sdp) = Sdp::parse(data) else { return };
    let _ = (sdp.addresses(), sdp.has_ice());
    assert_eq!(sdp.rewrite(&vec![None; sdp.media.len()]), data);
    let rtp = SocketAddr::from(([192, 0, 2, 1], 30_000));
    let rewrite = Rewrite { rtp, rtcp: Some(SocketAddr::from(([192, 0, 2, 1], 30_001))) };
    let all = vec![Some(rewrite); sdp.media.len()];
    let out = sdp.rewrite(&all);
    // A description at its longest may grow past the limit.
    let Ok(again) = Sdp::parse(&out) else { return assert!(out.len() > 64 * 1024) };
    assert_eq!(again.media.len(), sdp.media.len());
    for (was, is) in sdp.media.iter().zip(&again.media) {
        assert_eq!(is.port == 0, was.port == 0);
        assert!(was.port == 0 || was.is_blackholed() || is.address() == Some(rtp));
        let _ = (was.rtcp_address(), was.clock_rate(0));
    }
    assert_eq!(again.rewrite(&all), out);
});
