//! SIP over WebSocket (RFC 7118): the subprotocol `sip` or no connection, one SIP message in each WebSocket message, as
//! text or binary. What is not SIP goes to the service, which answers what can be answered; the framing is not lost by it.
//! A listener for ng commands has subprotocols of its own, and one command in each message.

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
use super::{FIRST_WORD, STALL, Streams, ng};

/// A WebSocket over a stream.
pub(super) type Socket<S> = WebSocketStream<S>;

/// What a WebSocket carries: its subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// RFC 7118 §4.1.
    Sip,
    /// rtpengine's control protocol …
    Ng,
    /// … and the same without cookies.
    NgPlain,
}

impl Spoken {
    fn name(self) -> &'static str {
        match self {
            Spoken::Sip => "sip",
            Spoken::Ng => "ng.rtpengine.com",
            Spoken::NgPlain => "ng-plain.rtpengine.com",
        }
    }
}

const SIP: HeaderValue = HeaderValue::from_static("sip");
/// How often a silent browser is pinged: proxies on the way drop what is silent for a minute.
const PING: Duration = Duration::from_secs(25);
/// Who has answered no ping for so long is gone.
const IDLE: Duration = Duration::from_secs(90);
/// The largest message, as over any other transport.
const LARGEST: usize = 65_535;

/// Takes in a WebSocket, for SIP or for ng commands. `origins`: the web pages that may open one, all when there are none; for
/// commands none may, since a page in the browser of somebody who is let in is not who was meant.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    origins: &[String],
    ng: bool,
) -> Result<(Socket<S>, Spoken), String> {
    let mut spoken = Spoken::Sip;
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let agree = |request: &Request, mut response: Response| {
        spoken = admit(request.headers(), origins, ng).map_err(|(status, words)| {
            let mut refusal = ErrorResponse::new(Some(words.to_owned()));
            *refusal.status_mut() = status;
            refusal
        })?;
        let agreed = HeaderValue::from_static(spoken.name());
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, agreed);
        Ok(response)
    };
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, agree, Some(limits())).await;
    accepted.map(|socket| (socket, spoken)).map_err(|error| error.to_string())
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

/// RFC 7118 §4.1 and RFC 6455 §10.2. Of several subprotocols the first that is known here is spoken.
fn admit(headers: &HeaderMap, origins: &[String], ng: bool) -> Result<Spoken, (StatusCode, &'static str)> {
    let (known, expected): (&[Spoken], _) = match ng {
        true => (
            &[Spoken::Ng, Spoken::NgPlain],
            "the WebSocket subprotocol `ng.rtpengine.com` or `ng-plain.rtpengine.com` is expected here\n",
        ),
        false => (&[Spoken::Sip], "the WebSocket subprotocol `sip` is expected here (RFC 7118)\n"),
    };
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut words = offered.flat_map(|value| value.split(',')).map(str::trim);
    let of = |word: &str| known.iter().copied().find(|spoken| word.eq_ignore_ascii_case(spoken.name()));
    let spoken = words.find_map(of).ok_or((StatusCode::BAD_REQUEST, expected))?;
    let listed = |origin: &str| origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(_) if ng => Err((StatusCode::FORBIDDEN, "web pages may not command a relay\n")),
        Some(origin) if !origins.is_empty() && !listed(origin) => {
            Err((StatusCode::FORBIDDEN, "this web page is not in `origins`\n"))
        }
        _ => Ok(spoken),
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
        spoken: Spoken,
        flow: Flow,
        waiting: Receiver<Parcel>,
    ) -> VecDeque<Asked> {
        let (write, read) = socket.split();
        let mut writing = pin!(self.write_messages(write, spoken, flow, waiting));
        tokio::select! {
            () = self.read_messages(read, spoken, flow) => {}
            () = &mut writing => return VecDeque::new(),
        }
        let asked = self.table().remove(flow.id);
        let _ = timeout(STALL, writing).await;
        asked
    }

    async fn read_messages<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut read: SplitStream<Socket<S>>,
        spoken: Spoken,
        flow: Flow,
    ) {
        let mut due = Instant::now() + FIRST_WORD;
        while let Ok(Some(Ok(message))) = timeout_at(due, read.next()).await {
            match message {
                Message::Text(text) => self.take_message(spoken, flow, text.into()),
                Message::Binary(bytes) => self.take_message(spoken, flow, bytes),
                Message::Close(_) => return,
                // A ping is answered by the library; a pong is a word, too.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            due = Instant::now() + IDLE;
        }
    }

    /// One message is one SIP message, or a keep-alive (RFC 5626 §3.5.1); or one command.
    fn take_message(&self, spoken: Spoken, flow: Flow, bytes: Bytes) {
        match (spoken, &bytes[..]) {
            (Spoken::Ng, _) => self.deliver_command(flow, bytes),
            (Spoken::NgPlain, _) => self.deliver_command(flow, ng::with_cookie(&bytes)),
            (Spoken::Sip, b"\r\n\r\n") => self.answer_ping(flow),
            (Spoken::Sip, b"\r\n") if self.is_a_phones => self.deliver_other(flow, bytes),
            (Spoken::Sip, b"\r\n" | b"") => {}
            (Spoken::Sip, _) => self.deliver(flow, bytes),
        }
    }

    async fn write_messages<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut write: SplitSink<Socket<S>, Message>,
        spoken: Spoken,
        flow: Flow,
        mut waiting: Receiver<Parcel>,
    ) {
        loop {
            let (message, parcel) = match timeout(PING, waiting.recv()).await {
                Ok(Some(parcel)) if spoken == Spoken::NgPlain => {
                    (as_message(&ng::without_cookie(&parcel.bytes)), Some(parcel))
                }
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
#[path = "websocket_pings.rs"]
mod pings;

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(protocol: &str, origin: Option<&str>, origins: &[&str]) -> Result<Spoken, u16> {
        admitted_at(false, protocol, origin, origins)
    }

    fn admitted_at(ng: bool, protocol: &str, origin: Option<&str>, origins: &[&str]) -> Result<Spoken, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        origin.into_iter().for_each(|origin| {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        });
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        admit(&headers, &origins, ng).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_who_speaks_sip_gets_in() {
        assert_eq!(admitted("chat, sip", None, &[]), Ok(Spoken::Sip));
        assert_eq!(admitted("chat", None, &[]), Err(400));
        assert_eq!(admitted("ng.rtpengine.com", None, &[]), Err(400));
    }

    #[test]
    fn a_listener_for_commands_speaks_ng_with_programs_and_with_no_web_page() {
        let at = |protocol: &str, origin| admitted_at(true, protocol, origin, &[]);
        assert_eq!(at("ng.rtpengine.com", None), Ok(Spoken::Ng));
        assert_eq!(at("chat, ng-plain.rtpengine.com, ng.rtpengine.com", None), Ok(Spoken::NgPlain));
        assert_eq!(at("sip", None), Err(400));
        assert_eq!(at("ng.rtpengine.com", Some("https://evil.example")), Err(403));
    }

    #[test]
    fn a_list_of_origins_keeps_other_pages_out_and_programs_that_are_no_page_in() {
        let listed = ["https://phone.example"];
        assert_eq!(admitted("sip", Some("https://PHONE.example"), &listed), Ok(Spoken::Sip));
        assert_eq!(admitted("sip", Some("https://evil.example"), &listed), Err(403));
        assert_eq!(admitted("sip", None, &listed), Ok(Spoken::Sip));
        assert_eq!(admitted("sip", Some("https://evil.example"), &[]), Ok(Spoken::Sip));
    }

    #[test]
    fn bytes_that_are_no_text_go_as_binary() {
        assert!(as_message(&Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n")).is_text());
        assert!(as_message(&Bytes::from_static(&[0x53, 0xff])).is_binary());
    }
}
