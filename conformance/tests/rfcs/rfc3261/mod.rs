//! RFC 3261, SIP: the sections that concern a proxy, a registrar, and their transactions and transports.

mod section_08;
mod section_08_redirect;
mod section_10;
mod section_16;
mod section_17;
mod section_18;
mod section_22;
