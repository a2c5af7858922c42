//! Keep-alives at the sockets of a process: §§ 3.5, 5.4, 8.

use std::io::{Read, Write};

use proto::node::Transport;
use proto::stun::{Class, Message, Writer};

use crate::desk::request;
use crate::wire::{Process, datagram, datagrams, next_message, stream};

fn process() -> Process {
    Process::start(
        "listeners: [{ address: \"udp:127.0.0.1:0\" }, { address: \"tcp:127.0.0.1:0\" }]\nproxy: {}\n",
    )
}

/// §3.5.1: on a connection a double CRLF is answered by a single one, between messages as well.
#[test]
fn a_connection_is_ponged() {
    let process = process();
    let mut stream = stream(process.at(Transport::Tcp));
    for _ in 0..2 {
        let mut pong = [0; 2];
        stream.write_all(b"\r\n\r\n").unwrap();
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"\r\n");
        stream.write_all(request("OPTIONS", "sip:example.com").text().as_bytes()).unwrap();
        assert!(next_message(&mut stream).unwrap().starts_with("SIP/2.0 200"));
    }
}

/// §3.5.2, §8: a Binding request at the SIP port is answered with where it was seen from, and SIP goes on beside it.
#[test]
fn stun_is_answered_at_the_sip_port() {
    let process = process();
    let socket = datagrams();
    socket.connect(process.at(Transport::Udp)).unwrap();
    for _ in 0..2 {
        socket.send(&Writer::request([7; 12]).finish()).unwrap();
        let answer = datagram(&socket);
        let answer = Message::parse(&answer).expect("STUN");
        assert_eq!((answer.class(), answer.transaction()), (Class::Success, [7; 12]));
        assert_eq!(answer.mapped(), Some(socket.local_addr().unwrap()));
        let options = request("OPTIONS", "sip:example.com");
        socket.send(options.text().as_bytes()).unwrap();
        assert!(datagram(&socket).starts_with(b"SIP/2.0 200"));
    }
}
