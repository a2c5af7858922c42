//! Kamailio, whose stock `rtpengine` module commands Postern: plain calls, re-INVITEs, and a recording.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, Service, binary, udp};
use conformance::lab::domains::{Call, told};
use conformance::lab::phone::{Phone, Voice, audio_at};

use crate::running::{kamailio, listening, relay};

fn phone(user: &str, local: &str) -> Phone {
    let mut phone = Phone::at(udp(local), user, "127.0.0.1", "127.0.0.1:5060");
    phone.trusted = true;
    phone
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn both_hear(a: &Voice, b: &Voice, to_a: SocketAddr, to_b: SocketAddr) {
    a.speak_to(Some(to_a));
    b.speak_to(Some(to_b));
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(600));
    let heard = (a.count(b.ssrc, began), b.count(a.ssrc, began));
    assert!(heard.0 >= 25 && heard.1 >= 25, "{heard:?} of 30");
}

/// A call through the bench's own Kamailio: audio both ways by way of the relay, and its ports are free after BYE.
#[test]
fn kamailio_calls_through_us_as_its_rtpengine() {
    let Some(stage) = Apart::inside("kamailio::kamailio_calls_through_us_as_its_rtpengine") else { return };
    let Some(_kamailio) = kamailio("bench/kamailio.cfg") else { return };
    let networks = "  default: { bind: 127.0.0.1 }\n";
    let record = format!("  record: {{ folder: {} }}\n", stage.folder().join("recordings").display());
    let config = relay(networks, "20000-20999", "udp:127.0.0.1:2223") + &record;
    let postern = stage.service("ng", &config);
    listening();
    let (mut alice, mut bob) = (phone("alice", "127.0.0.1:5061"), phone("bob", "127.0.0.1:5070"));
    let (ears_a, ears_b) = (Voice::new(udp("127.0.0.1:4000"), 0xa), Voice::new(udp("127.0.0.1:4002"), 0xb));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4002));
    let ports = [told(&call.ok).port(), told(&call.invite).port()];
    assert!(ports.iter().all(|port| (20_000..21_000).contains(port)), "{ports:?}: not the relay's");
    both_hear(&ears_a, &ears_b, told(&call.ok), told(&call.invite));
    assert_eq!(postern.count("ports"), 4);
    let story = postern.tell(&["explain", "last"]);
    for (party, port) in [("caller", 4000), ("callee", 4002)] {
        assert!(story.contains(&format!("now: the {party}: heard from 127.0.0.1:{port}")), "{story}");
    }
    let told = postern.tell(&["capture", "last"]);
    assert!(told.contains("1 session(s) are being recorded"), "{told}");
    std::thread::sleep(Duration::from_millis(500));
    call.hang_up(&mut alice, &mut bob);
    postern.comes_to("ports", 0, Duration::from_secs(3));
    is_explained(&postern);
    has_both_voices(&stage.folder().join("recordings"));
}

/// What the call was like is told soon after its end.
fn is_explained(postern: &Service) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let story = postern.tell(&["explain", "last"]);
        if ["from the caller", "PCMU", "MOS 4."].iter().all(|words| story.contains(words)) {
            return;
        }
        assert!(Instant::now() < deadline, "{story}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The recording of the last half second has both parties' packets, and makes sound.
fn has_both_voices(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(3);
    let packets = loop {
        let files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        let bytes = files.first().map(|file| std::fs::read(file.path()).expect("it is ours"));
        let of = |bytes: &Vec<u8>| {
            let packets = host::capture::pcapng::read(bytes).expect("pcapng");
            [0, 1].map(|side| packets.iter().filter(|packet| packet.interface == side).count())
        };
        let packets = bytes.as_ref().map(of).unwrap_or_default();
        if packets.iter().all(|count| *count >= 20) || Instant::now() > deadline {
            break packets;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(packets.iter().all(|count| (20..40).contains(count)), "{packets:?} packets of some 25 each");
    let file = std::fs::read_dir(folder).expect("it is there").flatten().next().expect("a recording").path();
    let made = Command::new(binary()).arg("wav").arg(&file).output().expect("the binary is there");
    assert!(made.status.success(), "{made:?}");
    assert!(std::fs::metadata(file.with_extension("wav")).expect("sound").len() > 44 + 8000);
}

/// A Kamailio that shows re-INVITEs to its rtpengine, too: hold, and audio at a new port afterwards.
#[test]
fn kamailio_re_invites_through_us() {
    let Some(stage) = Apart::inside("kamailio::kamailio_re_invites_through_us") else { return };
    let Some(_kamailio) = kamailio("lab/kamailio.cfg") else { return };
    let networks = "  default: { bind: 127.0.0.1 }\n";
    let postern = stage.service("ng", &relay(networks, "20000-20999", "udp:127.0.0.1:2223"));
    listening();
    let (mut alice, mut bob) = (phone("alice", "127.0.0.1:5061"), phone("bob", "127.0.0.1:5070"));
    let ears_b = Voice::new(udp("127.0.0.1:4002"), 0xb);
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4002));
    let (to_a, to_b) = (told(&call.ok), told(&call.invite));
    let hold = audio_at(at(4000)).replace("sendrecv", "sendonly");
    let answer = audio_at(at(4002)).replace("sendrecv", "recvonly");
    let (offer, held) = call.renegotiate(&mut alice, &mut bob, &hold, &answer);
    assert!(offer.body().contains("a=sendonly") && held.body().contains("a=recvonly"), "{}", offer.0);
    assert_eq!((told(&held), told(&offer)), (to_a, to_b), "ports stay");
    let new = Voice::new(udp("127.0.0.1:4444"), 0xaa);
    let (offer, answer) = call.renegotiate(&mut alice, &mut bob, &audio_at(at(4444)), &audio_at(at(4002)));
    both_hear(&new, &ears_b, told(&answer), told(&offer));
    call.hang_up(&mut alice, &mut bob);
    postern.comes_to("ports", 0, Duration::from_secs(3));
}
