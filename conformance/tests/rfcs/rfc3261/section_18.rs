//! §18: transports.

use proto::node::{FlowId, Input, SendError, Transport};
use proto::sip::{Frame, Framer, Name};

use crate::desk::{A, B, Desk, PROXY, Sent, invite, request, requests, response, statuses, tcp, udp};

/// §18.1.1: sent-by in our Via is where we listen, with the transport the request leaves by.
#[test]
fn our_via_names_where_we_listen() {
    for (param, word) in [("", "UDP"), (";transport=tcp", "TCP")] {
        let there = Desk::open().forwarded(request("INVITE", &format!("sip:bob@{B}{param}"))).message;
        let via = there.via().unwrap();
        assert_eq!((via.transport, via.sent_by()), (word, PROXY.to_owned()));
    }
}

/// An INVITE with so large a body, to a place that is found by name.
fn large() -> (Desk, Sent) {
    let mut desk = Desk::open();
    let draft = request("INVITE", "sip:bob@elsewhere.example").carrying("text/plain", &"large ".repeat(200));
    desk.hear(A, draft);
    let there = requests(&desk.resolve(&[B]), "INVITE").remove(0);
    (desk, there)
}

/// §18.1.1: a request of more than 1300 bytes goes by a transport that is congestion controlled.
#[test]
fn a_large_request_goes_by_tcp() {
    let (_, there) = large();
    assert_eq!((there.flow.transport, there.flow.remote.to_string().as_str()), (Transport::Tcp, B));
    assert_eq!(there.message.via().unwrap().transport, "TCP");
}

/// §18.1.1: where nobody takes TCP, it goes by UDP all the same, and its Via says so.
#[test]
fn a_large_request_falls_back_to_udp() {
    let (mut desk, there) = large();
    let again = requests(&desk.fails(&there, SendError::Refused), "INVITE").remove(0);
    assert_eq!((again.flow.transport, again.flow.remote.to_string().as_str()), (Transport::Udp, B));
    assert_eq!(again.message.via().unwrap().transport, "UDP");
    assert!(again.message.bytes().len() > 1300);
}

/// §18.1.2: a response whose topmost Via is not ours is discarded.
#[test]
fn an_answer_meant_for_another_is_discarded() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let answer = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.99:5060;branch={}\r\nVia: SIP/2.0/UDP {A};branch=z9hG4bKINVITE1\r\n\
         From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>;tag=x\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n",
        there.message.via().unwrap().branch()
    );
    assert!(statuses(&desk.hear_bytes(udp(B), answer), A).is_empty());
}

/// §18.2.1: where sent-by is not the source, received tells the source.
#[test]
fn a_source_that_differs_is_told() {
    let there = Desk::open().forwarded(invite().with("Via", "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKn"));
    let below = there.message.vias().flatten().nth(1).unwrap();
    assert_eq!(below.params.get("received"), Some("192.0.2.10"));
}

/// §18.2.1: a host name in sent-by gets received, a truthful address does not.
#[test]
fn a_truthful_via_is_left_alone() {
    let below = |via: &str| {
        let there = Desk::open().forwarded(invite().with("Via", via)).message;
        there.vias().flatten().nth(1).unwrap().params.get("received").map(str::to_owned)
    };
    assert_eq!(below(&format!("SIP/2.0/UDP {A};branch=z9hG4bKx")), None);
    assert_eq!(below("SIP/2.0/UDP phone.example;branch=z9hG4bKx").as_deref(), Some("192.0.2.10"));
}

/// §18.2.2: over a connection, responses go back by it.
#[test]
fn answers_take_the_connection() {
    let mut desk = Desk::open();
    let over_tcp = request("OPTIONS", "sip:example.com").with("Via", "SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKt");
    assert_eq!(desk.hear_by(tcp(A), over_tcp)[0].flow, tcp(A));
}

/// §18.2.2: when that connection is gone, over a new one to where the request came from and the port of sent-by.
#[test]
fn answers_make_a_connection_when_theirs_is_gone() {
    let mut desk = Desk::open();
    let over_tcp = request("INVITE", &format!("sip:bob@{B}"))
        .with("Via", "SIP/2.0/TCP 10.0.0.9:5098;branch=z9hG4bKgone");
    let there = requests(&desk.hear_by(tcp("192.0.2.10:40123"), over_tcp), "INVITE").remove(0);
    desk.tell(Input::Closed { flow: tcp("192.0.2.10:40123") });
    let back = desk.answer(&there, 486, &[]);
    let last = back.iter().rfind(|sent| sent.message.status() == Some(486)).unwrap();
    assert_eq!((last.flow.id, last.flow.remote.to_string().as_str()), (FlowId(0), "192.0.2.10:5098"));
}

/// §18.2.2: responses to a request whose Via names a maddr go there.
/// Not met: they go to where the request came from. Whoever writes a Via could otherwise have our answers sent to anybody.
#[test]
fn a_maddr_directs_no_answer() {
    let options = request("OPTIONS", "sip:example.com")
        .with("Via", &format!("SIP/2.0/UDP {A};maddr=198.51.100.66;branch=z9hG4bKm"));
    assert_eq!(Desk::open().hear(A, options)[0].flow.remote.to_string(), A);
}

/// §18.2.2: over UDP, responses go to received and the port of sent-by.
/// Not met: they go to the port the request came from, with or without rport: a phone behind a NAT is deaf otherwise.
#[test]
fn answers_over_udp_go_where_the_request_came_from() {
    let options =
        request("OPTIONS", "sip:example.com").with("Via", "SIP/2.0/UDP 10.0.0.9:5999;branch=z9hG4bKu");
    let sent = Desk::open().hear("192.0.2.10:40123", options);
    assert_eq!(sent[0].flow.remote.to_string(), "192.0.2.10:40123");
}

/// §18.3: over UDP, what is beyond Content-Length is discarded.
#[test]
fn what_stands_beyond_the_body_is_cut_off() {
    let text = invite().carrying("text/plain", "four").text() + "five";
    let there = requests(&Desk::open().hear_bytes(udp(A), text), "INVITE").remove(0);
    assert_eq!(there.message.body(), b"four");
}

/// §18.3: over UDP, a body shorter than Content-Length says is 400.
#[test]
fn a_body_that_ends_too_early_is_refused() {
    let text =
        invite().carrying("text/plain", "four").text().replace("Content-Length: 4", "Content-Length: 5");
    let mut desk = Desk::open();
    desk.hear_bytes(udp(A), text.clone());
    let sent = desk.hear_bytes(udp(A), text);
    assert!(sent.iter().all(|sent| !sent.message.is_request()), "{sent:?}");
    assert_eq!(response(&sent, A).status(), Some(400));
}

/// §18.3: without Content-Length the body reaches to the end of the datagram.
#[test]
fn a_datagram_needs_no_length() {
    let text = invite().carrying("text/plain", "all of this").text().replace("Content-Length: 11\r\n", "");
    let there = requests(&Desk::open().hear_bytes(udp(A), text), "INVITE").remove(0);
    assert_eq!(there.message.body(), b"all of this");
}

/// §18.3: on a stream, Content-Length says where the next message begins.
#[test]
fn a_stream_is_cut_by_the_length() {
    let (one, two) = (invite().carrying("text/plain", "INVITE me").text(), invite().text());
    let mut framer = Framer::default();
    framer.push((one.clone() + &two).as_bytes());
    let frames: Vec<Frame> = std::iter::from_fn(|| framer.poll()).collect();
    let text = |frame: &Frame| match frame {
        Frame::Message(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(frames.iter().map(text).collect::<Vec<_>>(), [one, two]);
}

/// §18.4: what the network reports about a request ends its transaction.
#[test]
fn an_icmp_error_is_heard() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.fails(&there, SendError::Refused);
    assert!(statuses(&sent, A).iter().any(|status| *status >= 400));
}

/// §7.5: leading CRLFs before a message are passed over.
#[test]
fn empty_lines_before_a_message_mean_nothing() {
    let sent = Desk::open().hear_bytes(udp(A), format!("\r\n\r\n{}", invite().text()));
    assert_eq!(requests(&sent, "INVITE").len(), 1);
}

/// §18: a request over TCP may leave over UDP, and the answer finds its way back.
#[test]
fn transports_are_bridged() {
    let mut desk = Desk::open();
    let over_tcp = invite().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt1"));
    let there = requests(&desk.hear_by(tcp(A), over_tcp), "INVITE").remove(0);
    assert_eq!(there.flow.transport, Transport::Udp);
    let back = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    assert_eq!(back[0].flow, tcp(A));
    let routes = back[0].message.values(Name::RecordRoute).count();
    assert_eq!(routes, 2, "RFC 5658: one for either side");
}
