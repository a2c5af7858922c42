//! Signs of a NAT in a request: Via's sent-by or Contact name another address than it came from. Over UDP another port
//! is a sign, too; a name instead of an address says nothing.

use proto::node::{Flow, literal};
use proto::sip::{Message, Uri};

/// Whether the topmost Via or the first Contact show a NAT.
pub(crate) fn shows(request: &Message, flow: &Flow) -> bool {
    let first = request.contacts().next().and_then(Result::ok);
    let contact = first.and_then(|contact| contact.uri().ok());
    via_differs(request, flow) || contact.is_some_and(|uri| uri_differs(&uri, flow))
}

/// Whether the topmost Via names another place than the request came from.
pub(crate) fn via_differs(request: &Message, flow: &Flow) -> bool {
    request.via().is_ok_and(|via| differs(via.host, via.port, flow))
}

/// Whether a Contact names another place than the request came from.
pub(crate) fn uri_differs(uri: &Uri<'_>, flow: &Flow) -> bool {
    differs(uri.host, uri.port, flow)
}

fn differs(host: &str, port: Option<u16>, flow: &Flow) -> bool {
    let port = port.unwrap_or(flow.transport.default_port());
    let other_port = !flow.transport.is_reliable() && port != flow.remote.port();
    literal(host).is_some_and(|ip| ip.to_canonical() != flow.remote.ip().to_canonical() || other_port)
}
