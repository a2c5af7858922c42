//! A bench for stories of two proxies: [`Net`] carries their messages to one another, to a relay and a redirect server
//! that keep to the contract of `proto::control` and no more, and to phones that a story speaks for.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::control::{Ask, Session};
use proto::event::{Event, Side};
use proto::node::{Answer, Birth, Flow, Input, Lane, Node, Output, Question, Transport};
use proto::node_auth::{NodeKey, Proof};
use proto::sdp::{Rewrite, Sdp};
use proto::sip::{Message, Method, Name, reply};

use crate::config::{Config, Listener, MediaRange, Redirect, Relay, Siblings};
use crate::tests::testing::{Maps, address};
use crate::{Proxy, Status};

/// The proxy of a.example.
pub(crate) const P1: &str = "203.0.113.1:5060";
/// The proxy of b.example.
pub(crate) const P2: &str = "203.0.113.2:5060";
/// The relay both use.
pub(crate) const RELAY: &str = "203.0.113.9:5070";
/// The redirect server both use.
pub(crate) const REDIRECT: &str = "203.0.113.8:5060";
/// Where the relay's media comes from.
pub(crate) const MEDIA: &str = "203.0.113.9";

/// What our nodes prove themselves with.
pub(crate) const KEY: NodeKey = NodeKey([5; 32]);

/// Two proxies, a relay, a redirect server, phones.
pub(crate) struct Net {
    pub(crate) stations: BTreeMap<SocketAddr, Station>,
    pub(crate) relay: RelayScript,
    pub(crate) redirect: RedirectScript,
    /// Further addresses of a proxy.
    aliases: BTreeMap<SocketAddr, SocketAddr>,
    /// Names and where they lead, by UDP.
    pub(crate) dns: BTreeMap<String, SocketAddr>,
    /// Everything that left anybody, in order.
    pub(crate) wire: Vec<Packet>,
    pub(crate) events: Vec<(SocketAddr, Event)>,
    queue: VecDeque<Packet>,
    start: Instant,
    now: Instant,
}

/// A proxy and its tables.
pub(crate) struct Station {
    pub(crate) proxy: Proxy,
    pub(crate) tables: Maps,
}

/// One message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) message: Message,
}

/// A relay that lends ports and does nothing with them.
#[derive(Default)]
pub(crate) struct RelayScript {
    /// Sessions held, with every request that was taken for each.
    pub(crate) sessions: BTreeMap<Session, Vec<Ask>>,
    pub(crate) begun: usize,
    pub(crate) full: bool,
    /// What can't be read or proven is passed over in silence, instead of failing the story.
    pub(crate) lenient: bool,
    pub(crate) silent: bool,
}

/// A redirect server: who is served where.
#[derive(Default)]
pub(crate) struct RedirectScript {
    pub(crate) served: BTreeMap<String, String>,
    /// Named before the one that serves.
    pub(crate) first: Option<String>,
    pub(crate) silent: bool,
}

/// A proxy of `domain` at `at`, that knows the other, the relay and the redirect server.
pub(crate) fn proxy_of(domain: &str, at: &str) -> Config {
    let listener = Listener {
        network: 0,
        transport: Transport::Udp,
        bind: address(at),
        advertise: address(at),
        authenticate: false,
        anchor: None,
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    let media = MediaRange { ip: MEDIA.parse().unwrap(), ports: 20000..=29999 };
    let relay = Relay {
        name: "relay".into(),
        transport: Transport::Udp,
        address: address(RELAY),
        weight: 1,
        media: vec![media],
    };
    let redirect =
        Redirect { name: "redirect".into(), transport: Transport::Udp, address: address(REDIRECT) };
    Config {
        listeners: vec![listener],
        domains: vec![domain.into()],
        realm: domain.into(),
        relays: vec![relay],
        redirects: vec![redirect],
        siblings: Siblings {
            cidrs: vec!["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()],
            key: Some(KEY),
        },
        ..Config::default()
    }
}

impl Net {
    /// P1 and P2 as [`proxy_of`] makes them.
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    pub(crate) fn new() -> Net {
        let start = Instant::now();
        let mut net = Net {
            stations: BTreeMap::new(),
            relay: RelayScript::default(),
            redirect: RedirectScript::default(),
            aliases: BTreeMap::new(),
            dns: BTreeMap::new(),
            wire: Vec::new(),
            events: Vec::new(),
            queue: VecDeque::new(),
            start,
            now: start,
        };
        net.place(P1, proxy_of("a.example", P1), Maps::default(), 1);
        net.place(P2, proxy_of("b.example", P2), Maps::default(), 2);
        net
    }

    fn place(&mut self, at: &str, config: Config, tables: Maps, seed: u8) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) + (self.now - self.start);
        let birth = Birth { now: self.now, wall, seed: [seed; 32], lane: Lane::default() };
        let proxy = Proxy::new(Arc::new(config), birth);
        self.stations.insert(address(at), Station { proxy, tables });
    }

    /// Changes a proxy's configuration before the story begins.
    pub(crate) fn configure(&mut self, at: &str, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.stations[&address(at)].proxy.config).clone();
        change(&mut config);
        self.place(at, config, Maps::default(), 3);
    }

    /// Kills a proxy and starts it again: its tables stay, nothing else.
    pub(crate) fn restart(&mut self, at: &str) {
        let station = self.stations.remove(&address(at)).unwrap();
        self.place(at, (*station.proxy.config).clone(), station.tables, 9);
    }

    /// A proxy has another listener.
    pub(crate) fn also_at(&mut self, at: &str, proxy: &str) {
        self.aliases.insert(address(at), address(proxy));
    }

    pub(crate) fn status(&self, at: &str) -> Status {
        self.stations[&address(at)].proxy.status()
    }

    /// A phone says something, and everybody else reacts until nothing moves any more. What phones got on the way.
    pub(crate) fn say(&mut self, from: &str, to: &str, message: Message) -> Vec<Packet> {
        self.queue.push_back(Packet { from: address(from), to: address(to), message });
        self.settle()
    }

    /// Lets time pass. What phones got on the way.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Packet> {
        let until = self.now + time;
        let mut got = vec![];
        while let Some((at, who)) = self.next_deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.input(who, Input::Wake);
            got.extend(self.settle());
        }
        self.now = until;
        got
    }

    fn next_deadline(&self) -> Option<(Instant, SocketAddr)> {
        self.stations.iter().filter_map(|(at, station)| Some((station.proxy.deadline()?, *at))).min()
    }

    fn settle(&mut self) -> Vec<Packet> {
        let mut phones = vec![];
        while let Some(packet) = self.queue.pop_front() {
            self.wire.push(packet.clone());
            assert!(self.wire.len() < 20_000, "messages go round in circles");
            let station = self.aliases.get(&packet.to).copied().unwrap_or(packet.to);
            let answer = match packet.to {
                to if self.stations.contains_key(&station) => {
                    let flow = Flow::udp(to, packet.from);
                    self.input(station, Input::Message { flow, message: packet.message });
                    continue;
                }
                to if to == address(RELAY) => self.relay.answer(&packet.message, unix(self.start, self.now)),
                to if to == address(REDIRECT) => {
                    let answer = self.redirect.answer(&packet.message);
                    answer.map(|answer| KEY.sign(&answer, unix(self.start, self.now)))
                }
                _ => {
                    phones.push(packet);
                    continue;
                }
            };
            let back = |message| Packet { from: packet.to, to: packet.from, message };
            self.queue.extend(answer.map(back));
        }
        phones
    }

    fn input(&mut self, at: SocketAddr, input: Input) {
        let mut answers = vec![];
        let station = self.stations.get_mut(&at).unwrap();
        station.proxy.handle(self.now, input, &mut station.tables);
        while let Some(output) = station.proxy.poll(&mut station.tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, .. } => {
                    // What came broken in a part we don't look at leaves so.
                    let Ok(message) = Message::parse(bytes) else {
                        assert!(self.relay.lenient, "what we send is SIP");
                        continue;
                    };
                    self.queue.push_back(Packet { from: flow.local, to: flow.remote, message });
                }
                Output::Event(event) => self.events.push((at, event)),
                Output::Ask { ticket, question: Question::Resolve { host, .. } } => {
                    let answer = match self.dns.get(&host) {
                        Some(found) => Answer::Targets(vec![(Transport::Udp, *found)]),
                        None => Answer::Nothing("no such name".into()),
                    };
                    answers.push(Input::Answer { ticket, answer });
                }
                other => panic!("a proxy does not {other:?} here"),
            }
        }
        answers.into_iter().for_each(|answer| self.input(at, answer));
    }

    /// Who asked whom what, in order: `P1 INVITE relay`, `P1 200 1.2.3.4:5`.
    pub(crate) fn steps(&self) -> Vec<String> {
        let name = |at: SocketAddr| match at.to_string().as_str() {
            P1 => "P1".to_string(),
            P2 => "P2".to_string(),
            RELAY => "relay".to_string(),
            REDIRECT => "redirect".to_string(),
            phone => phone.to_string(),
        };
        let what = |m: &Message| m.status().map_or(m.method().as_str().to_string(), |s| s.to_string());
        let told = |p: &Packet| format!("{} {} {}", name(p.from), what(&p.message), name(p.to));
        self.wire.iter().map(told).collect()
    }
}

/// The wall clock of a [`Net`].
fn unix(start: Instant, now: Instant) -> u64 {
    1_767_225_600 + (now - start).as_secs()
}

impl RelayScript {
    fn answer(&mut self, request: &Message, unix: u64) -> Option<Message> {
        if self.silent || !request.is_request() || request.method() == Method::Ack {
            return None;
        }
        let proven = KEY.check(request, unix) == Proof::Proven;
        if self.lenient && !proven {
            return None;
        }
        assert_eq!(KEY.check(request, unix), Proof::Proven, "a relay hears nobody without proof");
        let session = Session::from_name(request.call_id()).expect("the Call-ID names the session");
        match request.method() {
            Method::Bye => {
                let status = if self.sessions.remove(&session).is_some() { 200 } else { 481 };
                Some(reply(request, status, "relay").finish())
            }
            Method::Invite => Some(self.invite(request, session)),
            _ => Some(reply(request, 200, "relay").finish()),
        }
    }

    fn invite(&mut self, request: &Message, session: Session) -> Message {
        let ask = Ask::read(request).expect("a relay INVITE says what it wants");
        assert_eq!(ask.session, session);
        let is_new = !self.sessions.contains_key(&session);
        if is_new && self.full {
            return reply(request, 503, "relay").header(Name::RetryAfter, 30).finish();
        }
        if is_new {
            self.begun += 1;
        }
        // The other party's leg: a port of its own, by session and side.
        let order = self.sessions.keys().position(|s| *s == session).unwrap_or(self.begun) as u16;
        let port = 20000 + order * 4 + if ask.leg == Side::Caller { 2 } else { 0 };
        let answer = reply(request, 200, &proto::control::tag(session, Side::Callee));
        let body = request.sdp().map(|(_, sdp)| through(sdp, port));
        if body == Some(None) {
            return reply(request, 488, "relay").finish();
        }
        self.sessions.entry(session).or_default().push(ask);
        match body.flatten() {
            Some(sdp) => answer.body("application/sdp", &sdp).finish(),
            None => answer.finish(),
        }
    }
}

/// An SDP with every stream at the relay.
fn through(sdp: &[u8], port: u16) -> Option<Vec<u8>> {
    let sdp = Sdp::parse(sdp).ok()?;
    let rtp = SocketAddr::new(MEDIA.parse().unwrap(), port);
    let sections: Vec<_> = sdp.media.iter().map(|_| Some(Rewrite { rtp, rtcp: None })).collect();
    Some(sdp.rewrite(&sections))
}

impl RedirectScript {
    fn answer(&mut self, request: &Message) -> Option<Message> {
        if self.silent || !request.is_request() || request.method() == Method::Ack {
            return None;
        }
        if !matches!(request.method(), Method::Register | Method::Invite) {
            return Some(reply(request, 405, "redirect").finish());
        }
        let uri = match request.method() {
            Method::Register => request.to().and_then(|to| to.uri()),
            _ => request.uri(),
        };
        let Some(aor) = uri.ok().and_then(|uri| uri.aor()) else {
            return Some(reply(request, 400, "redirect").finish());
        };
        if request.method() == Method::Register {
            let contact = request.contacts().flatten().next().map(|contact| contact.raw_uri.to_string());
            match contact.filter(|_| request.expires() != Some(0)) {
                None => self.served.remove(&aor),
                Some(contact) => self.served.insert(aor, contact),
            };
            return Some(reply(request, 200, "redirect").finish());
        }
        assert!(request.body().is_empty(), "the redirect INVITE carries no SDP");
        Some(match self.served.get(&aor) {
            Some(contact) => {
                let first = self.first.iter().map(|first| format!("<{first}>"));
                let contacts: Vec<_> = first.chain([format!("<{contact}>")]).collect();
                reply(request, 302, "redirect").header(Name::Contact, contacts.join(", ")).finish()
            }
            None => reply(request, 404, "redirect").finish(),
        })
    }
}

/// A phone: where the world sees it, and where it believes to be.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) user: &'static str,
    pub(crate) seen_at: String,
    pub(crate) believes: String,
    pub(crate) proxy: &'static str,
    pub(crate) domain: &'static str,
    /// Whether its Via has `rport` (RFC 3581).
    pub(crate) asks_rport: bool,
    cseq: u32,
}

fn domain_at(proxy: &str) -> &'static str {
    if proxy == P2 { "b.example" } else { "a.example" }
}

impl Phone {
    /// A phone that is where it believes to be.
    pub(crate) fn public(user: &'static str, at: &str, proxy: &'static str) -> Phone {
        Phone {
            user,
            seen_at: at.into(),
            believes: at.into(),
            proxy,
            domain: domain_at(proxy),
            asks_rport: false,
            cseq: 0,
        }
    }

    /// A phone in a private network.
    pub(crate) fn behind_nat(
        user: &'static str,
        seen_at: &str,
        believes: &str,
        proxy: &'static str,
    ) -> Phone {
        Phone {
            user,
            seen_at: seen_at.into(),
            believes: believes.into(),
            proxy,
            domain: domain_at(proxy),
            asks_rport: false,
            cseq: 0,
        }
    }

    /// What tells its dialogs from those of another device of the same user.
    fn tag(&self) -> String {
        format!("{}{}", self.user, address(&self.believes).port())
    }

    fn ip(&self) -> std::net::IpAddr {
        address(&self.believes).ip()
    }

    /// An SDP with one audio stream at its own idea of its address.
    pub(crate) fn sdp(&self) -> String {
        let (ip, kind) = (self.ip(), if self.ip().is_ipv6() { "IP6" } else { "IP4" });
        format!(
            "v=0\r\no={} 1 1 IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n",
            self.user
        )
    }

    /// Registers at its proxy.
    pub(crate) fn register(&mut self, net: &mut Net) {
        let request = self.register_request();
        let got = net.say(&self.seen_at.clone(), self.proxy, request);
        assert_eq!(got.last().and_then(|p| p.message.status()), Some(200), "{got:?}");
    }

    /// A REGISTER for an hour.
    pub(crate) fn register_request(&mut self) -> Message {
        let domain = self.domain;
        let aor = format!("sip:{}@{domain}", self.user);
        let head = format!("Contact: <sip:{}@{}>\r\nExpires: 3600\r\n", self.user, self.believes);
        self.request("REGISTER", &format!("sip:{domain}"), &aor, &aor, "", &head, "")
    }

    /// An INVITE outside of dialogs.
    pub(crate) fn invite(&mut self, to: &str, sdp: &str) -> Message {
        let from = format!("sip:{}@{}", self.user, self.domain);
        let head = format!("Contact: <sip:{}@{}>\r\n", self.user, self.believes);
        self.request("INVITE", to, &from, to, "", &head, sdp)
    }

    /// A request in the dialog that `seed` (a 2xx to our INVITE, or an INVITE we took with our tag) made.
    pub(crate) fn in_dialog(&mut self, method: &str, seed: &Message, sdp: &str) -> Message {
        let as_caller = !seed.is_request();
        let text = |name| seed.text(name).unwrap_or_default().to_string();
        let mut routes: Vec<String> = seed.values(Name::RecordRoute).map(str::to_string).collect();
        if as_caller {
            routes.reverse();
        }
        let route: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let target = seed.contacts().next().unwrap().unwrap().raw_uri.to_string();
        let tagged =
            |value: String| if value.contains("tag=") { value } else { value + ";tag=" + &self.tag() };
        let (from, to) = match as_caller {
            true => (text(Name::From), text(Name::To)),
            false => (tagged(text(Name::To)), text(Name::From)),
        };
        let head = format!("{route}Contact: <sip:{}@{}>\r\n", self.user, self.believes);
        let call_id = seed.call_id().to_string();
        if method != "ACK" {
            self.cseq += 1;
        }
        let number = if method == "ACK" { seed.cseq().unwrap().number } else { self.cseq };
        self.write(method, number, &target, &from, &to, &call_id, &head, sdp)
    }

    #[allow(clippy::too_many_arguments)]
    fn request(
        &mut self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        to_tag: &str,
        head: &str,
        sdp: &str,
    ) -> Message {
        self.cseq += 1;
        let (from, to) = (format!("<{from}>;tag={}", self.tag()), format!("<{to}>{to_tag}"));
        let call_id = format!("{}-{}", self.tag(), method.to_ascii_lowercase());
        self.write(method, self.cseq, uri, &from, &to, &call_id, head, sdp)
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        method: &str,
        cseq: u32,
        uri: &str,
        from: &str,
        to: &str,
        call_id: &str,
        head: &str,
        sdp: &str,
    ) -> Message {
        let rport = if self.asks_rport { ";rport" } else { "" };
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {}{rport};branch=z9hG4bK{}{method}{cseq}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{head}{kind}\
             Content-Length: {}\r\n\r\n{sdp}",
            self.believes,
            self.tag(),
            sdp.len()
        );
        Message::parse(Bytes::from(text)).expect("a phone speaks SIP")
    }

    /// Its answer to a request it got.
    pub(crate) fn answer(&self, request: &Message, status: u16, sdp: &str) -> Message {
        let contact = format!("<sip:{}@{}>", self.user, self.believes);
        let answer = reply(request, status, &self.tag()).header(Name::Contact, contact);
        if sdp.is_empty() { answer.finish() } else { answer.body("application/sdp", sdp.as_bytes()).finish() }
    }
}

/// The first request of this method that reached `phone`.
pub(crate) fn asked(got: &[Packet], phone: &Phone, method: &str) -> Option<Packet> {
    let to = address(&phone.seen_at);
    let is_it = |p: &&Packet| p.to == to && p.message.is_request() && p.message.method().as_str() == method;
    got.iter().find(is_it).cloned()
}

/// The responses that reached `phone`.
pub(crate) fn told(got: &[Packet], phone: &Phone) -> Vec<Message> {
    let to = address(&phone.seen_at);
    got.iter().filter(|p| p.to == to && !p.message.is_request()).map(|p| p.message.clone()).collect()
}

/// The SDP of a message as text; "" when it has none.
pub(crate) fn sdp_of(message: &Message) -> String {
    message.sdp().map(|(_, sdp)| String::from_utf8_lossy(sdp).into_owned()).unwrap_or_default()
}
