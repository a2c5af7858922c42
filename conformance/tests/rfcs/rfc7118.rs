//! RFC 7118: SIP over WebSocket.

use proto::node::{Flow, FlowId, Transport};
use proto::sip::Name;

use crate::desk::{A, B, Desk, Draft, PROXY, at, invite, register, request, requests, response};
use crate::wire::{BINARY, PING, PONG, Process, TEXT, WebSocket, handshake};

fn process() -> Process {
    Process::start("listeners: [{ address: \"ws:127.0.0.1:0\" }]\nproxy: { anchor: never }\n")
}

/// A browser's request: it knows no address of its own.
fn from_browser(draft: Draft, user: &str, branch: &str) -> Draft {
    draft
        .with("Via", &format!("SIP/2.0/WS {user}.invalid;branch=z9hG4bK{branch}"))
        .with("Contact", &format!("<sip:{user}@{user}.invalid;transport=ws>"))
}

fn browser(process: &Process, user: &str) -> WebSocket {
    let mut socket = WebSocket::open(process.at(Transport::Ws));
    socket.send(TEXT, from_browser(register(user), user, user).text().as_bytes());
    let said = socket.read_text();
    assert!(said.starts_with("SIP/2.0 200"), "{said}");
    socket
}

fn options() -> Draft {
    from_browser(request("OPTIONS", "sip:example.com"), "alice", "options")
}

/// §4.1: a client offers the subprotocol `sip` and is answered with it; whoever doesn't is not let in.
#[test]
fn the_subprotocol_is_sip() {
    let process = process();
    let at = process.at(Transport::Ws);
    for without in ["", "Sec-WebSocket-Protocol: chat\r\n"] {
        assert!(handshake(at, without).1.starts_with("HTTP/1.1 400"), "{without}");
    }
    let (_, said) = handshake(at, "Sec-WebSocket-Protocol: chat, sip\r\n");
    assert!(said.starts_with("HTTP/1.1 101"), "{said}");
    assert!(said.to_ascii_lowercase().contains("sec-websocket-protocol: sip\r\n"), "{said}");
}

/// §4.2: text and binary frames are taken alike.
#[test]
fn text_and_binary_are_both_sip() {
    let process = process();
    let mut socket = WebSocket::open(process.at(Transport::Ws));
    for (number, kind) in [(1, TEXT), (2, BINARY)] {
        let options = options().with("CSeq", &format!("{number} OPTIONS"));
        let options = options.with("Via", &format!("SIP/2.0/WS alice.invalid;branch=z9hG4bKo{number}"));
        socket.send(kind, options.text().as_bytes());
        assert!(socket.read_text().starts_with("SIP/2.0 200"), "{kind}");
    }
}

/// §4.2: a message that is no UTF-8 leaves as binary, byte for byte.
#[test]
fn a_body_that_is_no_text_goes_as_binary() {
    let process = process();
    let (mut bob, mut alice) = (browser(&process, "bob"), browser(&process, "alice"));
    let message = from_browser(request("MESSAGE", "sip:bob@example.com"), "alice", "m").without("Contact");
    let head = message.carrying("application/octet-stream", "1234").text();
    let bytes = [&head.as_bytes()[..head.len() - 4], &[0x00, 0xff, 0xfe, 0x80]].concat();
    alice.send(BINARY, &bytes);
    let (kind, came) = bob.read();
    assert_eq!((kind, &came[came.len() - 4..]), (BINARY, &[0x00, 0xff, 0xfe, 0x80][..]));
    assert!(came.starts_with(b"MESSAGE sip:bob@bob.invalid;transport=ws SIP/2.0\r\n"));
}

/// §5.1: a WebSocket message is one SIP message, so none needs Content-Length; in several frames it is one, too.
#[test]
fn a_message_is_a_message() {
    let process = process();
    let mut socket = WebSocket::open(process.at(Transport::Ws));
    let text = options().text().replace("Content-Length: 0\r\n", "");
    let (first, rest) = text.as_bytes().split_at(60);
    socket.send_frame(TEXT, first);
    socket.send_frame(0x80, rest);
    assert!(socket.read_text().starts_with("SIP/2.0 200"));
}

/// The desk's callee is in a browser.
fn by_websocket(transport: Transport) -> Flow {
    Flow { transport, local: at(PROXY), remote: at(B), id: FlowId(7) }
}

/// §5.2.1, §5.2.2: our Via says WS or WSS, and our URIs `transport=ws` for both.
#[test]
fn via_names_the_transport_and_uris_the_protocol() {
    for (transport, via) in [(Transport::Ws, "SIP/2.0/WS "), (Transport::Wss, "SIP/2.0/WSS ")] {
        let mut desk = Desk::open();
        let register = from_browser(register("bob"), "bob", "r");
        desk.hear_by(by_websocket(transport), register);
        let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
        assert_eq!(there.flow, by_websocket(transport));
        assert!(there.message.text(Name::Via).unwrap().starts_with(via), "{there:?}");
        let route = there.message.text(Name::RecordRoute).unwrap();
        assert!(route.contains(";transport=ws;lr"), "{route}");
    }
}

/// §5.2.3, §5.2.4: an answer goes by the connection its request came by, whatever the Via names.
#[test]
fn an_answer_takes_the_connection() {
    let flow = by_websocket(Transport::Ws);
    let sent = Desk::open().hear_by(flow, options());
    assert_eq!((sent[0].flow, response(&sent, B).status()), (flow, Some(200)));
}

/// §5.2.4: nobody connects to a browser: what is for it goes by the connection it opened, and nowhere once that is gone.
#[test]
fn a_browser_is_met_by_the_connection_it_opened() {
    let process = process();
    let (mut bob, mut alice) = (browser(&process, "bob"), browser(&process, "alice"));
    let call = |branch: &str| {
        let draft = request("INVITE", "sip:bob@example.com").with("Call-ID", branch);
        from_browser(draft, "alice", branch).text()
    };
    alice.send(TEXT, call("one").as_bytes());
    assert!(bob.read_text().starts_with("INVITE sip:bob@bob.invalid;transport=ws SIP/2.0\r\n"));
    assert!(alice.read_text().starts_with("SIP/2.0 100"));
    drop(bob);
    // The call that was under way fails at once, and the next one finds nobody.
    assert!(alice.read_text().starts_with("SIP/2.0 480"));
    alice.send(TEXT, call("two").as_bytes());
    // Nobody has an account here, so nobody is left of that name.
    let said = alice.read_text();
    assert!(said.starts_with("SIP/2.0 404"), "{said}");
}

/// §6: a WebSocket's ping is answered by its pong, with what it carried.
#[test]
fn a_ping_has_its_pong() {
    let process = process();
    let mut socket = WebSocket::open(process.at(Transport::Ws));
    socket.send(PING, b"are you there?");
    assert_eq!(socket.read(), (PONG, b"are you there?".to_vec()));
}

/// §6: the double CRLF of RFC 5626 is answered over WebSocket as over any stream, and no SIP is lost by it.
#[test]
fn a_double_crlf_has_its_single_one() {
    let process = process();
    let mut socket = WebSocket::open(process.at(Transport::Ws));
    socket.send(TEXT, b"\r\n\r\n");
    assert_eq!(socket.read_text(), "\r\n");
    socket.send(TEXT, options().text().as_bytes());
    assert!(socket.read_text().starts_with("SIP/2.0 200"));
}

/// §7: who may open a connection is judged by the handshake: with `origins`, a page that is not listed gets 403.
#[test]
fn other_pages_stay_out() {
    let listener = "{ address: \"ws:127.0.0.1:0\", origins: [\"https://phone.example\"] }";
    let process = Process::start(&format!("listeners: [{listener}]\nproxy: {{}}\n"));
    let knock = |origin: &str| {
        let more = format!("Sec-WebSocket-Protocol: sip\r\nOrigin: {origin}\r\n");
        handshake(process.at(Transport::Ws), &more).1
    };
    assert!(knock("https://evil.example").starts_with("HTTP/1.1 403"));
    assert!(knock("https://phone.example").starts_with("HTTP/1.1 101"));
}

/// §7: digest works as over any transport: a proxy asks who calls.
#[test]
fn a_browser_is_asked_for_its_password() {
    let mut desk = Desk::new(crate::desk::guarded());
    let sent = desk.hear_by(by_websocket(Transport::Wss), from_browser(invite(), "alice", "i"));
    assert_eq!(response(&sent, B).status(), Some(407));
}
