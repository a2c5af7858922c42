//! Our views and writers of RTP and RTCP beside those of independent crates (rtp-rs, rtcp-types).

use proptest::prelude::*;
use proto::rtcp::{self, Block, Report, Sender};
use proto::rtp::{self, Packet, Rtp, classify};
use rtcp_types::{
    Compound, Packet as Theirs, ReceiverReport, RtcpPacketParser, RtcpPacketWriterExt, SenderReport,
};
use rtp_rs::{RtpPacketBuilder, RtpReader, Seq};

/// A packet with everything a fixed header may announce.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let header = (0u8..64, any::<bool>(), any::<u16>(), any::<u32>(), any::<u32>());
    let csrcs = proptest::collection::vec(any::<u32>(), 0..15);
    let extension = proptest::option::of((any::<u16>(), proptest::collection::vec(any::<u32>(), 0..4)));
    let payload = proptest::collection::vec(any::<u8>(), 0..60);
    (header, csrcs, extension, payload).prop_map(
        |((pt, marker, sequence, timestamp, ssrc), csrcs, extension, payload)| {
            let words = extension
                .iter()
                .flat_map(|(_, words)| words)
                .flat_map(|word| word.to_be_bytes())
                .collect::<Vec<_>>();
            let builder =
                RtpPacketBuilder::new().payload_type(pt).marked(marker).sequence(Seq::from(sequence));
            let builder = builder.timestamp(timestamp).ssrc(ssrc).set_csrc(&csrcs).payload(&payload);
            let builder = match extension {
                Some((id, _)) => builder.extension(id, &words),
                None => builder,
            };
            builder.build().expect("a packet within the format's limits")
        },
    )
}

fn assert_same(bytes: &[u8], theirs: &RtpReader<'_>) {
    let ours = Rtp(bytes);
    assert_eq!(classify(bytes), Packet::Rtp(ours));
    assert_eq!((ours.payload_type(), ours.marker()), (theirs.payload_type(), theirs.mark()));
    assert_eq!(ours.sequence(), u16::from(theirs.sequence_number()));
    assert_eq!((ours.timestamp(), ours.ssrc()), (theirs.timestamp(), theirs.ssrc()));
    assert_eq!(ours.unpadded_payload(), theirs.payload());
}

proptest! {
    #[test]
    fn both_read_the_same_packet(bytes in packet()) {
        assert_same(&bytes, &RtpReader::new(&bytes).expect("its own packet"));
    }

    #[test]
    fn whatever_the_other_takes_we_take_and_read_alike(
        bytes in proptest::collection::vec(any::<u8>(), 12..80), first in 0x80u8..=0xbf, second in any::<u8>(),
    ) {
        let mut bytes = bytes;
        (bytes[0], bytes[1]) = (first, second);
        // What RFC 5761 gives to RTCP is no RTP to us.
        if let (Ok(theirs), false) = (RtpReader::new(&bytes), (192..=223).contains(&second)) {
            assert_same(&bytes, &theirs);
        }
    }

    #[test]
    fn the_other_reads_what_we_write(
        pt in 0u8..64, marker: bool, sequence: u16, timestamp: u32, ssrc: u32,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = rtp::Header { payload_type: pt, marker, sequence, timestamp, ssrc };
        let bytes = rtp::write(header, &payload);
        let theirs = RtpReader::new(&bytes).expect("our packet");
        prop_assert_eq!((theirs.payload_type(), theirs.mark(), theirs.payload()), (pt, marker, &payload[..]));
        prop_assert_eq!((u16::from(theirs.sequence_number()), theirs.timestamp(), theirs.ssrc()), (sequence, timestamp, ssrc));
    }

    #[test]
    fn reports_are_read_alike(
        ssrc: u32, ntp: u64, timestamp: u32, packets: u32, octets: u32,
        block in any::<(u32, u8, u32, u32, u32, u32)>(), lost in 0i32..0x7f_ffff, count in 0usize..5, cname in "[a-z]{0,40}",
    ) {
        let (source, fraction_lost, highest, jitter, last_report, delay) = block;
        let block = Block { ssrc: source, fraction_lost, lost, highest, jitter, last_report, delay };
        let sender = Sender { ntp, timestamp, packets, bytes: octets };
        let bytes = rtcp::sender_report(ssrc, sender, &vec![block; count], &cname);
        let mut compound = Compound::parse(&bytes).expect("our compound packet");
        let Some(Ok(Theirs::Sr(sr))) = compound.next() else { panic!("a sender report comes first") };
        prop_assert_eq!((sr.ssrc(), sr.ntp_timestamp(), sr.rtp_timestamp()), (ssrc, ntp, timestamp));
        prop_assert_eq!((sr.packet_count(), sr.octet_count(), usize::from(sr.n_reports())), (packets, octets, count));
        for theirs in sr.report_blocks() {
            prop_assert_eq!((theirs.ssrc(), theirs.fraction_lost(), theirs.cumulative_lost()), (source, fraction_lost, lost as u32));
            prop_assert_eq!((theirs.extended_sequence_number(), theirs.interarrival_jitter()), (highest, jitter));
        }
        let Some(Ok(Theirs::Sdes(sdes))) = compound.next() else { panic!("then the name") };
        let items: Vec<_> = sdes.chunks().flat_map(|chunk| chunk.items().map(|item| item.value().to_vec())).collect();
        prop_assert_eq!(items, [cname.into_bytes()]);
        prop_assert!(compound.next().is_none());
    }
}

#[test]
fn we_read_the_reports_of_the_other() {
    let block = rtcp_types::ReportBlock::builder(7)
        .fraction_lost(3)
        .cumulative_lost(9)
        .extended_sequence_number(70_000);
    let block = block
        .interarrival_jitter(5)
        .last_sender_report_timestamp(11)
        .delay_since_last_sender_report_timestamp(13);
    let mut bytes = vec![0; 64];
    let len = ReceiverReport::builder(1).add_report_block(block).write_into(&mut bytes).expect("room");
    let expected =
        Block { ssrc: 7, fraction_lost: 3, lost: 9, highest: 70_000, jitter: 5, last_report: 11, delay: 13 };
    assert_eq!(rtcp::read(&bytes[..len]), [Report::Receiver { ssrc: 1, blocks: vec![expected] }]);
    let len = SenderReport::builder(2).ntp_timestamp(3).rtp_timestamp(4).packet_count(5).octet_count(6);
    let len = len.write_into(&mut bytes).expect("room");
    let sender = Sender { ntp: 3, timestamp: 4, packets: 5, bytes: 6 };
    assert_eq!(rtcp::read(&bytes[..len]), [Report::Sender { ssrc: 2, sender, blocks: vec![] }]);
}

#[test]
fn the_other_reads_our_goodbye() {
    let bytes = rtcp::bye(5);
    let packets: Vec<_> = Compound::parse(&bytes).expect("a compound packet").collect();
    let [Ok(Theirs::Rr(rr)), Ok(Theirs::Bye(bye))] = &packets[..] else { panic!("RR, BYE: {packets:?}") };
    assert_eq!((rr.ssrc(), bye.ssrcs().collect::<Vec<_>>()), (5, vec![5]));
    assert!(rtcp_types::Bye::parse(&bytes[8..]).is_ok());
}

#[test]
fn the_other_refuses_valid_srtp_that_we_pass() {
    let mut bytes = rtp::write(rtp::Header::default(), &[0; 20]);
    bytes[0] |= 0x20; // padding, whose length is encrypted
    let last = bytes.len() - 1;
    bytes[last] = 0xff;
    assert!(RtpReader::new(&bytes).is_err());
    assert!(matches!(classify(&bytes), Packet::Rtp(_)));
}
