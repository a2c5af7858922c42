//! The relay: media sessions between two parties who can't reach each other.
//!
//! [`Relay`] is one lane: a machine that owns a slice of media ports and the sessions on them. A proxy asks for a session in
//! plain SIP (`proto::control`); packets go through [`Relay::forward`], which the lane's thread calls directly and which
//! the [`proto::node::Node`] contract leads to as well.
//!
//! ```text
//!  INVITE, SDP of A ──▶ control ──▶ describe ──▶ ports      lends a pair to each party, or to neither
//!  200, SDP for B  ◀──                  └─────▶ session ── stream ── leg (A) ⇄ leg (B)
//!
//!  datagram ──▶ forward ──▶ leg: whose is it (latch), what is it (RFC 7983), how well is it heard (quality)
//!                  └──▶ the other leg's socket and address
//! ```
//!
//! **Nobody unexpected is heard** (`latch`, `leg`). The first valid packet from where its party may be latches a leg;
//! afterwards every other source is dropped and counted, unless it proves to be the party that moved. **Nobody
//! unexpected is sent to**: before the latch only the party's own signalling address, or a trusted party's SDP; never
//! loopback (unless the network is), multicast, an address of the other family, or the relay itself.
//!
//! **Floods** (`doors`). A port that gets more from strangers than any party sends is told whom to let in; the rest is dropped below.
//!
//! **Ports** (`ports`) are opened ahead of demand, drawn at random, emptied before they are lent and rested after.
//! Another range, and other networks, may come at any time: who has ports of the former ones keeps them.
//!
//! **Assumptions.** Clocks of our own nodes agree within 60 s (`Node-Auth`). Parties send from where they receive
//! (symmetric RTP, RFC 4961).
//!
//! **Keys** (`keys`, `dtls`, `ice`). SRTP is passed, not opened, unless a session says how its parties' media is protected; then
//! each party gets its own kind, a browser ICE and DTLS-SRTP.
//!
//! **Left out.** Other parties' ICE is stripped by the SDP editor, so their STUN checks are dropped and counted.
//! m= sections that do not run over UDP stay as they are.

mod config;
mod control;
mod crowd;
mod describe;
mod doors;
pub mod dtls;
mod ended;
mod forward;
mod ice;
mod insert;
mod kept;
mod keys;
mod latch;
mod leg;
pub mod ng;
mod offload;
mod play;
mod ports;
mod quality;
mod rack;
mod recent;
mod relay;
mod reports;
mod session;
mod silence;
mod sound;
mod switches;
mod tune;
mod undelivered;
mod why;

pub use config::{Config, Network};
pub use forward::{Forward, Traffic};
pub use insert::Digit;
pub use play::Span;

pub use ports::Ports;
pub use relay::{Relay, Status};
pub use why::Why;
