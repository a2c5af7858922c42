//! Pings of ours (RFC 6455 §5.5.2), on a clock that moves by itself whenever everybody waits.

use std::collections::HashMap;
use std::sync::Arc;

use proto::node::{FlowId, Ticket, Transport};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::lanes::post::{Address, PostOffice};
use crate::tls::Keyroom;

/// A browser whose connection has come up.
struct Browser {
    socket: Socket<DuplexStream>,
    streams: Streams,
    flow: Flow,
    /// Ends when we close the connection.
    ours: JoinHandle<()>,
}

async fn browser() -> Browser {
    let post = PostOffice::new(Vec::new(), HashMap::new(), [0; 32]);
    let streams = Streams::new(Arc::new(post), Keyroom::default());
    let at = |text: &str| text.parse().unwrap();
    let (transport, local, remote) = (Transport::Ws, at("192.0.2.1:80"), at("192.0.2.9:40000"));
    let (flow, waiting) = streams.table().add(Flow { transport, local, remote, id: FlowId(0) });
    let (near, far) = duplex(LARGEST);
    let of_server = streams.clone();
    let ours = tokio::spawn(async move {
        let socket = Socket::from_raw_socket(near, Role::Server, Some(limits())).await;
        of_server.carry_websocket(socket, Spoken::Sip, flow, waiting).await;
    });
    Browser { socket: Socket::from_raw_socket(far, Role::Client, None).await, streams, flow, ours }
}

#[tokio::test(start_paused = true)]
async fn a_silent_browser_is_pinged_every_25_seconds_and_stays_as_long_as_it_answers() {
    let mut browser = browser().await;
    let began = Instant::now();
    for round in 1..=8 {
        let heard = browser.socket.next().await;
        assert!(matches!(heard, Some(Ok(Message::Ping(_)))), "{heard:?}");
        assert_eq!(
            began.elapsed().as_secs(),
            25 * round,
            "twice as long as a silent one is kept, in the end"
        );
    }
    assert!(!browser.ours.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_answers_no_ping_is_gone_after_90_seconds() {
    let mut browser = browser().await;
    browser.socket.send(Message::text("\r\n")).await.unwrap();
    let began = Instant::now();
    browser.ours.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn one_that_never_said_a_word_is_gone_after_30() {
    let browser = browser().await;
    let began = Instant::now();
    browser.ours.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_anyway_takes_the_place_of_a_ping() {
    let mut browser = browser().await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (us, said) = (Address { lane: 0, seat: 0 }, Bytes::from_static(b"SIP/2.0 100 Trying\r\n\r\n"));
    browser.streams.send(us, browser.flow, said, Ticket(0));
    assert!(matches!(browser.socket.next().await, Some(Ok(Message::Text(_)))));
    browser.socket.send(Message::text("\r\n")).await.unwrap();
    assert!(matches!(browser.socket.next().await, Some(Ok(Message::Ping(_)))));
    assert_eq!(began.elapsed().as_secs(), 45);
}
