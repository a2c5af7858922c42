//! A phone on a desk: what it sends comes out, what a registrar says goes in, and its clock is ours.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use conformance::world::WorldTables;
use endpoint_sim::{Act, After, Outbound, Phone, PhoneConfig, Report, Script, Step};
use proto::node::{Birth, Flow, FlowId, Input, Lane, Node, Output, SocketId, Transport};
use proto::sip::{Message, Name, reply};

use crate::desk::at;

/// Where it believes itself to be.
pub(crate) const OWN: &str = "10.0.0.9:5060";
/// Its first edge proxy, and the other one.
pub(crate) const EDGES: [&str; 2] = ["203.0.113.3:5060", "203.0.113.4:5060"];
/// What it is called for good.
pub(crate) const INSTANCE: &str = "urn:uuid:00000000-0000-4000-8000-00000000000b";

/// See the module.
pub(crate) struct Handset {
    phone: Phone,
    pub(crate) now: Instant,
    sockets: u32,
}

/// What it sent.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) flow: Flow,
    pub(crate) bytes: Bytes,
    /// How long after the clock was set going.
    pub(crate) after: Duration,
}

impl Handset {
    /// Bob's, with a flow to each edge by these transports.
    pub(crate) fn new([first, second]: [Transport; 2]) -> Handset {
        let now = Instant::now();
        let mut config = PhoneConfig::new("bob", "example.com", at(OWN), at(EDGES[0]));
        config.transport = first;
        config.expires = 3600;
        config.outbound = Some(Outbound::new(INSTANCE, vec![(second, at(EDGES[1]))]));
        let birth = Birth { now, wall: SystemTime::UNIX_EPOCH, seed: [5; 32], lane: Lane::default() };
        let steps = vec![Step::new(Act::Register, After::Start, 0)];
        let script = Script { until_ms: 1_000_000_000, steps, ..Script::default() };
        Handset { phone: Phone::new(birth, config, script), now, sockets: 0 }
    }

    pub(crate) fn report(&self) -> &Report {
        self.phone.report()
    }

    /// It registers by both flows.
    pub(crate) fn registers(&mut self) -> [Message; 2] {
        let sent = self.input(Input::Wake);
        let registers: Vec<_> = messages(&sent, "REGISTER").map(|(_, register)| register).collect();
        registers.try_into().expect("a REGISTER by each flow")
    }

    /// It calls carol.
    pub(crate) fn calls(&mut self) -> Heard {
        self.phone.call_now(self.now, "sip:carol@example.com");
        self.outputs(Duration::ZERO).into_iter().find(|heard| heard.is("INVITE")).expect("an INVITE")
    }

    /// The answer to a request of its, by the connection of this number, with more header lines.
    pub(crate) fn answer(
        &mut self,
        (edge, id): (usize, u64),
        request: &Message,
        status: u16,
        more: &[(Name, &str)],
    ) -> Vec<Heard> {
        let answer = reply(request, status, "there");
        let answer = more.iter().fold(answer, |answer, (name, value)| answer.header(*name, value)).finish();
        let transport = request.via().map(|via| via.transport.to_owned()).unwrap_or_default();
        let flow = flow(Transport::from_name(&transport.to_ascii_lowercase()).unwrap(), edge, id);
        self.input(Input::Message { flow, message: answer })
    }

    /// Both registrations are granted, with these header lines besides.
    pub(crate) fn granted(&mut self, more: &[(Name, &str)]) -> [Message; 2] {
        let registers = self.registers();
        for (edge, register) in registers.iter().enumerate() {
            let contact = format!("{};expires=3600", register.text(Name::Contact).expect("a Contact"));
            let more: Vec<_> = [(Name::Contact, &*contact)].into_iter().chain(more.iter().copied()).collect();
            self.answer((edge, edge as u64 + 1), register, 200, &more);
        }
        registers
    }

    /// Something comes to it.
    pub(crate) fn input(&mut self, input: Input) -> Vec<Heard> {
        self.phone.handle(self.now, input, &mut WorldTables::default());
        self.outputs(Duration::ZERO)
    }

    /// Lets time pass; what it sent meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Heard> {
        let (began, until) = (self.now, self.now + time);
        let mut heard = Vec::new();
        while let Some(due) = self.phone.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.phone.handle(self.now, Input::Wake, &mut WorldTables::default());
            heard.extend(self.outputs(self.now - began));
        }
        self.now = until;
        heard
    }

    /// Lets time pass until it sends something that fits, so long at most.
    pub(crate) fn until(&mut self, most: Duration, fits: impl Fn(&Heard) -> bool) -> Heard {
        let (began, until) = (self.now, self.now + most);
        while let Some(due) = self.phone.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.phone.handle(self.now, Input::Wake, &mut WorldTables::default());
            if let Some(heard) = self.outputs(self.now - began).into_iter().find(&fits) {
                return heard;
            }
        }
        panic!("nothing such within {most:?}")
    }

    fn outputs(&mut self, after: Duration) -> Vec<Heard> {
        let mut heard = Vec::new();
        let tables = &mut WorldTables::default();
        while let Some(output) = self.phone.poll(tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, .. } => heard.push(Heard { flow, bytes, after }),
                Output::Bind { ticket, local } => {
                    self.sockets += 1;
                    let socket = SocketId(self.sockets);
                    self.phone.handle(self.now, Input::Bound { ticket, socket, local }, tables);
                }
                _ => {}
            }
        }
        heard
    }
}

impl Heard {
    /// The message, if it is a request of this method.
    pub(crate) fn message(&self, method: &str) -> Option<Message> {
        let message = Message::parse(self.bytes.clone()).ok()?;
        (message.is_request() && message.method().as_str() == method).then_some(message)
    }

    pub(crate) fn is(&self, method: &str) -> bool {
        self.message(method).is_some()
    }
}

/// The requests of this method, and when they came.
pub(crate) fn messages(heard: &[Heard], method: &str) -> impl Iterator<Item = (Duration, Message)> {
    heard.iter().filter_map(move |heard| Some((heard.after, heard.message(method)?)))
}

/// The connection of this number to an edge.
pub(crate) fn flow(transport: Transport, edge: usize, id: u64) -> Flow {
    let id = if transport.is_reliable() { FlowId(id) } else { FlowId(0) };
    Flow { transport, local: at(OWN), remote: at(EDGES[edge]), id }
}
