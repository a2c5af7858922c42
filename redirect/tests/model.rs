//! A redirect server beside a model of it that is too simple to be wrong, over random histories; and under random
//! damage to what it hears.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proto::node::{Flow, Input};
use proto::sip::Message;

mod scene;
use scene::*;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Register { proxy: u8, seconds: u32, q: u16 },
    Remove { proxy: u8 },
    Pass { seconds: u64 },
    Restart,
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (2u8..6, 10u32..200, 0u16..=1000).prop_map(|(proxy, seconds, q)| Step::Register { proxy, seconds, q }),
        2 => (2u8..6).prop_map(|proxy| Step::Remove { proxy }),
        3 => (0u64..150).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
        3 => Just(Step::Ask),
    ]
}

/// Who serves bob: proxy → (q, when it ends). Seconds since the beginning.
#[derive(Default)]
struct Model {
    now: u64,
    served: BTreeMap<u8, (u16, u64)>,
    ever: bool,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Register { proxy, seconds, q } => {
                self.served.insert(proxy, (q, self.now + u64::from(seconds)));
                self.ever = true;
            }
            Step::Remove { proxy } => drop(self.served.remove(&proxy)),
            Step::Pass { seconds } => self.now += seconds,
            Step::Restart | Step::Ask => {}
        }
    }

    /// Status, and the proxies a 302 names, best first.
    fn expects(&self) -> (u16, Vec<u8>) {
        let live = self.served.iter().filter(|(_, (_, ends))| *ends > self.now);
        let mut hops: Vec<_> =
            live.map(|(proxy, (q, ends))| (*q, *ends, std::cmp::Reverse(*proxy))).collect();
        hops.sort();
        let hops: Vec<u8> = hops.into_iter().rev().map(|(_, _, proxy)| proxy.0).collect();
        match (hops.is_empty(), self.ever) {
            (false, _) => (302, hops),
            (true, true) => (480, hops),
            (true, false) => (404, hops),
        }
    }
}

fn play(scene: &mut Scene, step: &Step) {
    let contact = |proxy: u8| format!("<sip:203.0.113.{proxy};lr>");
    let answer = match *step {
        Step::Register { proxy, seconds, q } => {
            let q = format!("{}.{:03}", q / 1000, q % 1000);
            Some(scene.register(
                &format!("203.0.113.{proxy}:5060"),
                &format!("{};q={q};expires={seconds}", contact(proxy)),
            ))
        }
        Step::Remove { proxy } => {
            Some(scene.register(&format!("203.0.113.{proxy}:5060"), &format!("{};expires=0", contact(proxy))))
        }
        Step::Pass { seconds } => {
            scene.pass(Duration::from_secs(seconds));
            None
        }
        Step::Restart => {
            scene.restart();
            None
        }
        Step::Ask => None,
    };
    assert!(answer.is_none_or(|answer| answer.status() == Some(200)));
}

/// The last number of a hop's address.
fn proxy(contact: &str) -> u8 {
    let host = contact.trim_start_matches("<sip:203.0.113.");
    host[..host.find(';').unwrap()].parse().unwrap()
}

proptest! {
    #[test]
    fn answers_as_the_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut scene, mut model) = (Scene::new(), Model::default());
        for step in &steps {
            play(&mut scene, step);
            model.take(step);
            if matches!(step, Step::Ask | Step::Pass { .. }) {
                let answer = scene.invite("sip:bob@example.com");
                let hops: Vec<u8> = contacts(&answer).iter().map(|contact| proxy(contact)).collect();
                prop_assert_eq!((answer.status().unwrap(), hops), model.expects(), "{:?}", step);
            }
        }
    }

    #[test]
    fn a_damaged_registration_binds_nothing_but_what_was_signed(
        at in any::<prop::sample::Index>(), byte: u8, near in prop::bool::weighted(0.2),
    ) {
        let mut scene = Scene::new();
        let request = scene.registration(P2, "<sip:203.0.113.2;lr>;expires=600");
        let mut bytes = scene.signed(&request).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let source = if near { "127.0.0.1:5060" } else { P2 };
        let flow = Flow::udp(address(SERVER), address(source));
        match Message::parse(Bytes::from(bytes.clone())) {
            Ok(message) => scene.give(Input::Message { flow, message }),
            Err(_) => scene.give(Input::Other { flow, bytes: bytes.into() }),
        }
        let bound: Vec<_> = scene.tables.bindings.values().flatten().map(|b| b.contact.clone()).collect();
        if !near && !bound.is_empty() {
            prop_assert_eq!(scene.tables.bindings.keys().collect::<Vec<_>>(), ["bob@example.com"]);
            prop_assert_eq!(bound, ["sip:203.0.113.2;lr"]);
        }
    }

    #[test]
    fn never_panics_whatever_our_own_proxies_say(
        method in "INVITE|REGISTER|OPTIONS|ACK|CANCEL|[A-Z]{1,5}", uri in "(sips?|tel):[ -~]{0,20}",
        contact in "[ -~]{0,40}|<sip:[a-z;=@:.0-9]{0,20}>[;a-z=0-9.]{0,20}", header in "(Expires|Require|Max-Forwards|To): [ -~]{0,12}",
    ) {
        let mut scene = Scene::new();
        let uri = uri.replace(' ', "");
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {P2};branch=z9hG4bK1\r\nFrom: <sip:p@x>;tag=f\r\nTo: <{uri}>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\nContact: {contact}\r\n{header}\r\n\r\n"
        );
        if let Ok(message) = Message::parse(Bytes::from(text)) {
            let message = scene.signed(&message);
            scene.give(Input::Message { flow: Flow::udp(address(SERVER), address(P2)), message });
            scene.pass(Duration::from_secs(200_000));
        }
    }
}
