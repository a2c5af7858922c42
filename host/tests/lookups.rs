//! Routes by HTTP on real sockets: a small HTTP server says where calls go, or fails in all the ways servers fail.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::config::Settings;
use host::lookups::Lookups;
use host::server::Server;
use proto::lookup::{Advice, Lookup};
use proto::node::Answer;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a page says, or `None`: nothing, ever.
type Pages = Arc<dyn Fn(&str) -> Option<(u16, String)> + Send + Sync>;

/// An HTTP server that keeps its connections, and an account of what it was asked.
#[derive(Clone)]
struct Web {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    busy: Arc<AtomicUsize>,
    busiest: Arc<AtomicUsize>,
}

impl Web {
    fn new(pages: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Web {
            at: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            busy: Arc::default(),
            busiest: Arc::default(),
        };
        let (own, pages): (Web, Pages) = (web.clone(), Arc::new(pages));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, pages) = (own.clone(), pages.clone());
                own.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || own.serve(stream, &pages));
            }
        });
        web
    }

    fn serve(&self, mut stream: TcpStream, pages: &Pages) {
        let mut text = Vec::new();
        let mut some = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut some) {
            text.extend_from_slice(&some[..length]);
            if !text.ends_with(b"\r\n\r\n") {
                continue;
            }
            let request = String::from_utf8_lossy(&std::mem::take(&mut text)).into_owned();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            self.asked.lock().unwrap().push(request);
            let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.busiest.fetch_max(busy, Ordering::SeqCst);
            let page = pages(&path);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            let Some((status, body)) = page else { continue };
            let page = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(page.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn peer() -> UdpSocket {
    peer_at("127.0.0.1")
}

fn peer_at(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A proxy that asks this server about every number, and sends the rest to `last`.
fn server(web: &Web, more: &str, last: &UdpSocket) -> Server {
    let text = format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}]\nauth: {{ required: false }}\nlog: error\n\
         trunks: {{ other: {{ servers: \"udp:{}\", sources: [192.0.2.1], probe: 0s }} }}\n\
         proxy:\n  anchor: never\n  routes:\n    - {{ to: '+*', http: {{ url: 'http://{}/?to={{number}}'{more} }} }}\n    \
         - {{ to: '*', via: 'udp:{}' }}\n",
        last.local_addr().unwrap(),
        web.at,
        last.local_addr().unwrap(),
    );
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

/// A caller's INVITE for a number.
fn call(from: &UdpSocket, server: &Server, number: &str, id: &str) {
    let (own, to) = (from.local_addr().unwrap(), server.handle().listening()[0].addr);
    let text = format!(
        "INVITE sip:{number}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@a.example>;tag=1\r\nTo: <sip:{number}@{to}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@{own}>\r\nContent-Length: 0\r\n\r\n"
    );
    from.send_to(text.as_bytes(), to).unwrap();
}

/// The next message that begins like this.
fn hear(socket: &UdpSocket, start: &str) -> String {
    let mut buffer = [0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {start}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with(start) {
            return text;
        }
    }
}

#[test]
fn a_call_goes_where_the_server_says_and_what_was_said_is_remembered() {
    let (alice, desk, other) = (peer(), peer_at("127.0.0.2"), peer());
    let at = desk.local_addr().unwrap();
    let web = Web::new(move |path| {
        Some((
            200,
            match path.ends_with('2') {
                true => r#"{"trunk": "other", "number": "0077", "ttl": 60}"#.to_owned(),
                false => format!(r#"{{"targets": ["sip:desk@{at}"], "ttl": 60}}"#),
            },
        ))
    });
    let server = server(&web, ", token: pass", &other);
    for id in ["one", "two", "three"] {
        call(&alice, &server, "+491", id);
        assert!(hear(&desk, "INVITE").starts_with(&format!("INVITE sip:desk@{at} ")));
    }
    assert_eq!(web.requests(), 1, "the others were answered from memory");
    call(&alice, &server, "+492", "four");
    assert!(hear(&other, "INVITE").starts_with("INVITE sip:0077@"));
    assert_eq!(
        (web.requests(), web.connections.load(Ordering::SeqCst)),
        (2, 1),
        "one connection served both"
    );
    let asked = web.asked.lock().unwrap();
    assert!(asked[0].starts_with("GET /?to=%2B491 HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].to_lowercase().contains("authorization: bearer pass"), "{}", asked[0]);
}

#[test]
fn a_refusal_reaches_the_caller_with_its_reason() {
    let (alice, other) = (peer(), peer());
    let web = Web::new(|_| Some((200, r#"{"reject": {"code": 402, "reason": "no credit"}}"#.into())));
    let server = server(&web, "", &other);
    call(&alice, &server, "+49", "one");
    let refusal = hear(&alice, "SIP/2.0 402");
    assert!(refusal.contains("399") && refusal.contains("\"no credit\""), "{refusal}");
}

/// Silence, an error, nonsense, a 404: the next route decides, and the same is not asked again for a while.
#[test]
fn a_server_that_fails_leaves_it_to_the_next_route() {
    let (alice, other) = (peer(), peer());
    let web = Web::new(|path| match path.chars().last() {
        Some('1') => None,
        Some('2') => Some((500, "{}".into())),
        Some('3') => Some((200, "<html>".into())),
        Some('4') => Some((302, String::new())),
        Some('5') => Some((200, "{}".into())),
        Some('6') => Some((200, format!("{{\"targets\": [\"{}\"]}}", "x".repeat(70_000)))),
        _ => Some((404, String::new())),
    });
    let server = server(&web, ", timeout: 200ms, negative: 1m", &other);
    for round in 0..2 {
        for number in 1..=7 {
            call(&alice, &server, &format!("+4{number}"), &format!("{round}-{number}"));
            assert!(hear(&other, "INVITE").starts_with(&format!("INVITE sip:+4{number}@")));
        }
    }
    assert_eq!(web.requests(), 7);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Web { at: nobody, ..web };
    let server = self::server(&gone, "", &other);
    call(&alice, &server, "+49", "gone");
    hear(&other, "INVITE");
}

/// A connection that the server has closed meanwhile is no failure.
#[test]
fn a_kept_connection_that_is_gone_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lookups = Lookups::default();
    for number in 0..20 {
        let answer = runtime.block_on(lookups.answer(&asks(), format!("http://{at}/{number}")));
        assert_eq!(answer, Answer::Nothing("nothing is said of it".into()), "{number}");
    }
}

fn asks() -> Lookup {
    let url = "http://x/{number}".to_owned();
    let minute = Duration::from_secs(60);
    Lookup { url, token: None, timeout: PATIENCE, cache: minute, negative: minute }
}

#[test]
fn many_calls_at_once_ask_few_things_at_a_time_and_the_same_thing_once() {
    let web = Web::new(|path| {
        std::thread::sleep(Duration::from_millis(20));
        Some((200, format!(r#"{{"targets": ["sip:{}@192.0.2.1"]}}"#, &path[1..])))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lookups, lookup) = (Arc::new(Lookups::default()), Arc::new(asks()));
    runtime.block_on(async {
        let calls: Vec<_> = (0..400)
            .map(|call| {
                let (lookups, lookup, url) =
                    (lookups.clone(), lookup.clone(), format!("http://{}/{}", web.at, call % 200));
                tokio::spawn(async move { (call % 200, lookups.answer(&lookup, url).await) })
            })
            .collect();
        for call in calls {
            let (number, answer) = call.await.unwrap();
            assert_eq!(answer, Answer::Advice(Advice::Targets(vec![format!("sip:{number}@192.0.2.1")])));
        }
    });
    assert_eq!(web.requests(), 200);
    let busiest = web.busiest.load(Ordering::SeqCst);
    assert!((2..=64).contains(&busiest), "{busiest} at a time");
}
