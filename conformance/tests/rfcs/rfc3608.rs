//! RFC 3608: Service-Route.

use proto::sip::Name;

use crate::desk::{B, Desk, register, response};

/// §6.2: a device that knows of such things is told by which way its requests go.
#[test]
fn a_device_is_told_its_way_out() {
    let draft = register("bob").with("Contact", "<sip:bob@198.51.100.20:5070>").with("Supported", "path");
    let ok = response(&Desk::open().hear(B, draft), B);
    assert_eq!(ok.text(Name::ServiceRoute), Some("<sip:203.0.113.1:5060;lr>"));
}

/// §6.2: a request that brings it as its Route is served as if it had none.
#[test]
fn its_own_way_out_is_taken_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(crate::desk::invite().with("Route", "<sip:203.0.113.1:5060;lr>"));
    assert_eq!((there.flow.remote.to_string(), there.message.routes().count()), (B.into(), 0));
}
