//! Words about media that listeners, trunks, users and the proxy share.

use serde::{Deserialize, Serialize};

/// `never`, `auto` or `always`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// Media goes directly, whatever is seen.
    Never,
    /// By the table of the media decision.
    #[default]
    Auto,
    /// Media goes through a relay, whatever is seen.
    Always,
}

/// `strict`, `prefix` or `any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Latch {
    /// The signalled address or the party's signalling address.
    #[default]
    Strict,
    /// Its /24 (IPv6: /48).
    Prefix,
    /// Whoever comes first.
    Any,
}

/// `pass`, `plain`, `sdes` or `dtls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Srtp {
    /// Keys are the parties' own affair.
    #[default]
    Pass,
    /// Plain RTP.
    Plain,
    /// SRTP under keys in the SDP.
    Sdes,
    /// SRTP under keys made by DTLS, with ICE: a browser.
    Dtls,
}

/// What to do with two parties behind one public address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameNat {
    /// Anchor: their NAT may not let them meet.
    #[default]
    Anchor,
    /// Trust that they meet on their LAN.
    Direct,
}
