//! Scenarios 1i and 1k: a NAT that forgets. In mid-call the audio comes back, to the party and to nobody else; and an idle
//! callee still rings.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, told};
use conformance::lab::phone::{Voice, audio_at, rtp};
use conformance::lab::sbc::Sbc;

/// Somebody who knows the relay's ports, but neither SSRC nor sequence, and tries them as fast as a call's own packets.
struct Forger {
    heard: UdpSocket,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

const FORGED: u32 = 0xf0f0;

impl Forger {
    fn start(socket: UdpSocket, targets: Vec<SocketAddr>) -> Forger {
        let (heard, over) = (socket.try_clone().unwrap(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for sequence in 0.. {
                for target in &targets {
                    let _ = socket.send_to(&rtp(FORGED, sequence), target);
                }
                std::thread::sleep(Duration::from_millis(10));
                if ended.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Forger { heard, over, thread: Some(thread) }
    }

    /// How many datagrams came back to it.
    fn stop(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.heard.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        std::iter::from_fn(|| self.heard.recv_from(&mut [0; 2048]).ok()).count()
    }
}

/// Whether each hears most of the other in the second that begins one second from now.
fn audio_is_back(a: &Voice, b: &Voice) -> (usize, usize) {
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    (a.count(b.ssrc, began), b.count(a.ssrc, began))
}

fn a_call_survives_rebinding(callee: &str, callee_media: &str) {
    let parties = format!("-s home:port-restricted:alice -p mallory=203.0.113.66 {callee}");
    let Some(stage) = Sbc::up(&parties) else { return };
    let recorder = stage.lab.capture(&["alice", "bob", "sbc", "mallory"]);
    let host = callee_media.split(':').next().unwrap();
    let (mut alice, mut bob) =
        (stage.phone("alice", "192.168.1.10:5060"), stage.phone("bob", &format!("{host}:5060")));
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", callee_media, 0xb));
    let mut call = Call::place(
        &mut alice,
        &mut bob,
        "192.168.1.10:4000".parse().unwrap(),
        callee_media.parse().unwrap(),
    );
    ears_a.speak_to(Some(told(&call.ok)));
    ears_b.speak_to(Some(told(&call.invite)));
    let before = audio_is_back(&ears_a, &ears_b);
    let forger = Forger::start(
        stage.lab.udp("mallory", "203.0.113.66:4000"),
        vec![told(&call.ok), told(&call.invite)],
    );

    stage.lab.rebind("home", None);
    let new_port = audio_is_back(&ears_a, &ears_b);
    stage.lab.rebind("home", Some("203.0.113.177".parse().unwrap()));
    let new_address = audio_is_back(&ears_a, &ears_b);
    let leaked = forger.stop();
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();

    let wire = recorder.stop();
    for (when, (a, b)) in
        [("at first", before), ("after a new port", new_port), ("after a new address", new_address)]
    {
        assert!(a >= 45 && b >= 45, "{when} A heard {a} and B heard {b} of 50\n{}", wire.ladder());
    }
    let forged: usize =
        [&ears_a, &ears_b].iter().map(|v| v.heard().iter().filter(|h| h.ssrc == FORGED).count()).sum();
    assert_eq!(
        (leaked, forged),
        (0, 0),
        "packets to the forger, and packets of the forger's\n{}",
        wire.ladder()
    );
}

#[test]
fn scenario_1i_a_caller_whose_nat_rebinds_is_heard_and_hears_again_within_a_second() {
    a_call_survives_rebinding("-p bob=203.0.113.10", "203.0.113.10:4000");
}

#[test]
fn scenario_1i_and_so_it_is_when_the_other_side_is_behind_a_symmetric_nat() {
    a_call_survives_rebinding("-s office:symmetric:bob", "192.168.1.10:4000");
}

/// The NAT forgets after 30 s. Longer than two of its lives by default; the three minutes of the acceptance with
/// POSTERN_LONG=1.
#[test]
fn scenario_1k_an_idle_callee_behind_a_forgetful_nat_still_rings() {
    let Some(stage) = Sbc::up("-s office:port-restricted:bob:timeout=30 -p alice=203.0.113.11") else {
        return;
    };
    let recorder = stage.lab.capture(&["sbc"]);
    let mut bob = stage.phone("bob", "192.168.1.10:5060");
    let idle = if std::env::var_os("POSTERN_LONG").is_some() { 180 } else { 70 };
    eprintln!("idle for {idle} s; POSTERN_LONG=1 makes it the acceptance's 180");
    bob.idle(Duration::from_secs(idle));
    let mut alice = stage.phone("alice", "203.0.113.11:5060");
    alice.invite("bob", &audio_at("203.0.113.11:4000".parse().unwrap()));
    let rang = bob.within(Duration::from_secs(3), |m| m.is("INVITE"));
    let wire = recorder.stop();
    assert!(rang.is_some(), "B does not ring after {idle} idle seconds\n{}", wire.ladder());
    let asked = wire.sip().iter().filter(|s| s.is("OPTIONS", "198.51.100.20", "203.0.113.100")).count();
    assert!(asked as u64 >= idle / 35, "kept open by {asked} OPTIONS in {idle} s\n{}", wire.ladder());
}
