//! Requests a client transaction derives from its INVITE: the ACK of a failure (RFC 3261 §17.1.1.3) and CANCEL
//! (§9.1).

use crate::sip::{Builder, Message, Method, Name};

/// The ACK of a final failure: the INVITE's URI, topmost Via, Route, From and Call-ID; the response's To.
pub(super) fn ack(invite: &Message, response: &Message) -> Message {
    derive(invite, Method::Ack, response.text(Name::To).unwrap_or_default()).finish()
}

/// The CANCEL of an INVITE, with a Reason (RFC 3326) if there is one.
pub(super) fn cancel(invite: &Message, reason: Option<&str>) -> Message {
    let cancel = derive(invite, Method::Cancel, invite.text(Name::To).unwrap_or_default());
    match reason {
        Some(reason) => cancel.header(Name::Reason, reason).finish(),
        None => cancel.finish(),
    }
}

fn derive(invite: &Message, method: Method<'_>, to: &str) -> Builder {
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    let mut request = Builder::request(method.as_str(), invite.request_uri());
    for via in invite.values(Name::Via).take(1) {
        request = request.header(Name::Via, via);
    }
    for route in invite.values(Name::Route) {
        request = request.header(Name::Route, route);
    }
    request
        .header(Name::MaxForwards, 70)
        .header(Name::From, invite.text(Name::From).unwrap_or_default())
        .header(Name::To, to)
        .header(Name::CallId, invite.call_id())
        .header(Name::CSeq, format_args!("{number} {}", method.as_str()))
}
