//! Peers on sockets: an access server with STUN and a reflector in one process, two endpoints that find one another.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::time::Duration;

use endpoint_sim::{Act, After, Script, Step};
use host::config::{ConfigError, Settings};
use host::endpoint::{self, Fleet, PhonePlan};
use host::peer::{PeerPlan, run};
use host::server::Server;

fn settings(text: &str) -> Result<Settings, ConfigError> {
    Settings::from_text(Path::new("test.yaml"), text)
}

/// STUN needs ports that are written; these are above the range that is given out.
fn server(port: u16) -> Server {
    let text = format!(
        "users: [{{ name: alice, password: wonderland }}, {{ name: bob, password: builder }}]\nlog: error\n\
         access:\n  address: udp:127.0.0.1:0\n  stun: [127.0.0.1:{port}, 127.0.0.2:{}]\n  buddies: [[alice, bob]]\n\
         reflector: {{ address: \"udp:127.0.0.1:0\", allow: [127.0.0.0/8] }}\n",
        port + 1
    );
    let settings = settings(&text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn plan(server: &Server, user: &str, password: &str, seconds: u64) -> PeerPlan {
    let handle = server.handle();
    let listening = handle.listening();
    PeerPlan {
        user: user.to_owned(),
        domain: None,
        password: password.to_owned(),
        server: listening[0].addr,
        tls: None,
        ca: None,
        stun: Some(listening[1].addr),
        reflector: Some(listening[5].addr),
        local: None,
        stay: Duration::from_secs(seconds),
        say: Vec::new(),
        proxy: None,
        call: None,
        direct: true,
        nat: None,
        keeps_alive: true,
    }
}

#[test]
fn two_peers_log_in_see_one_another_and_talk_directly() {
    let server = server(61_400);
    let bob = plan(&server, "bob", "builder", 6);
    let alice = plan(&server, "alice", "wonderland", 4);
    let alice = PeerPlan { say: vec![("bob@127.0.0.1".to_owned(), "hello".to_owned())], ..alice };
    let bob = std::thread::spawn(move || run(&bob).unwrap());
    let alice = run(&alice).unwrap();
    let bob = bob.join().unwrap();
    let seen = &alice.buddies["bob@127.0.0.1"];
    assert!(alice.logged_in && seen.online && seen.path == "direct", "{alice:#?}");
    assert_eq!(alice.nat, "no NAT");
    assert_eq!(bob.messages, [("alice@127.0.0.1".to_owned(), "hello".to_owned())]);
    assert!(!bob.buddies["alice@127.0.0.1"].online, "she has left, and said so");
    server.stop();
}

#[test]
fn a_peer_calls_a_buddy_directly() {
    let server = server(61_420);
    let bob = plan(&server, "bob", "builder", 7);
    let alice = plan(&server, "alice", "wonderland", 5);
    let alice = PeerPlan { call: Some("bob@127.0.0.1".to_owned()), ..alice };
    let bob = std::thread::spawn(move || run(&bob).unwrap());
    let alice = run(&alice).unwrap();
    let bob = bob.join().unwrap();
    for (report, other) in [(&alice, "bob@127.0.0.1"), (&bob, "alice@127.0.0.1")] {
        assert!(report.call.phone.heard_only(other) && report.call.phone.audio_both_ways, "{report:#?}");
    }
    assert!(bob.call.phone.ended_by.is_some(), "she hung up as she left: {bob:#?}");
    server.stop();
}

/// Through the proxy and its relay: a peer is a phone as well.
#[test]
fn a_plain_phone_behind_the_proxy_calls_a_peer_and_is_called_by_one() {
    for peer_calls in [false, true] {
        let text = "users: [{ name: alice, password: wonderland }, { name: bob, password: builder }]\nlog: error\n\
             listeners: [{ address: \"udp:127.0.0.1:0\", anchor: always }]\nproxy: {}\n\
             relay: { address: \"udp:127.0.0.1:0\", ports: 62300-62399 }\ndomains: [here.test]\n\
             access: { address: \"udp:127.0.0.1:0\" }\n";
        let server = Server::start(&settings(text).unwrap()).unwrap_or_else(|error| panic!("{error}"));
        let listening = server.handle().listening();
        let (proxy, access) = (listening[0], listening[2].addr);
        let domain = Some("here.test".to_owned());
        let peer = PeerPlan {
            user: "bob".to_owned(),
            domain: domain.clone(),
            password: "builder".to_owned(),
            server: access,
            tls: None,
            ca: None,
            stun: None,
            reflector: None,
            local: None,
            stay: Duration::from_secs(8),
            say: Vec::new(),
            proxy: Some(proxy.addr),
            call: peer_calls.then(|| "alice@here.test".to_owned()),
            direct: true,
            nat: None,
            keeps_alive: true,
        };
        let calls = Step::call("sip:bob@here.test", After::Registered, 2000);
        let last = if peer_calls { Step::new(Act::Wait, After::Ended, 0) } else { calls };
        let hang_up = Step::new(Act::HangUp, After::Answered, 3000);
        let steps = vec![Step::new(Act::Register, After::Start, 0), last, hang_up];
        let phone = PhonePlan {
            outbound: None,
            user: "alice".to_owned(),
            domain,
            password: Some("wonderland".to_owned()),
            auth_user: None,
            proxy,
            ca: None,
            local: None,
            media_port: 62_500,
            script: Script { steps, until_ms: 9000, ..Script::default() },
        };
        let fleet = Fleet { phones: vec![phone] };
        let phone = std::thread::spawn(move || endpoint::run(&fleet).unwrap().remove(0));
        let report = run(&peer).unwrap();
        let (phone, call) = (phone.join().unwrap(), &report.call);
        assert!(
            call.phone.heard_only("alice@here.test") && call.phone.audio_both_ways,
            "{report:#?}\n{phone:#?}"
        );
        assert!(phone.heard_only("bob@here.test") && phone.audio_both_ways, "{phone:#?}");
        assert_eq!(call.path, "relay");
        server.stop();
    }
}

/// STUN and ChannelData between messages are for access servers and peers: to a SIP listener the framing is lost, and the
/// connection is closed.
#[test]
fn a_sip_listener_takes_no_packets_between_messages() {
    use std::io::{Read, Write};

    let text = "listeners: [{ address: \"tcp:127.0.0.1:0\" }]\nproxy: {}\nlog: error\n";
    let server = Server::start(&settings(text).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let at = server.handle().listening()[0].addr;
    let packets = [
        proto::stun::Writer::request([7; 12]).finish(),
        proto::peer::channel::wrap(proto::peer::channel::FIRST, b"hello"),
    ];
    for packet in packets {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&packet).unwrap();
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).is_ok(), "it stays open");
        assert!(!proto::stun::is_stun(&answer) && answer.first() != Some(&proto::peer::channel::MARK));
    }
    server.stop();
}

#[test]
fn a_wrong_password_is_no_login() {
    let server = server(61_410);
    let report = run(&plan(&server, "bob", "guess", 3)).unwrap();
    assert!(!report.logged_in);
    assert_eq!(report.login_status, Some(401));
    server.stop();
}

#[test]
fn what_cannot_be_right_is_refused_with_a_remedy() {
    for (text, words) in [
        ("access: { stun: [127.0.0.1:3478] }", "two addresses that differ in host and port"),
        ("access: { stun: [127.0.0.1:3478, 127.0.0.1:3479] }", "two addresses that differ in host and port"),
        ("access: { address: \"tcp:127.0.0.1:5070\" }", "expected UDP"),
        ("reflector: { address: \"tcp:127.0.0.1:3480\" }", "expected UDP"),
        ("access: { reflector: 192.0.2.1:3480 }", "`node-key` is missing"),
        ("access: { budies: [] }", "buddies"),
        ("reflector: { threads: 0 }", "expected 1 to 64"),
        ("access: { tls: \"tcp:127.0.0.1:443\" }", "expected TLS at a port"),
        ("access: { tls: \"tls:127.0.0.1:443\" }", "no certificate to show"),
    ] {
        let error = settings(text).map(|_| text).expect_err("it is wrong").to_string();
        assert!(error.contains(words), "{error}");
    }
}

mod reflecting {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::SystemTime;

    use host::keys::Keyring;
    use proto::peer::ticket::{Class, Keys, TOKEN, read_reflected};

    use super::*;

    const WORDS: &str = "what both instances know";
    /// Sources: enough that the kernel gives each thread some of them.
    const SOURCES: usize = 64;

    fn reflector(address: &str, threads: u16) -> Server {
        let text = format!(
            "log: error\nnode-key: {WORDS}\nreflector: {{ address: \"udp:{address}\", threads: {threads}, rate: 10000, \
             allow: [127.0.0.0/8] }}\n"
        );
        Server::start(&settings(&text).unwrap()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn unix() -> u32 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as u32
    }

    /// Elsewhere than the reflector: to its own address it passes nothing on.
    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// A packet for the reflector, with a token as an access server that knows the words mints it.
    fn packet(from: &UdpSocket, to: SocketAddr, text: &[u8]) -> Vec<u8> {
        let keys = Keys::from_secret(Keyring::from_secret(&[0; 32], Some(WORDS)).ticket, unix());
        let token = keys.mint(from.local_addr().unwrap(), to, Class::Message, unix()).unwrap();
        [&token[..], text].concat()
    }

    fn counted(server: &Server, what: &str) -> Vec<u64> {
        server.handle().lanes().iter().map(|lane| lane.reflected[what]).collect()
    }

    #[test]
    fn threads_share_the_work_and_any_of_them_serves_any_packet() {
        let server = reflector("127.0.0.1:0", 2);
        let at = server.handle().listening()[0].addr;
        let sink = socket();
        for n in 0..SOURCES {
            let source = socket();
            let text = format!("hello from {n}");
            let whole = packet(&source, sink.local_addr().unwrap(), text.as_bytes());
            source.send_to(&whole, at).unwrap();
            let mut buffer = [0; 2048];
            let (len, by) = sink.recv_from(&mut buffer).expect("it is passed on");
            assert_eq!((len + 20, by), (whole.len(), at), "shorter, and from the one address there is");
            let (from, inside) = read_reflected(&buffer[..len]).unwrap();
            assert_eq!((from, inside), (source.local_addr().unwrap(), text.as_bytes()));
        }
        let passed = counted(&server, "passed");
        assert_eq!(passed.iter().sum::<u64>(), SOURCES as u64);
        assert!(passed.iter().all(|passed| *passed > 0), "{passed:?}");
        server.stop();
    }

    #[test]
    fn a_burst_is_passed_on_whole_and_forgeries_in_it_are_counted_and_dropped() {
        let server = reflector("127.0.0.1:0", 1);
        let at = server.handle().listening()[0].addr;
        let (source, sink) = (socket(), socket());
        let good = packet(&source, sink.local_addr().unwrap(), b"good");
        for n in 0..300 {
            let mut bytes = good.clone();
            bytes[TOKEN - 1] ^= u8::from(n % 3 == 0);
            source.send_to(&bytes, at).unwrap();
        }
        let mut buffer = [0; 2048];
        for _ in 0..200 {
            let (len, _) = sink.recv_from(&mut buffer).expect("every good one is passed on");
            assert_eq!(read_reflected(&buffer[..len]).unwrap().1, b"good");
        }
        assert_eq!((counted(&server, "passed"), counted(&server, "forged")), (vec![200], vec![100]));
        sink.set_nonblocking(true).unwrap();
        assert!(sink.recv(&mut buffer).is_err(), "no forgery came through");
        server.stop();
    }

    #[test]
    fn another_instance_at_the_same_address_goes_on_where_the_first_one_ended() {
        let first = reflector("127.0.0.1:0", 1);
        let at = first.handle().listening()[0].addr;
        let (source, sink) = (socket(), socket());
        let bytes = packet(&source, sink.local_addr().unwrap(), b"again");
        let mut buffer = [0; 2048];
        source.send_to(&bytes, at).unwrap();
        sink.recv_from(&mut buffer).expect("by the first");
        first.stop();
        let second = reflector(&at.to_string(), 1);
        source.send_to(&bytes, at).unwrap();
        sink.recv_from(&mut buffer).expect("by the second");
        second.stop();
    }

    /// As behind one anycast address: no packet belongs to an instance.
    #[test]
    fn two_instances_that_take_turns_at_one_stream_pass_on_all_of_it() {
        let instances = [reflector("127.0.0.3:0", 1), reflector("127.0.0.4:0", 1)];
        let at = instances.each_ref().map(|instance| instance.handle().listening()[0].addr);
        let (source, sink) = (socket(), socket());
        let mut buffer = [0; 2048];
        for n in 0..100u8 {
            let by = at[usize::from(n) % 2];
            source.send_to(&packet(&source, sink.local_addr().unwrap(), &[n]), by).unwrap();
            let (len, from) = sink.recv_from(&mut buffer).expect("it is passed on");
            assert_eq!((from, read_reflected(&buffer[..len]).unwrap().1), (by, &[n][..]));
        }
        assert_eq!(instances.each_ref().map(|instance| counted(instance, "passed")), [[50], [50]]);
        instances.into_iter().for_each(Server::stop);
    }
}
