//! A proxy on a desk: messages go in as text, what it sends comes out, and its clock is ours.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use conformance::cast;
use conformance::world::WorldTables;
use proto::node::{
    Answer, Birth, Flow, FlowId, Input, Lane, Node, Output, Question, SendError, Ticket, Transport,
};
use proto::sip::{Message, Name};
use proto::tables::{Anchor, Secret, User};
use proxy::{Config, Proxy};

/// The proxy.
pub(crate) const PROXY: &str = "203.0.113.1:5060";
/// A caller.
pub(crate) const A: &str = "192.0.2.10:5060";
/// A callee.
pub(crate) const B: &str = "198.51.100.20:5070";
/// Another one.
pub(crate) const C: &str = "198.51.100.30:5070";
/// RFC 3261 §17.1.1.1: an estimate of the round trip.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest interval between two retransmissions.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// One step of the clock in boundary pairs.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// See the module.
pub(crate) struct Desk {
    pub(crate) proxy: Proxy,
    pub(crate) tables: WorldTables,
    /// Names that are to be resolved.
    pub(crate) questions: Vec<(Ticket, String)>,
    /// Answers to what is broken repeat what was broken, so they are no SIP either.
    pub(crate) broken: Vec<String>,
    now: Instant,
    passed: Duration,
}

/// What the proxy sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) ticket: Ticket,
    pub(crate) message: Message,
}

/// A registrar and proxy for example.com that asks nobody for credentials and has no relay.
pub(crate) fn open() -> Config {
    let mut config = cast::proxy_config(PROXY);
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = false);
    config.relays.clear();
    config.redirects.clear();
    config.siblings = Default::default();
    config.anchor = Anchor::Never;
    config.keep_alive = Duration::ZERO;
    config
}

/// The same, and everybody needs a password.
pub(crate) fn guarded() -> Config {
    let mut config = open();
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = true);
    config
}

/// The way from an address by UDP.
pub(crate) fn udp(from: &str) -> Flow {
    Flow::udp(at(PROXY), at(from))
}

/// A connection from an address.
pub(crate) fn tcp(from: &str) -> Flow {
    Flow { transport: Transport::Tcp, local: at(PROXY), remote: at(from), id: FlowId(7) }
}

/// Another connection from there.
pub(crate) fn connection(from: &str, id: u64) -> Flow {
    Flow { id: FlowId(id), ..tcp(from) }
}

pub(crate) fn at(address: &str) -> std::net::SocketAddr {
    address.parse().unwrap_or_else(|_| panic!("{address} is no address"))
}

/// So long after the desk was set up.
fn birth(now: Instant, passed: Duration, seed: u8) -> Birth {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) + passed;
    Birth { now, wall, seed: [seed; 32], lane: Lane::default() }
}

impl Desk {
    /// A proxy with this configuration; alice's and bob's password is `secret`.
    pub(crate) fn new(config: Config) -> Desk {
        let now = Instant::now();
        let mut tables = WorldTables::default();
        for name in ["alice", "bob"] {
            tables.add_user(User {
                name: name.into(),
                secret: Secret::Password("secret".into()),
                aors: vec![format!("{name}@example.com")],
                anchor: None,
                srtp: None,
                latch: None,
                algorithms: Vec::new(),
            });
        }
        Desk {
            proxy: Proxy::new(Arc::new(config), birth(now, Duration::ZERO, 3)),
            tables,
            questions: Vec::new(),
            broken: Vec::new(),
            now,
            passed: Duration::ZERO,
        }
    }

    /// One that everybody may call through.
    pub(crate) fn open() -> Desk {
        Desk::new(open())
    }

    /// The proxy is restarted, so much later: what it knew is gone but for its tables.
    pub(crate) fn restart(&mut self, config: Config, later: Duration) {
        self.now += later;
        self.passed += later;
        self.proxy = Proxy::new(Arc::new(config), birth(self.now, self.passed, 4));
    }

    /// A message comes by UDP from here.
    pub(crate) fn hear(&mut self, from: &str, message: impl Into<Draft>) -> Vec<Sent> {
        self.hear_by(udp(from), message)
    }

    /// A message comes by this way.
    pub(crate) fn hear_by(&mut self, flow: Flow, message: impl Into<Draft>) -> Vec<Sent> {
        self.hear_bytes(flow, message.into().text())
    }

    /// Bytes come by this way: as the lane does, what is SIP is handed over as such.
    pub(crate) fn hear_bytes(&mut self, flow: Flow, bytes: impl Into<Bytes>) -> Vec<Sent> {
        let bytes = bytes.into();
        match Message::parse(bytes.clone()) {
            Ok(message) => self.input(Input::Message { flow, message }),
            Err(_) => self.input(Input::Other { flow, bytes }),
        }
    }

    /// Somebody answers what the proxy sent, with more header lines.
    pub(crate) fn answer(&mut self, request: &Sent, status: u16, more: &[(&str, &str)]) -> Vec<Sent> {
        self.answer_tagged(request, status, "callee", more)
    }

    /// The same from a dialog of its own.
    pub(crate) fn answer_tagged(
        &mut self,
        request: &Sent,
        status: u16,
        tag: &str,
        more: &[(&str, &str)],
    ) -> Vec<Sent> {
        let (asked, tag) = (&request.message, if status == 100 { "" } else { tag });
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in asked.headers() {
            let value = String::from_utf8_lossy(header.value).into_owned();
            let copied = [Name::Via, Name::RecordRoute, Name::From, Name::To, Name::CallId, Name::CSeq];
            let tagged = header.name == Name::To && asked.to_tag().is_empty() && !tag.is_empty();
            match copied.contains(&header.name) {
                true if tagged => headers.push(("To".into(), format!("{value};tag={tag}"))),
                true => headers.push((header.name.as_str().into(), value)),
                false => {}
            }
        }
        headers.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let draft = Draft { first: format!("SIP/2.0 {status} Whatever"), headers, body: String::new() };
        self.hear_by(request.flow, draft)
    }

    /// What the proxy sent did not arrive.
    pub(crate) fn fails(&mut self, sent: &Sent, error: SendError) -> Vec<Sent> {
        self.input(Input::SendFailed { ticket: sent.ticket, flow: sent.flow, error })
    }

    /// A name it asked for leads here, best first.
    pub(crate) fn resolve(&mut self, addresses: &[&str]) -> Vec<Sent> {
        let (ticket, _) = self.questions.pop().expect("a name was asked for");
        let targets = addresses.iter().map(|address| (Transport::Udp, at(address))).collect();
        self.input(Input::Answer { ticket, answer: Answer::Targets(targets) })
    }

    /// Lets time pass; what the proxy did by itself meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let until = self.now + time;
        let mut sent = Vec::new();
        while let Some(due) = self.proxy.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            sent.extend(self.input(Input::Wake));
        }
        self.now = until;
        self.passed += time;
        sent
    }

    /// Somebody's device registers for an hour.
    pub(crate) fn register(&mut self, user: &str, from: &str, contact: &str) {
        let sent = self.hear(from, register(user).with("Contact", contact));
        assert_eq!(sent[0].message.status(), Some(200), "{sent:?}");
    }

    /// The INVITE from A to B as it leaves, on a desk for calls through.
    pub(crate) fn forwarded(&mut self, invite: impl Into<Draft>) -> Sent {
        let sent = self.hear(A, invite);
        requests(&sent, "INVITE").into_iter().next().unwrap_or_else(|| panic!("not forwarded: {sent:?}"))
    }

    /// Something that is no message.
    pub(crate) fn tell(&mut self, input: Input) -> Vec<Sent> {
        self.input(input)
    }

    fn input(&mut self, input: Input) -> Vec<Sent> {
        self.proxy.handle(self.now, input, &mut self.tables);
        let mut sent = Vec::new();
        while let Some(output) = self.proxy.poll(&mut self.tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, ticket } => match Message::parse(bytes.clone()) {
                    Ok(message) => sent.push(Sent { flow, ticket, message }),
                    Err(_) => self.broken.push(String::from_utf8_lossy(&bytes).into_owned()),
                },
                Output::Ask { ticket, question: Question::Resolve { host, .. } } => {
                    self.questions.push((ticket, host));
                }
                _ => {}
            }
        }
        sent
    }
}

/// The requests of this method among what was sent.
pub(crate) fn requests(sent: &[Sent], method: &str) -> Vec<Sent> {
    let fits = |sent: &&Sent| sent.message.is_request() && sent.message.method().as_str() == method;
    sent.iter().filter(fits).cloned().collect()
}

/// The status codes among what was sent to an address.
pub(crate) fn statuses(sent: &[Sent], to: &str) -> Vec<u16> {
    sent.iter().filter(|s| s.flow.remote == at(to)).filter_map(|s| s.message.status()).collect()
}

/// The last response that was sent to an address.
#[track_caller]
pub(crate) fn response(sent: &[Sent], to: &str) -> Message {
    let found = sent.iter().rev().find(|s| s.flow.remote == at(to) && s.message.status().is_some());
    found.unwrap_or_else(|| panic!("no response to {to} in {sent:?}")).message.clone()
}

/// A message before it is bytes.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    first: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// A request from A about bob, in a transaction of its own.
pub(crate) fn request(method: &str, uri: &str) -> Draft {
    let headers = [
        ("Via", format!("SIP/2.0/UDP {A};branch=z9hG4bK{method}1")),
        ("Max-Forwards", "70".into()),
        ("From", "<sip:alice@example.com>;tag=caller".into()),
        ("To", "<sip:bob@example.com>".into()),
        ("Call-ID", "c1".into()),
        ("CSeq", format!("1 {method}")),
        ("Contact", format!("<sip:alice@{A}>")),
    ];
    Draft {
        first: format!("{method} {uri} SIP/2.0"),
        headers: headers.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        body: String::new(),
    }
}

/// An INVITE to whoever is at B.
pub(crate) fn invite() -> Draft {
    request("INVITE", &format!("sip:bob@{B}"))
}

/// A REGISTER of somebody's, without a Contact yet.
pub(crate) fn register(user: &str) -> Draft {
    let aor = format!("<sip:{user}@example.com>");
    request("REGISTER", "sip:example.com")
        .without("Contact")
        .with("From", &format!("{aor};tag=r"))
        .with("To", &aor)
        .with("Call-ID", &format!("r-{user}"))
}

/// A request of the caller in the dialog that its 200 began.
pub(crate) fn in_dialog(method: &str, number: u32, ok: &Message) -> Draft {
    let mut routes: Vec<&str> = ok.values(Name::RecordRoute).collect();
    routes.reverse();
    let contact = ok.contacts().next().and_then(Result::ok).map(|contact| contact.raw_uri.to_owned());
    let draft = request(method, &contact.unwrap_or(format!("sip:bob@{B}")))
        .with("Via", &format!("SIP/2.0/UDP {A};branch=z9hG4bK{method}{number}"))
        .with("To", ok.text(Name::To).unwrap_or_default())
        .with("Call-ID", ok.call_id())
        .with("CSeq", &format!("{number} {method}"));
    match routes.is_empty() {
        true => draft,
        false => draft.with("Route", &routes.join(", ")),
    }
}

impl Draft {
    /// With this header instead of any it has of that name.
    pub(crate) fn with(self, name: &str, value: &str) -> Draft {
        let mut draft = self;
        let at = draft.headers.iter().position(|(known, _)| known == name).unwrap_or(draft.headers.len());
        draft.headers.retain(|(known, _)| known != name);
        draft.headers.insert(at.min(draft.headers.len()), (name.into(), value.into()));
        draft
    }

    /// With this header below those it has.
    pub(crate) fn adding(mut self, name: &str, value: &str) -> Draft {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Without any header of this name.
    pub(crate) fn without(mut self, name: &str) -> Draft {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// In another transaction.
    pub(crate) fn branch(self, branch: &str) -> Draft {
        self.with("Via", &format!("SIP/2.0/UDP {A};branch={branch}"))
    }

    /// With a body.
    pub(crate) fn carrying(mut self, kind: &str, body: &str) -> Draft {
        self.body = body.into();
        self.with("Content-Type", kind)
    }

    /// As it goes over the wire.
    pub(crate) fn text(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}Content-Length: {}\r\n\r\n{}", self.first, self.body.len(), self.body)
    }
}

impl Draft {
    /// To a domain as a whole.
    pub(crate) fn to_domain(self, host: &str) -> Draft {
        self.to_uri(&format!("sip:{host}"))
    }
}

impl Draft {
    /// To this request URI.
    pub(crate) fn to_uri(mut self, uri: &str) -> Draft {
        let method = self.first.split(' ').next().unwrap_or_default();
        self.first = format!("{method} {uri} SIP/2.0");
        self
    }

    /// With another method in the request line.
    pub(crate) fn method(mut self, method: &str) -> Draft {
        let rest = self.first.split_once(' ').map_or("", |(_, rest)| rest).to_owned();
        self.first = format!("{method} {rest}");
        self
    }

    /// The CANCEL of this request (§9.1).
    pub(crate) fn cancel(mut self) -> Draft {
        self.first = self.first.replacen("INVITE", "CANCEL", 1);
        self.without("Contact").with("CSeq", "1 CANCEL")
    }
}

impl From<&Draft> for Draft {
    fn from(draft: &Draft) -> Draft {
        draft.clone()
    }
}

/// Credentials that answer the challenge of a 401 or 407.
pub(crate) fn proof(
    challenge: &Message,
    user: &str,
    password: &str,
    uri: &str,
    method: &str,
    count: u32,
) -> String {
    let asked = challenge.text(Name::WwwAuthenticate).or(challenge.text(Name::ProxyAuthenticate));
    let asked = asked.unwrap_or_else(|| panic!("{challenge:?} is no challenge"));
    let request = proto::digest::Request { method, body: b"" };
    let proof = proto::digest::answer(asked, user, password, uri, request, count, "0a4f113b");
    proof.expect("a challenge that can be answered")
}
