//! The RFCs' vectors; packets of libsrtp's published self-test, which cover derivation and layout together; the rest.

use super::keys::{Cipher, derive};
use super::sdes::{Crypto, Unusable};
use super::*;

const MASTER: &str = "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6";
const RTP: &str = "800f1234decafbadcafebabeabababababababababababababababab";
const RTCP: &str = "81c8000bcafebabeabababababababababababababababab";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn master(profile: Profile) -> Master {
    let key: Vec<u8> =
        bytes(MASTER).into_iter().cycle().take(profile.key_len() + profile.salt_len()).collect();
    Master::new(profile, &key).unwrap()
}

fn rtp(sender: &mut Sender, packet: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + MAX_GROWTH, 0);
    sender.rtp(&mut buffer, packet.len()).map(|len| buffer[..len].to_vec())
}

fn rtcp(sender: &mut Sender, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + MAX_GROWTH, 0);
    let len = sender.rtcp(&mut buffer, packet.len()).unwrap();
    buffer[..len].to_vec()
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = bytes(RTP);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

#[test]
fn keys_are_derived_as_in_rfc_3711_b_3() {
    let master = master(Profile::Aes128CmSha1_80);
    assert_eq!(derive::<16>(&master, 0).to_vec(), bytes("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(derive::<14>(&master, 2).to_vec(), bytes("30cbbc08863d8c85d49db34a9ae1"));
    assert_eq!(derive::<20>(&master, 1).to_vec(), bytes("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
}

#[test]
fn key_stream_is_that_of_rfc_3711_b_2() {
    let aes = aes_gcm::KeyInit::new(
        &<[u8; 16]>::try_from(bytes("2b7e151628aed2a6abf7158809cf4f3c")).unwrap().into(),
    );
    let salt = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap();
    let mut stream = [0; 48];
    Cipher::stream(&aes, &salt, 0, 0, &mut stream);
    let expected =
        "e03ead0935c95e80e166b16dd92b4eb4 d23513162b02d0f72a43a2fe4a5f97ab 41e95b3bb0a2e8dd477901e4fca894c0";
    assert_eq!(stream.to_vec(), bytes(expected));
}

#[test]
fn packets_under_aes_cm_are_those_of_libsrtp() {
    let mut sender = Sender::new(&master(Profile::Aes128CmSha1_80));
    let expected = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb";
    assert_eq!(rtp(&mut sender, &bytes(RTP)), Ok(bytes(expected)));
    let expected = "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798";
    assert_eq!(rtcp(&mut sender, &bytes(RTCP)), bytes(expected));
}

#[test]
fn packets_under_gcm_are_those_of_libsrtp() {
    let key = bytes("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    let mut sender = Sender::new(&Master::new(Profile::AeadAes128Gcm, &key).unwrap());
    let expected = "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392";
    assert_eq!(rtp(&mut sender, &bytes(RTP)), Ok(bytes(expected)));
}

/// RFC 7714 gives session keys; the rest of the way is as for any sender.
fn quid_pro_quo(wide: bool) -> Sender {
    let key: Vec<u8> = (0..32).collect();
    let salt: [u8; 12] = *b"Quid pro quo";
    let cipher = || match wide {
        true => Cipher::gcm_256(key[..].try_into().unwrap(), salt),
        false => Cipher::gcm_128(key[..16].try_into().unwrap(), salt),
    };
    let mut sender = Sender::new(&master(Profile::AeadAes128Gcm));
    (sender.rtp, sender.rtcp) = (cipher(), cipher());
    sender.reports.keep(0x4d61_7273, 0x5d3);
    sender
}

#[test]
fn rtp_under_gcm_is_that_of_rfc_7714_16() {
    let plain = [&bytes("8040f17b8041f8d35501a0b2")[..], b"Gallia est omnis divisa in partes tres"].concat();
    let narrow =
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b
        36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce";
    assert_eq!(rtp(&mut quid_pro_quo(false), &plain), Ok(bytes(narrow)));
    let wide =
        "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f
        1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13";
    assert_eq!(rtp(&mut quid_pro_quo(true), &plain), Ok(bytes(wide)));
}

#[test]
fn rtcp_under_gcm_is_that_of_rfc_7714_17() {
    let plain = bytes(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef
        deadbeef",
    );
    let narrow =
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
        86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4";
    assert_eq!(rtcp(&mut quid_pro_quo(false), &plain), bytes(narrow));
    let wide =
        "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658
        c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4";
    assert_eq!(rtcp(&mut quid_pro_quo(true), &plain), bytes(wide));
}

#[test]
fn what_was_protected_opens_under_every_profile() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        let mut sealed = rtp(&mut sender, &packet(7)).unwrap();
        assert_eq!(receiver.rtp(&mut sealed).map(|len| sealed[..len].to_vec()), Ok(packet(7)), "{profile:?}");
        let mut sealed = rtcp(&mut sender, &bytes(RTCP));
        assert_eq!(
            receiver.rtcp(&mut sealed).map(|len| sealed[..len].to_vec()),
            Ok(bytes(RTCP)),
            "{profile:?}"
        );
    }
}

#[test]
fn any_flipped_bit_is_noticed_and_the_true_packet_still_opens() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        let sealed = rtp(&mut sender, &packet(7)).unwrap();
        for at in 12..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(receiver.rtp(&mut forged), Err(Refused::Forged), "{profile:?}, byte {at}");
        }
        assert!(receiver.rtp(&mut sealed.clone()).is_ok());
    }
}

#[test]
fn nothing_is_heard_twice() {
    let profile = Profile::Aes128CmSha1_80;
    let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
    let sealed = rtp(&mut sender, &packet(7)).unwrap();
    assert!(receiver.rtp(&mut sealed.clone()).is_ok());
    assert_eq!(receiver.rtp(&mut sealed.clone()), Err(Refused::Replayed));
    let report = rtcp(&mut sender, &bytes(RTCP));
    assert!(receiver.rtcp(&mut report.clone()).is_ok());
    assert_eq!(receiver.rtcp(&mut report.clone()), Err(Refused::Replayed));
}

#[test]
fn the_window_holds_127_packets_behind_the_newest_and_no_more() {
    let profile = Profile::Aes128CmSha1_80;
    let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
    let [old, edge, new] = [1000, 1001, 1128].map(|sequence| rtp(&mut sender, &packet(sequence)).unwrap());
    assert!(receiver.rtp(&mut new.clone()).is_ok());
    assert_eq!(receiver.rtp(&mut old.clone()), Err(Refused::Replayed));
    assert!(receiver.rtp(&mut edge.clone()).is_ok());
}

#[test]
fn sequence_numbers_roll_over_with_packets_out_of_order_around_it() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        for sequence in [65533, 65535, 0, 65534, 2, 1, 30000, 60000, 3] {
            let mut sealed = rtp(&mut sender, &packet(sequence)).unwrap();
            assert_eq!(receiver.rtp(&mut sealed).map(|len| sealed[..len].to_vec()), Ok(packet(sequence)));
        }
    }
}

#[test]
fn a_sender_never_uses_an_index_twice() {
    let mut sender = Sender::new(&master(Profile::AeadAes128Gcm));
    assert!(rtp(&mut sender, &packet(7)).is_ok());
    let mut other = packet(7);
    other[20] ^= 1;
    assert_eq!(rtp(&mut sender, &other), Err(Refused::Replayed));
}

#[test]
fn reports_in_the_clear_are_refused() {
    let profile = Profile::Aes128CmSha1_80;
    let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
    let mut report = rtcp(&mut sender, &bytes(RTCP));
    let at = report.len() - 14;
    report[at] &= 0x7f;
    assert_eq!(receiver.rtcp(&mut report), Err(Refused::Unencrypted));
}

#[test]
fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let mut sender = Sender::new(&master(Profile::Aes128CmSha1_80));
    let with_ssrc = |ssrc: u16, sequence| {
        let mut packet = packet(sequence);
        packet[10..12].copy_from_slice(&ssrc.to_be_bytes());
        packet
    };
    assert!((0..256).all(|ssrc| rtp(&mut sender, &with_ssrc(ssrc, 1)).is_ok()));
    assert_eq!(rtp(&mut sender, &with_ssrc(256, 1)), Err(Refused::TooManyStreams));
    assert!(rtp(&mut sender, &with_ssrc(0, 2)).is_ok());
    assert_eq!(rtp(&mut sender, &with_ssrc(128, 1)), Err(Refused::Replayed), "nothing was forgotten");
}

#[test]
fn short_packets_and_short_buffers_are_refused() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        for len in 0..RTP.len() / 2 {
            let sealed = receiver.rtp(&mut bytes(RTP)[..len]);
            assert!(
                matches!(sealed, Err(Refused::Malformed | Refused::Forged)),
                "{profile:?}, {len}: {sealed:?}"
            );
            assert!(receiver.rtcp(&mut bytes(RTCP)[..len.min(24)]).is_err());
        }
        assert_eq!(sender.rtp(&mut bytes(RTP), RTP.len() / 2), Err(Refused::NoRoom));
        assert_eq!(sender.rtcp(&mut bytes(RTCP), RTCP.len() / 2), Err(Refused::NoRoom));
        assert_eq!(sender.rtp(&mut bytes(RTP), 11), Err(Refused::Malformed));
    }
}

#[test]
fn a_crypto_line_reads_back_as_it_was_written() {
    let line = "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    assert_eq!(Crypto::parse(line).unwrap().to_string(), line);
    assert_eq!(Crypto::parse(&format!("{line}|2^20 WSH=64 -x")), Crypto::parse(line));
    for profile in Profile::ALL {
        let crypto = Crypto { tag: 7, master: master(profile) };
        assert_eq!(Crypto::parse(&crypto.to_string()), Ok(crypto));
    }
}

#[test]
fn a_crypto_line_that_asks_for_what_we_lack_is_refused_by_its_reason() {
    let key = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    let suite = "AES_CM_128_HMAC_SHA1_80";
    for (line, why) in [
        (format!("1 F8_128_HMAC_SHA1_80 {key}"), Unusable::UnknownSuite),
        (format!("1 {suite} {key}|2^20|1:4"), Unusable::KeyIdentifier),
        (format!("1 {suite} {key};{key}"), Unusable::KeyIdentifier),
        (format!("1 {suite} {key} UNENCRYPTED_SRTCP"), Unusable::SessionParameter),
        (format!("1 {suite} {key} KDR=4"), Unusable::SessionParameter),
        (format!("1 AEAD_AES_128_GCM {key}"), Unusable::BadKey),
        (format!("1 {suite} inline:WVN*"), Unusable::BadKey),
        (format!("x {suite} {key}"), Unusable::Malformed),
        (format!("1 {suite}"), Unusable::Malformed),
        (format!("1 {suite} in"), Unusable::Malformed),
    ] {
        assert_eq!(Crypto::parse(&line), Err(why), "{line}");
    }
}

#[test]
fn a_key_is_not_printed() {
    let crypto = Crypto { tag: 1, master: master(Profile::Aes128CmSha1_80) };
    assert_eq!(format!("{crypto:?}"), "Crypto { tag: 1, master: Master(AES_CM_128_HMAC_SHA1_80) }");
}

/// A packet of the stream that `packet` begins, `n` packets after it, under both ends' roll-over counters.
fn exchange(sender: &mut Sender, receiver: &mut Receiver, n: u32) -> Result<usize, Refused> {
    let mut sealed = rtp(sender, &packet(n as u16))?;
    receiver.rtp(&mut sealed)
}

#[test]
fn a_direction_goes_on_from_a_position_as_old_as_notes_can_be() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        let (mut noted, mut heard) = (Vec::new(), Vec::new());
        // Two roll-overs; what is noted last is one note behind, as after a crash before it was written.
        for n in (0..140_000u32).step_by(50) {
            exchange(&mut sender, &mut receiver, n).unwrap();
            if sender.has_moved() {
                noted.push(sender.position());
            }
            if receiver.has_moved() {
                heard.push(receiver.position());
            }
        }
        let (mut again, mut hears) = (Sender::new(&master(profile)), Receiver::new(&master(profile)));
        again.resume(&noted[noted.len() - 2]);
        hears.resume(&heard[heard.len() - 2]);
        assert_eq!(exchange(&mut again, &mut receiver, 140_000), Ok(packet(0).len()), "{profile:?}");
        let mut sealed = rtp(&mut sender, &packet(140_001u32 as u16)).unwrap();
        assert_eq!(hears.rtp(&mut sealed), Ok(packet(0).len()), "{profile:?}");
    }
}

#[test]
fn reports_after_a_restart_use_no_index_twice() {
    let mut sender = Sender::new(&master(Profile::AeadAes128Gcm));
    rtcp(&mut sender, &bytes(RTCP));
    let noted = sender.position();
    let used: Vec<u32> = (0..16_383).map(|_| index_of(&rtcp(&mut sender, &bytes(RTCP)))).collect();
    let mut again = Sender::new(&master(Profile::AeadAes128Gcm));
    again.resume(&noted);
    assert!(index_of(&rtcp(&mut again, &bytes(RTCP))) > *used.last().unwrap());
}

fn index_of(sealed: &[u8]) -> u32 {
    u32::from_be_bytes(sealed[sealed.len() - 4..].try_into().unwrap()) & 0x7fff_ffff
}

#[test]
fn nothing_behind_where_a_direction_went_on_is_taken_again() {
    let (mut sender, mut receiver) =
        (Sender::new(&master(Profile::Aes128CmSha1_80)), Receiver::new(&master(Profile::Aes128CmSha1_80)));
    let old = rtp(&mut sender, &packet(9)).unwrap();
    exchange(&mut sender, &mut receiver, 10).unwrap();
    let mut again = Receiver::new(&master(Profile::Aes128CmSha1_80));
    again.resume(&receiver.position());
    assert_eq!(again.rtp(&mut old.clone()), Err(Refused::Replayed));
}
