//! SIP over WebSocket (RFC 7118): the subprotocol `sip` or no connection, one SIP message in each WebSocket message, as
//! text or binary. What is not SIP goes to the service, which answers what can be answered; the framing is not lost by it.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use proto::node::{Flow, SendError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::table::{Asked, Parcel};
use super::{FIRST_WORD, STALL, Streams};

/// A WebSocket over a stream.
pub(super) type Socket<S> = WebSocketStream<S>;

/// The subprotocol (RFC 7118 §4.1).
const SIP: HeaderValue = HeaderValue::from_static("sip");
/// How often a silent browser is pinged: proxies on the way drop what is silent for a minute.
const PING: Duration = Duration::from_secs(25);
/// Who has answered no ping for so long is gone.
const IDLE: Duration = Duration::from_secs(90);
/// The largest message, as over any other transport.
const LARGEST: usize = 65_535;

/// Takes in a WebSocket. `origins`: the web pages that may open one, all when there are none.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    origins: &[String],
) -> Result<Socket<S>, String> {
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let agree = |request: &Request, mut response: Response| {
        admit(request.headers(), origins).map_err(|(status, words)| {
            let mut refusal = ErrorResponse::new(Some(words.to_owned()));
            *refusal.status_mut() = status;
            refusal
        })?;
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, SIP);
        Ok(response)
    };
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, agree, Some(limits())).await;
    accepted.map_err(|error| error.to_string())
}

/// Asks for a WebSocket.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    url: &str,
) -> Result<Socket<S>, String> {
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, SIP);
    let made = tokio_tungstenite::client_async_with_config(request, stream, Some(limits())).await;
    made.map(|(socket, _)| socket).map_err(|error| error.to_string())
}

/// RFC 7118 §4.1 and RFC 6455 §10.2.
fn admit(headers: &HeaderMap, origins: &[String]) -> Result<(), (StatusCode, &'static str)> {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if !offered.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("sip")) {
        return Err((
            StatusCode::BAD_REQUEST,
            "the WebSocket subprotocol `sip` is expected here (RFC 7118)\n",
        ));
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let known = |origin: &str| origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
    match origin {
        Some(origin) if !origins.is_empty() && !known(origin) => {
            Err((StatusCode::FORBIDDEN, "this web page is not in `origins`\n"))
        }
        _ => Ok(()),
    }
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * LARGEST)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST))
}

impl Streams {
    /// Carries both directions until one of them ends. Gives the requests that may be unanswered, as far as it has asked
    /// the table for them.
    pub(super) async fn carry_websocket<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: Socket<S>,
        flow: Flow,
        waiting: Receiver<Parcel>,
    ) -> VecDeque<Asked> {
        let (write, read) = socket.split();
        let mut writing = pin!(self.write_messages(write, flow, waiting));
        tokio::select! {
            () = self.read_messages(read, flow) => {}
            () = &mut writing => return VecDeque::new(),
        }
        let asked = self.table().remove(flow.id);
        let _ = timeout(STALL, writing).await;
        asked
    }

    async fn read_messages<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut read: SplitStream<Socket<S>>,
        flow: Flow,
    ) {
        let mut due = Instant::now() + FIRST_WORD;
        while let Ok(Some(Ok(message))) = timeout_at(due, read.next()).await {
            match message {
                Message::Text(text) => self.take_message(flow, text.into()),
                Message::Binary(bytes) => self.take_message(flow, bytes),
                Message::Close(_) => return,
                // A ping is answered by the library; a pong is a word, too.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            due = Instant::now() + IDLE;
        }
    }

    /// One message is one SIP message, or a keep-alive (RFC 5626 §3.5.1).
    fn take_message(&self, flow: Flow, bytes: Bytes) {
        match &bytes[..] {
            b"\r\n\r\n" => self.answer_ping(flow),
            b"\r\n" | b"" => {}
            _ => self.deliver(flow, bytes),
        }
    }

    async fn write_messages<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut write: SplitSink<Socket<S>, Message>,
        flow: Flow,
        mut waiting: Receiver<Parcel>,
    ) {
        loop {
            let (message, parcel) = match timeout(PING, waiting.recv()).await {
                Ok(Some(parcel)) => (as_message(&parcel.bytes), Some(parcel)),
                Ok(None) => break,
                Err(_) => (Message::Ping(Bytes::new()), None),
            };
            let error = match timeout(STALL, write.send(message)).await {
                Ok(Ok(())) => continue,
                Ok(Err(Error::Capacity(_))) => SendError::TooLarge,
                Ok(Err(_)) => SendError::Closed,
                Err(_) => SendError::TimedOut,
            };
            if let Some(parcel) = parcel {
                self.failed(parcel.from, flow, parcel.ticket, error);
            }
            return self.give_up(waiting, flow, SendError::Closed).await;
        }
        let _ = timeout(STALL, write.close()).await;
    }
}

/// Text where it is text: that is what browsers expect (RFC 7118 §4.2).
fn as_message(bytes: &Bytes) -> Message {
    match Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(protocol: &str, origin: Option<&str>, origins: &[&str]) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        origin.into_iter().for_each(|origin| {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        });
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        admit(&headers, &origins).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_who_speaks_sip_gets_in() {
        assert_eq!(admitted("chat, sip", None, &[]), Ok(()));
        assert_eq!(admitted("chat", None, &[]), Err(400));
    }

    #[test]
    fn a_list_of_origins_keeps_other_pages_out_and_programs_that_are_no_page_in() {
        let listed = ["https://phone.example"];
        assert_eq!(admitted("sip", Some("https://PHONE.example"), &listed), Ok(()));
        assert_eq!(admitted("sip", Some("https://evil.example"), &listed), Err(403));
        assert_eq!(admitted("sip", None, &listed), Ok(()));
        assert_eq!(admitted("sip", Some("https://evil.example"), &[]), Ok(()));
    }

    #[test]
    fn bytes_that_are_no_text_go_as_binary() {
        assert!(as_message(&Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n")).is_text());
        assert!(as_message(&Bytes::from_static(&[0x53, 0xff])).is_binary());
    }
}
