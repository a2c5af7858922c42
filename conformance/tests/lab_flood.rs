//! A flood of media ports in the laboratory: the call they are lent to does not notice, no stranger gets a packet, what was
//! dropped is counted and shown, and when it is over the doors open again. Over IPv4 and over IPv6.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, told};
use conformance::lab::phone::{Phone, Voice, rtp};
use conformance::lab::sbc::Sbc;
use conformance::lab::{PATIENCE, postern};

const PARTIES: &str = "-s home:port-restricted:alice:ipv6=stateful -s office:symmetric:bob:ipv6=stateful \
                       -p mallory=203.0.113.66,2001:db8::66";
/// Packets to each port, once its door is closed.
const FLOOD: u64 = 100_000;

struct Scene {
    stage: Sbc,
    alice: Phone,
    bob: Phone,
    a: Voice,
    b: Voice,
    call: Call,
    mallory: UdpSocket,
}

fn scene([alice_ip, bob_ip, mallory]: [&str; 3]) -> Option<Scene> {
    let stage = Sbc::of_both_families(PARTIES, "")?;
    let at = |ip: &str, port: u16| format!("{ip}:{port}");
    let media = |ip: &str| -> SocketAddr { at(ip, 4000).parse().expect("an address and a port") };
    let (mut alice, mut bob) =
        (stage.phone("alice", &at(alice_ip, 5060)), stage.phone("bob", &at(bob_ip, 5060)));
    let (a, b) = (stage.voice("alice", &at(alice_ip, 4000), 0xa), stage.voice("bob", &at(bob_ip, 4000), 0xb));
    let call = Call::place(&mut alice, &mut bob, media(alice_ip), media(bob_ip));
    a.speak_to(Some(told(&call.ok)));
    b.speak_to(Some(told(&call.invite)));
    let mallory = stage.lab.udp("mallory", &at(mallory, 4000));
    Some(Scene { stage, alice, bob, a, b, call, mallory })
}

impl Scene {
    /// The media ports of the call, and those above them for RTCP.
    fn ports(&self) -> [SocketAddr; 4] {
        let [a, b] = [told(&self.call.ok), told(&self.call.invite)];
        let above = |at: SocketAddr| SocketAddr::new(at.ip(), at.port() + 1);
        [a, b, above(a), above(b)]
    }

    fn flood(&self, packets: u64) {
        let large = vec![0x80; 1_200];
        for n in 0..packets {
            let bad: &[u8] = match n % 4 {
                0 => &rtp(0xbad, n as u16),
                1 => &[
                    0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 0, 6, 0, 3, 97,
                    58, 98, 0,
                ],
                2 => &large,
                _ => &[],
            };
            for port in self.ports() {
                self.mallory.send_to(bad, port).expect("sent");
            }
        }
    }

    /// How many ports are flooded, and how many packets the kernel dropped there, as `status` says.
    fn status(&self) -> (u64, u64) {
        let config = self.stage.lab.scratch().join("sbc.yaml");
        let argv = [postern(), "status", "--json", "-c", &config.to_string_lossy()];
        let mut asked = self.stage.lab.spawn("sbc", &argv);
        asked.wait(PATIENCE);
        let status = asked.report();
        let lanes = status["lanes"].as_array().cloned().unwrap_or_default();
        let flooded = lanes.iter().filter_map(|lane| lane["flooded"].as_u64()).sum();
        let dropped = lanes.iter().filter_map(|lane| lane["media_dropped"]["flood"].as_u64()).sum();
        (flooded, dropped)
    }

    fn comes_to(&self, flooded: u64, dropped: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (now_flooded, now_dropped) = self.status();
            if now_flooded == flooded && now_dropped >= dropped {
                return;
            }
            assert!(Instant::now() < deadline, "{now_flooded} ports flooded, {now_dropped} packets dropped");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn both_hear(&self) {
        let (began, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        while self.a.count(0xb, began) < 25 || self.b.count(0xa, began) < 25 {
            assert!(Instant::now() < deadline, "the parties don't hear one another");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn a_call_does_not_notice(addresses: [&str; 3]) {
    let Some(mut scene) = scene(addresses) else { return };
    scene.both_hear();
    scene.flood(150);
    scene.comes_to(4, 0);
    scene.flood(FLOOD);
    scene.comes_to(4, 4 * FLOOD);
    scene.both_hear();
    assert_eq!((scene.a.gaps(0xb), scene.b.gaps(0xa)), (vec![], vec![]), "packets of the call are missing");
    let odd = |heard: &conformance::lab::phone::Heard| heard.ssrc == 0xbad;
    assert!(!scene.a.heard().iter().chain(&scene.b.heard()).any(odd), "a stranger was heard");
    scene.mallory.set_nonblocking(true).expect("a socket");
    assert!(scene.mallory.recv(&mut [0; 2048]).is_err(), "a stranger was sent something");

    scene.comes_to(0, 4 * FLOOD);
    scene.both_hear();
    scene.call.hang_up(&mut scene.alice, &mut scene.bob);
    scene.stage.nothing_stays_lent();
}

#[test]
fn a_flooded_call_does_not_notice() {
    a_call_does_not_notice(["192.168.1.10", "192.168.1.10", "203.0.113.66"]);
}

#[test]
fn nor_does_one_over_ipv6() {
    a_call_does_not_notice(["[2001:db8:a00::10]", "[2001:db8:a01::10]", "[2001:db8::66]"]);
}
