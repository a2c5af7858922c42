//! How an access server is set up.

use std::net::SocketAddr;
use std::time::Duration;

use proto::peer::ticket;
use proto::stun;

use crate::lines::Outside;

/// Everything an access server is told at birth.
#[derive(Clone, Debug)]
pub struct Config {
    /// The domain of its accounts.
    pub domain: String,
    /// The digest realm.
    pub realm: String,
    /// Where it answers STUN from, beside its own sockets.
    pub stun: stun::Server,
    /// What pair keys derive from. Durable: peers keep theirs.
    pub secret: [u8; 32],
    /// What nonces are made with.
    pub nonce_key: [u8; 32],
    /// The reflector it mints tokens for, and the keys both have.
    pub reflector: Option<(SocketAddr, ticket::Keys)>,
    /// Pairs of accounts that have permitted one another.
    pub buddies: Vec<(String, String)>,
    /// How long an endpoint without keep-alives is taken for online after its last word.
    pub lease: Duration,
    /// Where those call for whom UDP does not pass; `None`: nobody but buddies.
    pub outside: Option<Outside>,
    /// Messages kept for an account that is offline.
    pub mailbox: usize,
    /// Transactions at a time, its own notices included: a login may make five, which live until they are answered, or 32 s.
    pub transactions: usize,
}

impl Config {
    /// With what must be said; the rest as it is good for most.
    pub fn new(domain: &str, secret: [u8; 32], nonce_key: [u8; 32]) -> Config {
        Config {
            domain: domain.to_owned(),
            realm: domain.to_owned(),
            stun: stun::Server::single(),
            secret,
            nonce_key,
            reflector: None,
            buddies: Vec::new(),
            lease: Duration::from_secs(300),
            outside: None,
            mailbox: 32,
            transactions: 300_000,
        }
    }
}
