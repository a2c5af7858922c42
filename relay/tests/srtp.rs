//! A relay between parties that protect their media differently (RFC 3711, RFC 4568): what each reads of keys, what opens and
//! what does not, and that no index is used twice, whatever happens.

#![allow(clippy::disallowed_methods, reason = "one Instant that nothing depends on")]

mod rig;

use proto::control::{Keying, Session};
use proto::event::Side;
use proto::node::Dice;
use proto::sip::Message;
use proto::srtp::sdes::Crypto;
use proto::srtp::{MAX_GROWTH, Master, Profile, Receiver, Sender};
use proto::tables::Srtp;
use relay::Why;
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

/// Both ends of one party's keys, as the party holds them.
struct Keys {
    own: Crypto,
    sends: Sender,
    hears: Option<Receiver>,
}

impl Keys {
    fn new(tag: u32, profile: Profile, number: u8) -> Keys {
        let birth = proto::node::Birth {
            now: std::time::Instant::now(),
            wall: std::time::SystemTime::UNIX_EPOCH,
            seed: [number; 32],
            lane: proto::node::Lane::default(),
        };
        let mut dice: Dice = birth.dice(0);
        let own = Crypto { tag, master: Master::draw(profile, &mut dice) };
        Keys { sends: Sender::new(&own.master), own, hears: None }
    }

    fn line(&self) -> String {
        format!("a=crypto:{}\r\n", self.own)
    }

    /// What the relay's line means.
    fn hear(&mut self, theirs: &Crypto) {
        self.hears = Some(Receiver::new(&theirs.master));
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let (mut buffer, is_rtcp) = (packet.to_vec(), packet[1] >= 192);
        buffer.resize(packet.len() + MAX_GROWTH, 0);
        let sealed = match is_rtcp {
            true => self.sends.rtcp(&mut buffer, packet.len()),
            false => self.sends.rtp(&mut buffer, packet.len()),
        };
        buffer.truncate(sealed.unwrap());
        buffer
    }

    fn open(&mut self, sent: Option<Sent>) -> Vec<u8> {
        let mut bytes = sent.expect("sent on").bytes;
        let hears = self.hears.as_mut().expect("keys");
        let opened = if bytes[1] >= 192 { hears.rtcp(&mut bytes) } else { hears.rtp(&mut bytes) };
        bytes.truncate(opened.expect("opens under the relay's key"));
        bytes
    }
}

fn keying(parties: [Srtp; 2], answers: bool) -> Option<Keying> {
    Some(Keying { parties, answers })
}

fn text(message: &Message) -> String {
    let (_, sdp) = message.sdp().unwrap_or_else(|| panic!("{:?}", message.bytes()));
    String::from_utf8(sdp.to_vec()).unwrap()
}

fn cryptos(sdp: &str) -> Vec<Crypto> {
    sdp.lines()
        .filter_map(|line| line.strip_prefix("a=crypto:"))
        .map(|line| Crypto::parse(line).unwrap())
        .collect()
}

/// A phone whose description asks for SRTP under this key.
fn secure(media: &str, keys: &Keys) -> Phone {
    Phone { lines: keys.line(), ..public(media) }
}

fn savp(sdp: &str) -> String {
    sdp.replace("RTP/AVP", "RTP/SAVP")
}

/// A party of a call: its phone, and whether its description says SAVP.
fn said(rig: &mut Rig, phone: &Phone, side: Side, srtp: Option<Keying>, inside: bool) -> Message {
    let phone = Phone { srtp, ..phone.clone() };
    let sdp = if phone.lines.contains("crypto") { savp(&phone.sdp()) } else { phone.sdp() };
    rig.invite(&phone.ask(Session(1), side), &sdp, inside)
}

const SDES_PLAIN: [Srtp; 2] = [Srtp::Sdes, Srtp::Plain];

/// A encrypts, B does not.
fn bridged(profile: Profile) -> (Rig, Call, Keys) {
    let mut rig = Rig::new(config());
    let mut a = Keys::new(7, profile, 1);
    let offer = said(&mut rig, &secure(A, &a), Side::Caller, keying(SDES_PLAIN, false), false);
    let answer = said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, true), true);
    a.hear(&cryptos(&text(&answer))[0]);
    let call = Call { session: Session(1), for_a: media_of(&answer), for_b: media_of(&offer) };
    (rig, call, a)
}

#[test]
fn one_party_reads_savp_with_a_key_of_ours_and_the_other_plain_rtp() {
    let mut rig = Rig::new(config());
    let a = Keys::new(7, Profile::AeadAes128Gcm, 1);
    let phone = secure(A, &a);
    let offer = text(&said(&mut rig, &phone, Side::Caller, keying(SDES_PLAIN, false), false));
    let (port, ours) = (offer.split("m=audio ").nth(1).unwrap().split(' ').next().unwrap(), OUTSIDE);
    let plain = phone.sdp().replace(&a.line(), "").replace("203.0.113.100", ours).replace("4000", port);
    assert_eq!(offer, plain, "nothing else is changed");

    let answer = text(&said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, true), true));
    assert!(answer.contains(" RTP/SAVP 0 101\r\n"), "{answer}");
    let lines = cryptos(&answer);
    assert_eq!((lines.len(), lines[0].tag), (1, 7), "the tag of the line that was taken: {answer}");
    assert_eq!(lines[0].master.profile(), Profile::AeadAes128Gcm);
    assert_ne!(lines[0].master, a.own.master, "each direction has a key of its own");
}

#[test]
fn packets_and_reports_are_opened_for_one_and_protected_for_the_other_in_every_suite() {
    for profile in Profile::ALL {
        let (mut rig, call, mut a) = bridged(profile);
        for n in 0..100 {
            let there = rig.packet(A, call.for_a, &a.seal(&rtp(0xa, n))).expect("sent on");
            assert_eq!((there.to, there.bytes), (address(B), rtp(0xa, n)), "{profile:?}");
            let back = rig.packet(B, call.for_b, &rtp(0xb, n));
            assert_ne!(back.as_ref().map(|sent| &sent.bytes), Some(&rtp(0xb, n)));
            assert_eq!(a.open(back), rtp(0xb, n), "{profile:?}");
        }
        let report = rtcp_report(0xa);
        let there = rig.packet("203.0.113.100:4001", rtcp(call.for_a), &a.seal(&report)).expect("sent on");
        assert_eq!(there.bytes, report);
        let back = rig.packet("203.0.113.200:7001", rtcp(call.for_b), &rtcp_report(0xb));
        assert_eq!(a.open(back), rtcp_report(0xb), "{profile:?}");
    }
}

#[test]
fn a_plain_caller_reaches_a_phone_that_takes_only_srtp() {
    let mut rig = Rig::new(config());
    let parties = [Srtp::Pass, Srtp::Sdes];
    let offer = said(&mut rig, &public(A), Side::Caller, keying(parties, false), false);
    let lines = cryptos(&text(&offer));
    let profiles: Vec<_> = lines.iter().map(|line| line.master.profile()).collect();
    assert_eq!(profiles[0], Profile::Aes128CmSha1_80, "the one every phone knows is the first");
    assert_eq!(profiles.len(), 4);

    let taken = &lines[1];
    let mut b = Keys::new(taken.tag, taken.master.profile(), 2);
    b.hear(taken);
    let answer = said(&mut rig, &secure(B, &b), Side::Callee, keying(parties, true), true);
    assert!(text(&answer).contains("RTP/AVP 0") && !text(&answer).contains("crypto"), "{}", text(&answer));
    let call = Call { session: Session(1), for_a: media_of(&answer), for_b: media_of(&offer) };
    let there = rig.packet(A, call.for_a, &rtp(0xa, 1));
    assert_eq!(b.open(there), rtp(0xa, 1));
    let back = rig.packet(B, call.for_b, &b.seal(&rtp(0xb, 1))).expect("sent on");
    assert_eq!(back.bytes, rtp(0xb, 1));
}

#[test]
fn parties_that_both_encrypt_keep_their_own_keys() {
    let mut rig = Rig::new(config());
    let (a, b) = (Keys::new(1, Profile::Aes128CmSha1_80, 1), Keys::new(1, Profile::Aes128CmSha1_80, 2));
    let parties = [Srtp::Sdes; 2];
    let offer = said(&mut rig, &secure(A, &a), Side::Caller, keying(parties, false), false);
    let answer = said(&mut rig, &secure(B, &b), Side::Callee, keying(parties, true), true);
    assert_eq!((cryptos(&text(&offer)), cryptos(&text(&answer))), (vec![a.own.clone()], vec![b.own.clone()]));
    let sealed = Keys::new(1, Profile::Aes128CmSha1_80, 1).seal(&rtp(0xa, 1));
    assert_eq!(rig.packet(A, media_of(&answer), &sealed).map(|sent| sent.bytes), Some(sealed));
}

#[test]
fn without_a_word_about_keys_nothing_is_looked_at() {
    let mut rig = Rig::new(config());
    let a = Keys::new(1, Profile::Aes128CmSha1_80, 1);
    let offer = said(&mut rig, &secure(A, &a), Side::Caller, None, false);
    assert_eq!(cryptos(&text(&offer)), vec![a.own]);
}

#[test]
fn what_fails_its_tag_or_comes_again_goes_nowhere_and_latches_nobody() {
    let (mut rig, call, mut a) = bridged(Profile::Aes128CmSha1_80);
    let mut forger = Keys::new(7, Profile::Aes128CmSha1_80, 9);
    // From the party's own address: whoever shares its NAT may send from there.
    assert_eq!(rig.packet("203.0.113.100:666", call.for_a, &forger.seal(&rtp(0xa, 1))), None);
    assert_eq!(rig.packet("203.0.113.100:666", call.for_a, &rtp(0xa, 2)), None);
    assert_eq!(rig.dropped(Why::Forged), 2);
    let first = a.seal(&rtp(0xa, 3));
    assert!(rig.packet(A, call.for_a, &first).is_some(), "the party is heard all the same");
    assert_eq!(rig.packet(A, call.for_a, &first), None, "a packet that came before");
    assert_eq!(rig.dropped(Why::Forged), 3);
    let back = rig.packet(B, call.for_b, &rtp(0xb, 1));
    assert_eq!(back.as_ref().map(|sent| sent.to), Some(address(A)));
    assert_eq!(rig.packet("192.0.2.66:1", call.for_a, &forger.seal(&rtp(0xf, 4))), None);
    assert_eq!(rig.dropped(Why::Stranger), 1, "strangers cost no HMAC");
}

#[test]
fn a_party_moves_under_its_key_and_nobody_who_only_knows_its_numbers_does() {
    let (mut rig, call, mut a) = bridged(Profile::Aes128CmSha1_80);
    for n in 0..20 {
        rig.packet(A, call.for_a, &a.seal(&rtp(0xa, n)));
        rig.pass(20 * MS);
    }
    rig.pass(200 * MS);
    let mut forger = Keys::new(7, Profile::Aes128CmSha1_80, 9);
    for n in 20..26 {
        assert_eq!(rig.packet("192.0.2.66:4000", call.for_a, &forger.seal(&rtp(0xa, n))), None);
        rig.pass(20 * MS);
    }
    let moved: Vec<bool> = (26..29)
        .map(|n| {
            rig.pass(20 * MS);
            rig.packet("192.0.2.7:4000", call.for_a, &a.seal(&rtp(0xa, n))).is_some()
        })
        .collect();
    assert_eq!(moved, [false, false, true], "three packets in a row, as without keys");
    assert_eq!(rig.packet(B, call.for_b, &rtp(0xb, 1)).map(|sent| sent.to), Some(address("192.0.2.7:4000")));
}

#[test]
fn a_re_invite_with_the_same_key_goes_on_and_with_a_new_one_begins_anew() {
    let (mut rig, call, mut a) = bridged(Profile::Aes128CmSha1_80);
    let before = a.seal(&rtp(0xa, 1));
    rig.packet(A, call.for_a, &before);
    let again = said(&mut rig, &secure(A, &a), Side::Caller, keying(SDES_PLAIN, false), true);
    assert_eq!(again.status(), Some(200));
    let answer = said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, true), true);
    assert_eq!(rig.packet(A, call.for_a, &before), None, "the replay window has stayed");
    assert!(rig.packet(A, call.for_a, &a.seal(&rtp(0xa, 2))).is_some());
    let ours = cryptos(&text(&answer));
    let mut new = Keys::new(3, Profile::Aes128CmSha1_80, 5);
    said(&mut rig, &secure(A, &new), Side::Caller, keying(SDES_PLAIN, false), true);
    let answer = said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, true), true);
    assert_eq!(cryptos(&text(&answer))[0].master, ours[0].master, "our own key has no reason to change");
    assert_eq!(cryptos(&text(&answer))[0].tag, 3);
    assert!(rig.packet(A, call.for_a, &new.seal(&rtp(0xa, 3))).is_some());
    assert_eq!(rig.packet(A, call.for_a, &a.seal(&rtp(0xa, 4))), None, "the old key is over");
}

#[test]
fn the_called_party_re_invites_and_the_caller_reads_its_own_kind_of_description() {
    let (mut rig, _, a) = bridged(Profile::Aes128CmSha1_80);
    let offer = said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, false), true);
    assert!(text(&offer).contains("RTP/SAVP"), "{}", text(&offer));
    assert_eq!(cryptos(&text(&offer)).len(), 1, "the key that is in use: {}", text(&offer));
    let answer = said(&mut rig, &secure(A, &a), Side::Caller, keying(SDES_PLAIN, true), true);
    assert!(text(&answer).contains("RTP/AVP 0") && !text(&answer).contains("crypto"), "{}", text(&answer));
}

#[test]
fn keys_nobody_can_serve_are_refused_in_words_and_leave_nothing_behind() {
    let mut rig = Rig::new(config());
    let phone = Phone {
        lines: "a=crypto:1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm\r\n".into(),
        ..public(A)
    };
    let offer = said(&mut rig, &phone, Side::Caller, keying(SDES_PLAIN, false), false);
    assert_eq!(offer.status(), Some(488), "{:?}", offer.bytes());
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));

    let parties = [Srtp::Plain, Srtp::Sdes];
    said(&mut rig, &public(A), Side::Caller, keying(parties, false), false);
    let answer = said(&mut rig, &public(B), Side::Callee, keying(parties, true), true);
    assert_eq!(answer.status(), Some(488), "an answer in plain RTP to an offer of SRTP");
    let b = Keys::new(9, Profile::Aes128CmSha1_80, 2);
    let answer = said(&mut rig, &secure(B, &b), Side::Callee, keying(parties, true), true);
    assert_eq!(answer.status(), Some(488), "an answer that takes a line nobody wrote");
}

#[test]
fn a_section_the_answer_rejects_keeps_the_protocol_of_its_offer() {
    let mut rig = Rig::new(config());
    let a = Keys::new(1, Profile::Aes128CmSha1_80, 1);
    let phone = Phone { srtp: keying(SDES_PLAIN, false), ..public(A) };
    let sections = format!(
        "m=audio 4000 RTP/SAVP 0\r\n{}m=video 4002 RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n{}",
        a.line(),
        a.line()
    );
    let offer = text(&rig.invite(&phone.ask(Session(1), Side::Caller), &(phone.head() + &sections), false));
    assert!(offer.contains("RTP/AVP 0") && offer.contains("RTP/AVPF 96"), "{offer}");
    let phone = Phone { srtp: keying(SDES_PLAIN, true), ..public(B) };
    let sections = "m=audio 7000 RTP/AVP 0\r\nm=video 0 RTP/AVPF 96\r\n";
    let answer = text(&rig.invite(&phone.ask(Session(1), Side::Callee), &(phone.head() + sections), true));
    assert!(answer.contains("RTP/SAVP 0\r\na=crypto:1 "), "{answer}");
    assert!(answer.contains("m=video 0 RTP/SAVPF 96\r\n"), "{answer}");
}

#[test]
fn a_relay_that_was_killed_goes_on_under_the_same_keys_and_uses_no_index_twice() {
    let (mut rig, call, mut a) = bridged(Profile::AeadAes128Gcm);
    // Past one roll-over, in strides that every receiver can follow.
    let mut n = 0u32;
    while n < 90_000 {
        let there = rig.packet(A, call.for_a, &a.seal(&rtp(0xa, n as u16)));
        assert!(there.is_some(), "at {n}");
        let back = rig.packet(B, call.for_b, &rtp(0xb, n as u16));
        assert_eq!(a.open(back), rtp(0xb, n as u16), "at {n}");
        n += 40;
    }
    rig.packet("203.0.113.200:7001", rtcp(call.for_b), &rtcp_report(0xb)).map(|sent| a.open(Some(sent)));
    let (tables, config, now) = (rig.tables, rig.config, rig.now);
    let mut next = Rig::after(config, tables, now, true);
    assert_eq!(next.relay.status().sessions, 1);
    let there = next.packet(A, call.for_a, &a.seal(&rtp(0xa, n as u16))).expect("sent on");
    assert_eq!(there.bytes, rtp(0xa, n as u16));
    let back = next.packet(B, call.for_b, &rtp(0xb, n as u16));
    assert_eq!(a.open(back), rtp(0xb, n as u16), "the roll-over counter is the one it was");
    let report = next.packet("203.0.113.200:7001", rtcp(call.for_b), &rtcp_report(0xb));
    assert_eq!(a.open(report), rtcp_report(0xb), "a report's index is one that was never used");
}

#[test]
fn what_has_to_be_opened_is_not_handed_to_the_path_below() {
    let mut rig = Rig::new(relay::Config { offload: true, ..config() });
    let mut a = Keys::new(7, Profile::Aes128CmSha1_80, 1);
    said(&mut rig, &secure(A, &a), Side::Caller, keying(SDES_PLAIN, false), false);
    let answer = said(&mut rig, &public(B), Side::Callee, keying(SDES_PLAIN, true), true);
    for n in 0..200 {
        rig.packet(A, media_of(&answer), &a.seal(&rtp(0xa, n)));
        rig.pass(20 * MS);
    }
    assert!(rig.offloads.is_empty(), "{:?}", rig.offloads);
}
