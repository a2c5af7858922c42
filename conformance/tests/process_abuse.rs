//! The abuses of SYSTEMS §1, on the sockets of real processes: nothing is allocated for them, nothing goes to a stranger,
//! and other calls are as they were.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use conformance::lab::apart::{Apart, HOME, OFFICE, STRANGER, Service, VICTIM, udp};
use conformance::lab::choir::Choir;
use conformance::lab::domains::{Call, P1, P2, REDIRECT, RELAY, told};
use conformance::lab::phone::{Phone, audio_at, rtp};
use conformance::lab::sbc::is_final;
use conformance::lab::storm::spray;
use conformance::lab::story::Message;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a phone behind a NAT says of its media.
fn private() -> SocketAddr {
    address("192.168.1.10:4000")
}

/// How many datagrams have come to a socket.
fn arrived(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut packet = [0; 2048];
    std::iter::from_fn(|| socket.recv_from(&mut packet).ok()).count()
}

struct Scene {
    p1: Service,
    relay: Service,
    alice: Phone,
    bob: Phone,
    choir: Choir,
}

impl Scene {
    fn on(stage: &Apart) -> Scene {
        let relay = stage.relay();
        let p1 = stage.p1(&["alice", "bob"]);
        let alice = stage.phone("alice", &format!("{HOME}:5060"));
        let bob = stage.phone("bob", &format!("{OFFICE}:5060"));
        let choir = Choir::new(Duration::from_millis(20));
        choir.join(udp(&format!("{HOME}:4000")), 1, 2);
        choir.join(udp(&format!("{OFFICE}:4000")), 2, 1);
        Scene { p1, relay, alice, bob, choir }
    }

    fn call(&mut self, offered: SocketAddr, answered: SocketAddr) -> Call {
        Call::place(&mut self.alice, &mut self.bob, offered, answered)
    }

    fn speak(&self, call: &Call) {
        self.choir.speak_to(0, Some(told(&call.ok)));
        self.choir.speak_to(1, Some(told(&call.invite)));
        self.choir.all_hear(0..2, 10, Duration::from_secs(5));
    }

    /// Both hear one another, and have heard nobody else.
    fn ends_in_peace(mut self, mut call: Call) {
        self.choir.all_hear(0..2, 10, Duration::from_secs(5));
        assert_eq!([0, 1].map(|voice| (self.choir.missed(voice), self.choir.strange(voice))), [(0, 0); 2]);
        call.hang_up(&mut self.alice, &mut self.bob);
        self.nothing_is_held();
    }

    fn nothing_is_held(&self) {
        self.relay.comes_to("ports", 0, Duration::from_secs(10));
        self.p1.comes_to("calls", 0, Duration::from_secs(5));
    }
}

#[test]
fn rtp_sprayed_on_fresh_and_on_latched_ports_is_heard_by_nobody() {
    let Some(stage) = Apart::inside("rtp_sprayed_on_fresh_and_on_latched_ports_is_heard_by_nobody") else {
        return;
    };
    let mut scene = Scene::on(&stage);
    let call = scene.call(private(), private());
    let legs = [told(&call.ok), told(&call.invite)];
    let stranger = udp(&format!("{STRANGER}:4000"));
    spray(&stranger, 300, |at| (rtp(0x66, at as u16), legs[at % 2]));
    assert_eq!([0, 1].map(|voice| scene.choir.strange(voice)), [0; 2], "before anybody has spoken");

    scene.speak(&call);
    // The party's own host, another port: what a forger behind the same NAT sends, with the stream's own SSRC too.
    let neighbour = udp(&format!("{HOME}:4999"));
    for forger in [&stranger, &neighbour] {
        spray(forger, 300, |at| (rtp(0x66, at as u16), legs[at % 2]));
        spray(forger, 300, |at| (rtp(1 + at as u32 % 2, 7000 - at as u16)[..100].to_vec(), legs[at % 2]));
    }
    assert_eq!((arrived(&stranger), arrived(&neighbour)), (0, 0), "nobody sends to a forger");
    scene.ends_in_peace(call);
}

#[test]
fn a_bye_from_a_stranger_who_knows_the_call_ends_nothing() {
    let Some(stage) = Apart::inside("a_bye_from_a_stranger_who_knows_the_call_ends_nothing") else { return };
    let mut scene = Scene::on(&stage);
    let call = scene.call(private(), private());
    scene.speak(&call);
    let mut stranger =
        Phone::at(udp(&format!("{STRANGER}:5060")), "alice", "one.test", &format!("{P1}:5060"));
    for dialog in [&call.caller, &call.callee] {
        let mut forged = dialog.clone();
        forged.routes.clear();
        forged.target = "sip:bob@one.test".into();
        stranger.ask(&mut forged, "BYE", "", "");
        stranger.expect("4xx BYE");
    }
    assert!(scene.bob.within(Duration::from_millis(100), |m| m.is("BYE")).is_none());
    assert!(scene.alice.within(Duration::from_millis(100), |m| m.is("BYE")).is_none());
    scene.ends_in_peace(call);
}

#[test]
fn an_sdp_that_names_a_victim_sends_nothing_there() {
    let Some(stage) = Apart::inside("an_sdp_that_names_a_victim_sends_nothing_there") else { return };
    let mut scene = Scene::on(&stage);
    let victim = udp(&format!("{VICTIM}:7000"));
    let call = scene.call(address(&format!("{VICTIM}:7000")), private());
    scene.choir.speak_to(1, Some(told(&call.invite)));
    scene.bob.idle(Duration::from_millis(500)); // 25 packets that nobody may get
    assert_eq!(arrived(&victim), 0);
    scene.speak(&call); // who named the victim is heard at its own address, and gets what is hers
    assert_eq!(arrived(&victim), 0);
    scene.ends_in_peace(call);
}

#[test]
fn an_sdp_that_names_our_relay_is_refused_on_either_side() {
    let Some(stage) = Apart::inside("an_sdp_that_names_our_relay_is_refused_on_either_side") else { return };
    let mut scene = Scene::on(&stage);
    let call = scene.call(private(), private());
    scene.speak(&call);
    for port in [told(&call.ok), told(&call.invite), address(&format!("{RELAY}:20998"))] {
        scene.alice.invite("bob", &audio_at(port));
        let refused = scene.alice.expect_where("a final answer", is_final);
        assert!(refused.is("4xx INVITE"), "{}", refused.0);
        assert!(scene.bob.within(Duration::from_millis(50), |m| m.is("INVITE")).is_none());
    }
    scene.relay.comes_to("sessions", 1, Duration::from_secs(5));

    scene.alice.invite("bob", &audio_at(private()));
    let invite = scene.bob.expect("INVITE");
    scene.bob.accept(&invite, &audio_at(told(&call.ok)));
    let refused = scene.alice.expect_where("a final answer", is_final);
    assert!(refused.status().is_some_and(|status| status >= 400), "{}", refused.0);
    scene.bob.expect("BYE");
    scene.relay.comes_to("sessions", 1, Duration::from_secs(5));
    scene.ends_in_peace(call);
}

#[test]
fn a_302_from_a_phone_leads_nowhere() {
    let Some(stage) = Apart::inside("a_302_from_a_phone_leads_nowhere") else { return };
    let mut scene = Scene::on(&stage);
    let victim = udp(&format!("{VICTIM}:5060"));
    scene.alice.invite("bob", &audio_at(private()));
    let invite = scene.bob.expect("INVITE");
    let to = format!("{};tag=moved", invite.header("To").unwrap());
    scene.bob.respond(&invite, 302, &format!("Moved\r\nContact: <sip:bob@{VICTIM}:5060>"), &to, "");
    let answer = scene.alice.expect_where("a final answer", is_final);
    assert!(answer.status().is_some_and(|status| status >= 300), "{}", answer.0);
    assert_eq!(arrived(&victim), 0);
    scene.nothing_is_held();
}

/// Plays a redirect server that answers every question by what `says` of who asks; counts them.
struct Liar {
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    fn new(says: impl Fn(SocketAddr) -> String + Send + 'static) -> Liar {
        let socket = udp(&format!("{REDIRECT}:5060"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (asked, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended, last) = (Arc::clone(&asked), Arc::clone(&over), Mutex::new(String::new()));
        let lie = move || {
            let mut buffer = [0; 65_535];
            while !ended.load(Ordering::Relaxed) {
                let Ok((size, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some(asked) = Message::read(&buffer[..size]) else { continue };
                let Some(answer) = answer(&asked, &says(from)) else { continue };
                if asked.is("INVITE")
                    && std::mem::replace(&mut *last.lock().unwrap(), asked.0.clone()) != asked.0
                {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        };
        Liar { asked, over, thread: Some(std::thread::spawn(lie)) }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// 200 to everything but INVITE, and 302 to that.
fn answer(asked: &Message, contact: &str) -> Option<String> {
    let status = match asked.method()? {
        "ACK" => return None,
        "INVITE" => format!("302 Moved\r\nContact: <{contact}>"),
        _ => "200 OK".into(),
    };
    let copied: String = ["Via", "From", "Call-ID", "CSeq"]
        .iter()
        .flat_map(|name| asked.headers(name).into_iter().map(move |value| format!("{name}: {value}\r\n")))
        .collect();
    let to = asked.header("To")?;
    Some(format!("SIP/2.0 {status}\r\n{copied}To: {to};tag=liar\r\nContent-Length: 0\r\n\r\n"))
}

#[test]
fn redirect_servers_that_send_a_call_in_circles_end_it() {
    let Some(stage) = Apart::inside("redirect_servers_that_send_a_call_in_circles_end_it") else { return };
    let liar = Liar::new(|asker| {
        let other = if asker.ip().to_string() == P1 { P2 } else { P1 };
        format!("sip:{other}:5060;lr")
    });
    let _p2 = stage.p2(&["dave"]);
    let mut scene = Scene::on(&stage);
    for callee in ["nobody@one.test", "bobby@two.test"] {
        scene.alice.invite(callee, &audio_at(private()));
        let answer = scene.alice.within(Duration::from_secs(10), is_final).expect("the circle ends");
        assert!(answer.is("4xx INVITE"), "{}", answer.0);
    }
    let asked = liar.asked.load(Ordering::Relaxed);
    assert!((1..=6).contains(&asked), "the redirect server was asked {asked} times");
    scene.nothing_is_held();
}
