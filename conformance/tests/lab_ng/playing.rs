//! Kamailio's script has its `rtpengine` module play media and say digits (`play_media`, `stop_media`, `play_dtmf`), and the party
//! that is to hear it does.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, Service, udp};
use conformance::lab::domains::{Call, told};
use conformance::lab::phone::{Phone, rtp};

use crate::running::{Running, kamailio, listening, relay};

/// What a tune's samples are, and what phones say.
const TUNE: u8 = 0x8a;
const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\r\n";

struct Party {
    phone: Phone,
    ears: UdpSocket,
}

impl Party {
    fn new(user: &str, sip: &str, media: &str) -> Party {
        let mut phone = Phone::at(udp(sip), user, "127.0.0.1", "127.0.0.1:5060");
        phone.trusted = true;
        let ears = udp(media);
        ears.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Party { phone, ears }
    }

    fn sdp(&self) -> String {
        let at = self.ears.local_addr().expect("bound");
        format!(
            "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0 101\r\n{EVENTS}",
            at.ip(),
            at.port()
        )
    }

    /// Says a few packets, so that it is latched.
    fn says(&self, ssrc: u32, to: SocketAddr) {
        for number in 0..10 {
            self.ears.send_to(&rtp(ssrc, number), to).expect("sent");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What comes within this time: payload types and payloads.
    fn hears(&self, time: Duration) -> Vec<(u8, Vec<u8>)> {
        let (until, mut heard, mut buffer) = (Instant::now() + time, Vec::new(), [0; 1500]);
        while Instant::now() < until {
            if let Ok(length) = self.ears.recv(&mut buffer)
                && length > 12
            {
                heard.push((buffer[1] & 0x7f, buffer[12..length].to_vec()));
            }
        }
        heard
    }
}

struct Talk {
    alice: Party,
    bob: Party,
    call: Call,
    postern: Service,
    _kamailio: Running,
}

impl Talk {
    fn begin(stage: &Apart) -> Option<Talk> {
        let kamailio = kamailio("lab/kamailio.cfg")?;
        let media = stage.folder().join("media");
        std::fs::create_dir_all(&media).expect("the scratch folder is ours");
        std::fs::write(media.join("tune.wav"), tune(3000)).expect("the scratch folder is ours");
        let ng = format!("{{ listen: udp:127.0.0.1:2223, media: {} }}", media.display());
        let postern = stage.service("ng", &relay("  default: { bind: 127.0.0.1 }\n", "20000-20999", &ng));
        listening();
        let mut alice = Party::new("alice", "127.0.0.1:5061", "127.0.0.1:4000");
        let mut bob = Party::new("bob", "127.0.0.1:5070", "127.0.0.1:4002");
        let (offer, answer) = (alice.sdp(), bob.sdp());
        let call = Call::offering(&mut alice.phone, &mut bob.phone, &offer, &answer);
        alice.says(0xa, told(&call.ok));
        bob.says(0xb, told(&call.invite));
        (alice.hears(Duration::from_millis(100)), bob.hears(Duration::from_millis(100)));
        Some(Talk { alice, bob, call, postern, _kamailio: kamailio })
    }

    /// Alice's phone tells the script what it is to command.
    fn commands(&mut self, header: &str) {
        self.alice.phone.ask(&mut self.call.caller, "INFO", "", &format!("{header}\r\n"));
        let answer = self.alice.phone.expect_where("an answer to INFO", |message| {
            message.header("CSeq").is_some_and(|cseq| cseq.ends_with("INFO"))
        });
        assert!(answer.0.starts_with("SIP/2.0 200 "), "{header}: {}", answer.0);
    }

    fn ends(mut self) {
        self.call.hang_up(&mut self.alice.phone, &mut self.bob.phone);
        self.postern.comes_to("ports", 0, Duration::from_secs(3));
    }
}

/// A file of so many milliseconds of G.711.
fn tune(milliseconds: u32) -> Vec<u8> {
    let samples = milliseconds * 8;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    file.extend([7, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0]);
    file.extend(b"data");
    file.extend(samples.to_le_bytes());
    file.resize(file.len() + samples as usize, TUNE);
    file
}

fn is_tune((payload_type, payload): &(u8, Vec<u8>)) -> bool {
    *payload_type == 0 && payload.iter().all(|sample| *sample == TUNE)
}

#[test]
fn kamailio_plays_media_to_a_party_and_stops_it() {
    let Some(stage) = Apart::inside("playing::kamailio_plays_media_to_a_party_and_stops_it") else { return };
    let Some(mut talk) = Talk::begin(&stage) else { return };
    talk.commands("Play-Media: file=tune.wav");
    let heard = talk.alice.hears(Duration::from_secs(1));
    let played = heard.iter().filter(|heard| is_tune(heard)).count();
    assert!((40..=55).contains(&played), "{played} of 50 packets in a second, {} in all", heard.len());
    assert!(
        !talk.bob.hears(Duration::from_millis(100)).iter().any(is_tune),
        "the other party hears nothing of it"
    );
    talk.commands("Stop-Media: all");
    talk.alice.hears(Duration::from_millis(100));
    assert!(!talk.alice.hears(Duration::from_millis(300)).iter().any(is_tune), "it was stopped");
    talk.ends();
}

#[test]
fn kamailio_says_a_digit_in_a_partys_place() {
    let Some(stage) = Apart::inside("playing::kamailio_says_a_digit_in_a_partys_place") else { return };
    let Some(mut talk) = Talk::begin(&stage) else { return };
    talk.commands("Play-DTMF: code=5 duration=200");
    let heard = talk.bob.hears(Duration::from_secs(1));
    let events: Vec<&Vec<u8>> =
        heard.iter().filter(|(payload_type, _)| *payload_type == 101).map(|(_, payload)| payload).collect();
    // RFC 4733, section 2.3: event, end and volume, duration in samples.
    assert!(events.len() >= 10 && events.iter().all(|event| event[0] == 5), "{heard:?}");
    let last = events.last().expect("looked at above");
    let duration = u16::from_be_bytes([last[2], last[3]]);
    assert!(last[1] & 0x80 != 0 && (1440..=1760).contains(&duration), "ends after 200 ms: {last:?}");
    assert!(talk.alice.hears(Duration::from_millis(100)).is_empty(), "who says it does not hear it");
    talk.ends();
}
