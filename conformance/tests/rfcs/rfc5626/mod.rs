//! RFC 5626: connections that the client keeps. [`device`] asks the phone, [`edge`] a proxy whose registrar is elsewhere,
//! [`registrar`] the registrar and the proxy in front of it, [`flows`] all of them together in the simulated world, and
//! [`wire`] a process with sockets.

use crate::desk::{Draft, register};

mod device;
mod edge;
mod flows;
mod registrar;
mod wire;

/// Where the device is seen.
const PHONE: &str = "192.0.2.44:40000";

/// Its Contact by one of its flows.
fn contact(reg_id: u64) -> String {
    format!(
        "<sip:bob@10.0.0.9:5060;transport=tcp;ob>;reg-id={reg_id};\
         +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\""
    )
}

/// The REGISTER by one of its flows, the so-and-so-manyth.
fn registration(reg_id: u64, number: u32) -> Draft {
    register("bob")
        .with("Via", &format!("SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKo{reg_id}n{number}"))
        .with("Contact", &contact(reg_id))
        .with("Call-ID", &format!("o{reg_id}"))
        .with("CSeq", &format!("{number} REGISTER"))
        .with("Supported", "path, outbound")
}
