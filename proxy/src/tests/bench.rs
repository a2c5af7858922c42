//! A bench for stories: one proxy, its tables, and a clock; messages go in, outputs are looked at.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::event::Event;
use proto::node::{Birth, Flow, Input, Lane, Node, Output, Question, Ticket, Transport};
use proto::sip::{Message, Name};
use proto::tables::Anchor;

use crate::config::{Config, Goes, Listener, NextHop, Pattern, Route, Trunk};
use crate::tests::testing::{Maps, address};
use crate::{Proxy, Status};

/// The proxy's address in every story.
pub(crate) const PROXY: &str = "203.0.113.1:5060";
/// The caller.
pub(crate) const A: &str = "192.0.2.10:5060";
/// The callee.
pub(crate) const B: &str = "198.51.100.20:5070";

/// A proxy on the bench.
pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    pub(crate) tables: Maps,
    pub(crate) events: Vec<Event>,
    pub(crate) questions: Vec<(Ticket, Question)>,
    /// The relay session that was asked for last.
    pub(crate) session: Option<String>,
    birth: Birth,
    now: Instant,
}

/// What the proxy sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) ticket: Ticket,
    pub(crate) message: Message,
}

/// A proxy that asks nobody for credentials, sends everything to [`B`] and never anchors.
pub(crate) fn plain() -> Config {
    let mut config = Config { anchor: Anchor::Never, ..open() };
    everything_by(&mut config, Trunk { ..Trunk::to("b", next("198.51.100.20", 5070)) });
    config
}

/// An address by whatever transport.
pub(crate) fn next(host: &str, port: u16) -> NextHop {
    NextHop { host: host.into(), port: Some(port), transport: None }
}

/// A route for everything, by one more trunk.
pub(crate) fn everything_by(config: &mut Config, trunk: Trunk) {
    let goes = Goes::Trunks(vec![config.trunks.len()]);
    let name = trunk.name.to_string();
    let (from, prefix) = (Vec::new(), String::new());
    config.trunks.push(Arc::new(trunk));
    config.routes.push(Route {
        name,
        user: Pattern::Any,
        domain: Pattern::Any,
        from,
        strip: 0,
        prefix,
        goes,
    });
}

/// The first trunk, to be changed.
pub(crate) fn trunk(config: &mut Config) -> &mut Trunk {
    Arc::make_mut(&mut config.trunks[0])
}

/// A proxy that asks nobody for credentials and knows no routes.
pub(crate) fn open() -> Config {
    let listener = |transport| Listener {
        network: 0,
        transport,
        bind: address(PROXY),
        advertise: address(PROXY),
        authenticate: false,
        anchor: None,
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    Config {
        listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
        domains: vec!["example.com".into()],
        realm: "example.com".into(),
        ..Config::default()
    }
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    pub(crate) fn new(config: Config) -> Bench {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let birth = Birth { now, wall, seed: [3; 32], lane: Lane::default() };
        let proxy = Proxy::new(Arc::new(config), birth);
        Bench {
            proxy,
            tables: Maps::default(),
            events: Vec::new(),
            questions: Vec::new(),
            session: None,
            birth,
            now,
        }
    }

    /// The proxy is killed and started again: tables and keys stay, everything else is forgotten.
    pub(crate) fn restart(&mut self) {
        let birth = Birth { now: self.now, wall: self.birth.wall_at(self.now), seed: [4; 32], ..self.birth };
        self.proxy = Proxy::new(self.proxy.config.clone(), birth);
        self.birth = birth;
    }

    pub(crate) fn input(&mut self, input: Input) -> Vec<Sent> {
        self.proxy.handle(self.now, input, &mut self.tables);
        let mut sent = Vec::new();
        while let Some(output) = self.proxy.poll(&mut self.tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, ticket } => {
                    let message = Message::parse(bytes).expect("what we send is SIP");
                    sent.push(Sent { flow, ticket, message });
                }
                Output::Event(event) => self.events.push(event),
                Output::Ask { ticket, question } => self.questions.push((ticket, question)),
                other => panic!("a proxy does not {other:?}"),
            }
        }
        sent
    }

    /// The bytes that leave when these come, SIP or not.
    pub(crate) fn bytes(&mut self, flow: Flow, bytes: &str) -> Vec<(Flow, Bytes)> {
        self.proxy.handle(
            self.now,
            Input::Other { flow, bytes: Bytes::from(bytes.to_owned()) },
            &mut self.tables,
        );
        let outputs = std::iter::from_fn(|| self.proxy.poll(&mut self.tables));
        let sent = |output: Output| match output.on_the_wire() {
            Output::Send { flow, bytes, .. } => Some((flow, bytes)),
            _ => None,
        };
        outputs.filter_map(sent).collect()
    }

    /// A message from `remote` by UDP.
    pub(crate) fn from(&mut self, remote: &str, text: &str) -> Vec<Sent> {
        self.by(Flow::udp(address(PROXY), address(remote)), message(text))
    }

    pub(crate) fn by(&mut self, flow: Flow, message: Message) -> Vec<Sent> {
        self.input(Input::Message { flow, message })
    }

    /// An answer to something the proxy sent, with more header lines and a body.
    pub(crate) fn answer(&mut self, to: &Sent, status: u16, more: &str, body: &str) -> Vec<Sent> {
        let tag = if status == 100 { "" } else { "callee" };
        let mut text = format!("SIP/2.0 {status} Whatever\r\n");
        for header in to.message.headers() {
            let (name, value) = (header.name, String::from_utf8_lossy(header.value));
            match name {
                Name::Via | Name::From | Name::CallId | Name::CSeq | Name::RecordRoute => {
                    text += &format!("{}: {value}\r\n", name.as_str());
                }
                Name::To if to.message.to_tag().is_empty() && !tag.is_empty() => {
                    text += &format!("To: {value};tag={tag}\r\n");
                }
                Name::To => text += &format!("To: {value}\r\n"),
                _ => {}
            }
        }
        for line in more.lines() {
            text += &format!("{}\r\n", line.trim());
        }
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let message = Message::parse(Bytes::from(text)).expect("a test's answer is SIP");
        // A redirect server proves what it says to whoever proved to be ours.
        let message = match &self.proxy.config.siblings.key {
            Some(key) if status == 302 && to.message.text(Name::NodeAuth).is_some() => {
                key.sign(&message, self.birth.unix_at(self.now))
            }
            _ => message,
        };
        self.by(to.flow, message)
    }

    /// Lets time pass, and the proxy do what it does by itself.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let until = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.proxy.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            sent.extend(self.input(Input::Wake));
        }
        self.now = until;
        sent
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn status(&self) -> Status {
        self.proxy.status()
    }
}

/// A message from text with plain line ends.
pub(crate) fn message(text: &str) -> Message {
    let (head, body) = text.trim_start().split_once("\n\n").unwrap_or((text.trim_start(), ""));
    let head: Vec<&str> = head.lines().map(str::trim).collect();
    let body = body.lines().map(|line| format!("{}\r\n", line.trim())).collect::<String>();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let whole = format!("{}\r\n{kind}Content-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len());
    Message::parse(Bytes::from(whole)).expect("a test's message is SIP")
}

/// An INVITE of [`A`] to `uri`.
pub(crate) fn invite(uri: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0
         Via: SIP/2.0/UDP {A};branch=z9hG4bKa1
         From: <sip:a@example.com>;tag=caller
         To: <{uri}>
         Call-ID: c1
         CSeq: 1 INVITE
         Contact: <sip:a@{A}>
         Max-Forwards: 70"
    )
}

/// A request in the dialog of [`invite`], from the caller, by the Record-Route of `answer`.
pub(crate) fn in_dialog(method: &str, number: u32, answer: &Message) -> String {
    let mut routes: Vec<&str> = answer.values(Name::RecordRoute).collect();
    routes.reverse();
    let route = if routes.is_empty() { String::new() } else { format!("\nRoute: {}", routes.join(", ")) };
    let to = answer.text(Name::To).unwrap();
    format!(
        "{method} sip:b@{B} SIP/2.0
         Via: SIP/2.0/UDP {A};branch=z9hG4bK{method}{number}{route}
         From: <sip:a@example.com>;tag=caller
         To: {to}
         Call-ID: c1
         CSeq: {number} {method}
         Max-Forwards: 70"
    )
}

/// What was sent to `remote`.
pub(crate) fn to<'s>(sent: &'s [Sent], remote: &str) -> Vec<&'s Message> {
    sent.iter().filter(|s| s.flow.remote == address(remote)).map(|s| &s.message).collect()
}
