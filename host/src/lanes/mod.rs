//! Lanes: threads that own services.
//!
//! What comes for a lane from other threads waits in its [`mailbox`]; the [`post`] office knows who is where; a
//! [`seat`] is one service on a [`lane`]; media moves by a [`media`] path,
//! what a reflector passes on by a [`mirror`].

pub mod lane;
pub mod mailbox;
pub mod media;
pub mod mirror;
pub mod pace;
pub mod post;
pub mod seat;
pub mod uring;
