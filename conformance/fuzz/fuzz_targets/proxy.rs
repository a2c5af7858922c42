//! A whole proxy: datagrams (parted by a NUL) come from two sides in turn, some time passes between them, and nothing
//! they say makes it panic or forget its deadlines.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use conformance::cast;
use conformance::world::WorldTables;
use libfuzzer_sys::fuzz_target;
use proto::node::{Answer, Birth, Flow, Input, Lane, Node, Output};
use proto::sip::Message;
use proto::tables::Anchor;
use proxy::Proxy;

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let mut config = cast::proxy_config("203.0.113.1:5060");
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = false);
    config.anchor = Anchor::Auto;
    let birth = Birth { now, wall, seed: [3; 32], lane: Lane::default() };
    let mut desk = Desk { proxy: Proxy::new(Arc::new(config), birth), tables: WorldTables::default(), now };
    for (number, bytes) in data.split(|byte| *byte == 0).take(16).enumerate() {
        desk.hear(number, bytes);
        desk.pass(Duration::from_millis(700));
    }
    desk.pass(Duration::from_secs(400));
});

struct Desk {
    proxy: Proxy,
    tables: WorldTables,
    now: Instant,
}

impl Desk {
    fn hear(&mut self, number: usize, bytes: &[u8]) {
        let from = [([192, 0, 2, 10], 5060), ([198, 51, 100, 20], 5070)][number % 2];
        let flow = Flow::udp(([203, 0, 113, 1], 5060).into(), from.into());
        let bytes = Bytes::copy_from_slice(bytes);
        match Message::parse(bytes.clone()) {
            Ok(message) => self.input(Input::Message { flow, message }),
            Err(_) => self.input(Input::Other { flow, bytes }),
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let Some(due) = self.proxy.deadline().filter(|due| *due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            self.input(Input::Wake);
        }
        panic!("it is woken again and again");
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.proxy.handle(self.now, input, &mut self.tables);
            while let Some(output) = self.proxy.poll(&mut self.tables) {
                if let Output::Ask { ticket, .. } = output {
                    let answer = Answer::Nothing("nobody knows".into());
                    inputs.push(Input::Answer { ticket, answer });
                }
            }
        }
    }
}
