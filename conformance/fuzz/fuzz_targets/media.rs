//! Datagrams on a media port: the first two bytes say how far apart the packets in the rest are.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use proto::rtp::{Packet, Statistics, classify};

fuzz_target!(|data: &[u8]| {
    let Some((&[step, length], rest)) = data.split_first_chunk() else { return };
    let mut statistics = Statistics::new(Some(8000));
    let mut now = Instant::now();
    for bytes in rest.chunks(usize::from(length).max(1)) {
        now += Duration::from_millis(u64::from(step));
        match classify(bytes) {
            Packet::Rtp(rtp) => {
                assert!(rtp.unpadded_payload().len() <= rtp.payload().len());
                statistics.record(now, rtp);
            }
            Packet::Rtcp(bytes) => drop(proto::rtcp::read(bytes)),
            _ => {}
        }
    }
    let summary = statistics.summary();
    assert!(summary.reordered + summary.duplicates <= summary.packets);
});
