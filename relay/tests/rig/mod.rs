//! A relay lane in simulated time: its sockets open at once, its packets come out as values, its SIP is that of one proxy.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "each test file uses its own part; one Instant to count from"
)]

pub mod played;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proto::control::{Ask, Keying, Mode, Session, tag};
use proto::door::{Door, Dropped, Expected};
use proto::event::{Event, Side};
use proto::node::{Answer, Birth, Flow, Input, Lane, Node, Output, Question, SocketId, Ticket, Work};
use proto::node_auth::NodeKey;
use proto::rtp::{Header, write};
use proto::sip::{Builder, Message, Name, reply};
use proto::tables::{Binding, Fact, Latch, Limit, Tables, User};
use relay::{Config, Network, Relay};

pub const KEY: NodeKey = NodeKey([7; 32]);
pub const PROXY: &str = "198.51.100.1:5060";
pub const CONTROL: &str = "198.51.100.2:5090";
/// Where ng commands come in, and where they come from.
pub const NG: &str = "127.0.0.1:2223";
pub const CLIENT: &str = "127.0.0.1:9999";
pub const INSIDE: &str = "10.0.0.1";
pub const OUTSIDE: &str = "203.0.113.1";

pub const SECOND: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);

/// A relay uses tables for one thing: to leave sessions behind.
#[derive(Clone, Debug, Default)]
pub struct KeptTables {
    pub sessions: BTreeMap<u64, Vec<u8>>,
}

impl Tables for KeptTables {
    fn keeps_sessions(&self) -> bool {
        true
    }
    fn keep_session(&mut self, session: u64, record: Option<&[u8]>) {
        match record {
            Some(record) => drop(self.sessions.insert(session, record.to_vec())),
            None => drop(self.sessions.remove(&session)),
        }
    }
    fn kept_sessions(&mut self) -> Vec<(u64, Vec<u8>)> {
        self.sessions.clone().into_iter().collect()
    }
    fn bindings(&self, _: &str) -> Vec<Binding> {
        Vec::new()
    }
    fn edit_bindings(&mut self, _: &str, _: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        Vec::new()
    }
    fn aors(&self) -> Vec<String> {
        Vec::new()
    }
    fn user(&self, _: &str) -> Option<Arc<User>> {
        None
    }
    fn owner(&self, _: &str) -> Option<Arc<User>> {
        None
    }
    fn admit(&mut self, _: Instant, _: Limit, _: IpAddr) -> bool {
        true
    }
    fn use_nonce(&mut self, _: Instant, _: u64, _: u32) -> bool {
        true
    }
    fn remember(&mut self, _: Fact, _: &str) {}
    fn remembers(&self, _: Fact, _: &str) -> bool {
        false
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two networks: `outside` and `inside` behind no NAT, and `six` for IPv6.
pub fn config() -> Config {
    let network = |name: &str, ip: &str| {
        let ip = ip.parse().unwrap();
        Network { name: name.into(), bind: ip, advertise: ip }
    };
    Config {
        networks: vec![network("outside", OUTSIDE), network("inside", INSIDE), network("six", "2001:db8::1")],
        ports: 30_000..=30_199,
        all_ports: 30_000..=30_199,
        reserve: 8,
        key: Some(KEY),
        ..Config::default()
    }
}

/// One datagram that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub struct Rig {
    pub relay: Relay,
    pub config: Config,
    pub tables: KeptTables,
    pub now: Instant,
    pub born: Instant,
    pub events: Vec<Event>,
    /// Datagrams since last asked.
    pub sent: Vec<Sent>,
    /// SIP messages since last asked.
    pub sip: Vec<Message>,
    /// Answers to ng commands, since last asked.
    pub ng: Vec<Vec<u8>>,
    /// What was passed on to another lane, and to which, since last asked.
    pub passed: Vec<(u16, Input)>,
    /// Connections that were closed, since last asked.
    pub closed: Vec<Flow>,
    /// Copies of recorded sessions.
    pub captured: Vec<proto::node::Captured>,
    /// What the path below was told, since last asked.
    pub offloads: Vec<proto::offload::Offload>,
    /// Closed doors, and how many each has kept out.
    pub doors: BTreeMap<SocketId, (Expected, u64)>,
    /// Whether doors can be closed.
    pub has_doors: bool,
    /// How often one was closed, or told whom to let in.
    pub doors_closed: usize,
    /// Counts of doors that nobody has been told yet.
    kept_out: Vec<Dropped>,
    /// Whether work waits for [`Rig::do_work`]; else it is done at once.
    pub holds_work: bool,
    /// Work nobody has done yet.
    pub work: Vec<(Ticket, Work)>,
    pub sockets: BTreeMap<SocketAddr, SocketId>,
    pub addresses: BTreeMap<SocketId, SocketAddr>,
    /// Sockets emptied so far.
    pub emptied: Vec<SocketId>,
    /// Whether binds succeed.
    pub binds: bool,
    /// Binds nobody has answered.
    pub failed: Vec<(Ticket, SocketAddr)>,
    branches: u32,
    cseq: u32,
}

impl Rig {
    pub fn new(config: Config) -> Rig {
        Rig::with_binds(config, true)
    }

    pub fn with_binds(config: Config, binds: bool) -> Rig {
        Rig::after(config, KeptTables::default(), Instant::now(), binds)
    }

    /// The next process, with what the last one left behind.
    pub fn after(config: Config, tables: KeptTables, now: Instant, binds: bool) -> Rig {
        Rig::lane(config, tables, now, binds, Lane::default())
    }

    /// One of several lanes.
    pub fn lane(config: Config, tables: KeptTables, now: Instant, binds: bool, lane: Lane) -> Rig {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let birth = Birth { now, wall, seed: [3; 32], lane };
        let tables_empty = tables.sessions.is_empty();
        let mut rig = Rig {
            relay: Relay::new(birth, config.clone()),
            config,
            tables,
            now,
            born: now,
            events: Vec::new(),
            sent: Vec::new(),
            sip: Vec::new(),
            ng: Vec::new(),
            passed: Vec::new(),
            closed: Vec::new(),
            captured: Vec::new(),
            offloads: Vec::new(),
            doors: BTreeMap::new(),
            has_doors: true,
            doors_closed: 0,
            kept_out: Vec::new(),
            holds_work: false,
            work: Vec::new(),
            sockets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            emptied: Vec::new(),
            binds,
            branches: 0,
            cseq: 10_000 * u32::from(!tables_empty),
            failed: Vec::new(),
        };
        rig.tell(Input::Wake);
        rig
    }

    pub fn tell(&mut self, input: Input) {
        self.relay.handle(self.now, input, &mut self.tables);
        self.drain();
        while !self.kept_out.is_empty() {
            let kept_out = std::mem::take(&mut self.kept_out);
            self.relay.handle(self.now, Input::Dropped(kept_out), &mut self.tables);
            self.drain();
        }
        if !self.holds_work {
            self.do_work();
        }
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.relay.poll(&mut self.tables) {
            match output.on_the_wire() {
                Output::Bind { ticket, local } if self.binds => self.bind(ticket, local),
                Output::Bind { ticket, local } => self.failed.push((ticket, local)),
                Output::SendMedia { socket, to, bytes } => {
                    self.sent.push(Sent { from: self.addresses[&socket], to, bytes: bytes.to_vec() });
                }
                Output::Send { flow, bytes, .. } if flow.local == address(NG) => self.ng.push(bytes.to_vec()),
                Output::Send { flow, bytes, .. } => {
                    assert_eq!((flow.local, flow.remote), (address(CONTROL), address(PROXY)));
                    self.sip.push(Message::parse(bytes).unwrap());
                }
                Output::Pass { lane, flow, bytes, gathered } => {
                    self.passed.push((lane, Input::Passed { flow, bytes, gathered }));
                }
                Output::Close { flow } => self.closed.push(flow),
                Output::Empty { socket } => self.emptied.push(socket),
                Output::Release { socket } => drop(self.addresses.remove(&socket)),
                Output::Event(event) => self.events.push(event),
                Output::Capture(captured) => self.captured.push(*captured),
                Output::Offload(offload) => self.offloads.push(*offload),
                Output::Door(door) => self.obey_door(*door),
                Output::Ask { ticket, question: Question::Work(work) } => self.work.push((ticket, work)),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn obey_door(&mut self, door: Door) {
        match door {
            Door::Close(socket, _) if !self.has_doors => {
                self.kept_out.push(Dropped { socket, packets: 0, over: true });
            }
            Door::Close(socket, expected) => {
                self.doors_closed += 1;
                self.doors.entry(socket).or_default().0 = expected;
            }
            Door::Count(sockets) => {
                for socket in sockets {
                    let packets = self.doors[&socket].1;
                    self.kept_out.push(Dropped { socket, packets, over: false });
                }
            }
            Door::Open(socket) => drop(self.doors.remove(&socket).expect("it is closed")),
        }
    }

    /// Does the work there is, and what comes of it; how many pieces that were.
    pub fn do_work(&mut self) -> usize {
        let work = std::mem::take(&mut self.work);
        for (ticket, work) in &work {
            work.run();
            self.tell(Input::Answer { ticket: *ticket, answer: Answer::Done(work.clone()) });
        }
        work.len()
    }

    /// Every port that is asked for turns out to be somebody else's.
    pub fn fail_binds(&mut self) {
        for (ticket, local) in std::mem::take(&mut self.failed) {
            self.tell(Input::BindFailed { ticket, local, why: "taken".into() });
        }
    }

    fn bind(&mut self, ticket: Ticket, local: SocketAddr) {
        let socket = SocketId(self.addresses.len() as u32);
        self.addresses.insert(socket, local);
        assert!(self.sockets.insert(local, socket).is_none(), "{local} bound twice");
        self.relay.handle(self.now, Input::Bound { ticket, socket, local }, &mut self.tables);
    }

    /// Lets time pass, waking the relay whenever it asks for it.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..100_000 {
            match self.relay.deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.tell(Input::Wake);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the relay never rests");
    }

    /// A packet arrives at one of the relay's ports; what leaves for it.
    pub fn packet(&mut self, from: &str, at: SocketAddr, bytes: &[u8]) -> Option<Sent> {
        let socket = *self.sockets.get(&at).unwrap_or_else(|| panic!("{at} is not open"));
        if let Some((expected, dropped)) = self.doors.get_mut(&socket)
            && !expected.lets_in(address(from), bytes)
        {
            *dropped += 1;
            return None;
        }
        let (before, expected, turned_away) =
            (self.sent.len(), self.relay.expected_at(socket), self.turned_away());
        self.tell(Input::Media { socket, from: address(from), bytes: bytes.to_vec().into() });
        // A door never keeps out what would have been let pass.
        let is_expected = expected.is_none_or(|expected| expected.lets_in(address(from), bytes));
        assert!(is_expected || self.turned_away() > turned_away, "{from} was heard at {at}, unexpected");
        self.sent.get(before).cloned()
    }

    fn turned_away(&self) -> u64 {
        self.relay.status().traffic.dropped.iter().sum()
    }

    fn unix(&self) -> u64 {
        1_800_000_000 + self.now.duration_since(self.born).as_secs()
    }

    /// A request of the proxy; the final response.
    pub fn request(&mut self, request: Builder) -> Message {
        let signed = KEY.sign(&request.finish(), self.unix());
        self.unsigned(signed)
    }

    pub fn unsigned(&mut self, request: Message) -> Message {
        self.sip.clear();
        self.tell(Input::Message {
            flow: Flow::udp(address(CONTROL), address(PROXY)),
            message: request.clone(),
        });
        let response = self.sip.pop().expect("a response");
        if request.method().as_str() == "INVITE" {
            self.ack(&request, &response);
        }
        response
    }

    fn ack(&mut self, request: &Message, response: &Message) {
        let cseq = request.cseq().unwrap().number;
        let success = response.status().unwrap() < 300;
        let via = request.text(Name::Via).unwrap();
        let via = if success { format!("{via}a") } else { via.to_owned() };
        let ack = Builder::request("ACK", request.request_uri())
            .header(Name::Via, via)
            .header(Name::From, request.text(Name::From).unwrap())
            .header(Name::To, response.text(Name::To).unwrap())
            .header(Name::CallId, request.call_id())
            .header(Name::CSeq, format_args!("{cseq} ACK"))
            .finish();
        self.tell(Input::Message { flow: Flow::udp(address(CONTROL), address(PROXY)), message: ack });
    }

    /// A request in a session's dialog, without Relay-* headers.
    pub fn in_dialog(&mut self, method: &str, session: Session) -> Builder {
        self.branches += 1;
        self.cseq += 1;
        Builder::request(method, &format!("sip:{session}@{CONTROL}"))
            .header(Name::Via, format_args!("SIP/2.0/UDP {PROXY};branch=z9hG4bKrig{}", self.branches))
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:proxy@{PROXY}>;tag={}", tag(session, Side::Caller)))
            .header(Name::CallId, session)
            .header(Name::CSeq, format_args!("{} {method}", self.cseq))
            .header(Name::Contact, format_args!("<sip:proxy@{PROXY}>"))
    }

    /// To with or without the relay's tag.
    pub fn to(builder: Builder, session: Session, inside: bool) -> Builder {
        let to = format!("<sip:{session}@{CONTROL}>");
        let tag = if inside { format!(";tag={}", tag(session, Side::Callee)) } else { String::new() };
        builder.header(Name::To, to + &tag)
    }

    /// INVITE or re-INVITE.
    pub fn invite(&mut self, ask: &Ask, sdp: &str, inside: bool) -> Message {
        let request = self.in_dialog("INVITE", ask.session);
        let request = ask.write(Rig::to(request, ask.session, inside));
        let request = if sdp.is_empty() { request } else { request.body("application/sdp", sdp.as_bytes()) };
        self.request(request)
    }

    pub fn bye(&mut self, session: Session) -> u16 {
        let bye = self.in_dialog("BYE", session);
        self.request(Rig::to(bye, session, true)).status().unwrap()
    }

    /// Answers the relay's own request.
    pub fn answer(&mut self, request: &Message, status: u16) {
        let message = reply(request, status, "").finish();
        self.tell(Input::Message { flow: Flow::udp(address(CONTROL), address(PROXY)), message });
    }

    pub fn ports(&self) -> relay::Ports {
        self.relay.status().ports
    }

    pub fn dropped(&self, why: relay::Why) -> u64 {
        self.relay.status().traffic.dropped[why as usize]
    }

    /// A call between two parties, offer and answer; what each was told.
    pub fn call(&mut self, number: u64, a: &Phone, b: &Phone) -> Call {
        let session = Session(number);
        let offer = self.invite(&a.ask(session, Side::Caller), &a.sdp(), false);
        assert_eq!(offer.status(), Some(200), "{:?}", offer.bytes());
        let answer = self.invite(&b.ask(session, Side::Callee), &b.sdp(), true);
        assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
        Call { session, for_a: media_of(&answer), for_b: media_of(&offer) }
    }
}

/// The first m= section's address in a message's SDP.
pub fn media_of(message: &Message) -> SocketAddr {
    medias_of(message)[0].expect("an address")
}

pub fn medias_of(message: &Message) -> Vec<Option<SocketAddr>> {
    let (_, sdp) = message.sdp().expect("SDP");
    proto::sdp::Sdp::parse(sdp).unwrap().media.iter().map(|media| media.address()).collect()
}

/// The port above.
pub fn rtcp(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// Where the two parties of a call were told to send.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub session: Session,
    pub for_a: SocketAddr,
    pub for_b: SocketAddr,
}

/// One party as its proxy sees it.
#[derive(Clone, Debug)]
pub struct Phone {
    /// What its SDP says.
    pub media: SocketAddr,
    /// Where its signalling comes from.
    pub peer: Option<SocketAddr>,
    pub network: &'static str,
    pub other_network: &'static str,
    pub latch: Latch,
    pub trusted: bool,
    pub reset: bool,
    /// Its media comes by another session.
    pub chained: bool,
    pub mode: Mode,
    /// What its requests say of keys.
    pub srtp: Option<Keying>,
    /// Lines added to its m= section.
    pub lines: String,
}

/// A phone on a public address.
pub fn public(media: &str) -> Phone {
    let media = address(media);
    Phone {
        media,
        peer: Some(SocketAddr::new(media.ip(), 5060)),
        network: "outside",
        other_network: "outside",
        latch: Latch::Strict,
        trusted: false,
        reset: false,
        chained: false,
        mode: Mode::Split,
        srtp: None,
        lines: String::new(),
    }
}

/// A phone behind a NAT: a private address in its SDP, a public one seen.
pub fn natted(media: &str, seen: &str) -> Phone {
    Phone { peer: Some(address(seen)), ..public(media) }
}

impl Phone {
    pub fn ask(&self, session: Session, leg: Side) -> Ask {
        let networks = match leg {
            Side::Caller => [self.network, self.other_network],
            Side::Callee => [self.other_network, self.network],
        };
        Ask {
            session,
            mode: self.mode,
            leg,
            peer: self.peer.map(|peer| peer.ip()),
            networks: networks.map(str::to_owned),
            latch: self.latch,
            trusted: self.trusted,
            reset: self.reset,
            chained: self.chained,
            srtp: self.srtp,
        }
    }

    pub fn sdp(&self) -> String {
        let port = self.media.port();
        self.head()
            + &format!("m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n")
            + &self.lines
    }

    /// Everything above the m= lines.
    pub fn head(&self) -> String {
        let family = if self.media.is_ipv4() { "IP4" } else { "IP6" };
        let ip = self.media.ip();
        format!("v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
    }
}

/// Packet `n` of a G.711 stream.
pub fn rtp(ssrc: u32, n: u16) -> Vec<u8> {
    let header = Header { payload_type: 0, marker: false, sequence: n, timestamp: u32::from(n) * 160, ssrc };
    write(header, &[0xd5; 160])
}

/// A receiver report without blocks (RFC 3550 §6.4.2).
pub fn rtcp_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

/// A binding request (RFC 8489 §5).
pub fn stun() -> Vec<u8> {
    let mut packet = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    packet.extend([9; 12]);
    packet
}
