//! What takes time: names and connections, on one runtime thread beside the lanes.
//!
//! Lanes leave errands here and never wait; answers come back through their mailboxes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use proto::node::{Answer, Flow, Input, Question, Ticket, Transport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::icmp::Ears;
use super::streams::Streams;
use crate::dns::Names;
use crate::lanes::post::{Address, PostOffice};
use crate::lookups::Lookups;
use crate::workshop::Workshop;

/// What a lane wants done outside.
#[allow(missing_docs, reason = "the fields are those of the contract's outputs of the same names")]
#[derive(Debug)]
pub enum Errand {
    /// Send on a connection.
    Send { from: Address, flow: Flow, bytes: Bytes, ticket: Ticket },
    /// Close a connection.
    Close { flow: Flow },
    /// Take in connections here.
    Listen { transport: Transport, local: SocketAddr, listener: TcpListener },
    /// Take in no more connections there.
    Refuse { transport: Transport, local: SocketAddr },
    /// Close every connection there.
    Leave { transport: Transport, local: SocketAddr },
    /// Find something out.
    Ask { from: Address, ticket: Ticket, question: Question },
}

/// The lanes' way to the runtime.
#[derive(Debug)]
pub struct Outside {
    errands: UnboundedSender<Errand>,
}

impl Outside {
    /// The counter where errands are left, and the end they are fetched from.
    pub fn new() -> (Arc<Outside>, UnboundedReceiver<Errand>) {
        let (errands, waiting) = unbounded_channel();
        (Arc::new(Outside { errands }), waiting)
    }

    /// Sends on a connection.
    pub fn send(&self, from: Address, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let _ = self.errands.send(Errand::Send { from, flow, bytes, ticket });
    }

    /// Closes a connection.
    pub fn close(&self, flow: Flow) {
        let _ = self.errands.send(Errand::Close { flow });
    }

    /// Leaves an errand of the process's own.
    pub fn leave(&self, errand: Errand) {
        let _ = self.errands.send(errand);
    }

    /// Asks a question.
    pub fn ask(&self, from: Address, ticket: Ticket, question: Question) {
        let _ = self.errands.send(Errand::Ask { from, ticket, question });
    }
}

/// The runtime's thread. It ends when the last [`Outside`] is gone.
pub fn start(
    errands: UnboundedReceiver<Errand>,
    post: Arc<PostOffice>,
    streams: Streams,
    listeners: Vec<(Transport, SocketAddr, TcpListener)>,
    ears: Option<Ears>,
) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("outside".into())
        .spawn(move || runtime.block_on(run(errands, post, streams, listeners, ears)))
}

async fn run(
    mut errands: UnboundedReceiver<Errand>,
    post: Arc<PostOffice>,
    streams: Streams,
    listeners: Vec<(Transport, SocketAddr, TcpListener)>,
    ears: Option<Ears>,
) {
    if let Some(ears) = ears {
        ears.listen(&post);
    }
    let mut doors = HashMap::new();
    for (transport, local, listener) in listeners {
        doors.extend(open(&streams, transport, local, listener));
    }
    let names = match Names::from_system(post.clone()) {
        Ok(names) => Ok(Arc::new(names)),
        Err(why) => {
            tracing::warn!(why, "no name server is configured: only addresses can be routed to");
            Err(why)
        }
    };
    let lookups = Arc::new(Lookups::default());
    let workshop = Workshop::open(post.clone());
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Send { from, flow, bytes, ticket } => streams.send(from, flow, bytes, ticket),
            Errand::Close { flow } => streams.close(flow),
            Errand::Listen { transport, local, listener } => {
                doors.extend(open(&streams, transport, local, listener));
            }
            Errand::Refuse { transport, local } => {
                doors.remove(&(transport, local)).into_iter().for_each(|door: JoinHandle<()>| door.abort());
            }
            Errand::Leave { transport, local } => streams.close_all(transport, local),
            Errand::Ask { from, ticket, question: Question::Http { lookup, url } } => {
                let (lookups, post) = (lookups.clone(), post.clone());
                tokio::spawn(async move {
                    let answer = lookups.answer(&lookup, url).await;
                    let _ = post.post(from, Input::Answer { ticket, answer });
                });
            }
            Errand::Ask { from, ticket, question: Question::Work(work) } => {
                workshop.order(from, ticket, work)
            }
            Errand::Ask { from, ticket, question } => {
                if let Question::Resolve { host, .. } = &question {
                    streams.expect(host);
                }
                answer(&names, &post, from, ticket, question);
            }
        }
    }
}

/// Takes in connections at a listener until it is told not to.
fn open(
    streams: &Streams,
    transport: Transport,
    local: SocketAddr,
    listener: TcpListener,
) -> Option<((Transport, SocketAddr), JoinHandle<()>)> {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            let door = tokio::spawn(streams.clone().serve(listener, transport, local));
            Some(((transport, local), door))
        }
        Err(error) => {
            tracing::error!(%error, %local, "a listener could not be served");
            None
        }
    }
}

fn answer(
    names: &Result<Arc<Names>, String>,
    post: &Arc<PostOffice>,
    to: Address,
    ticket: Ticket,
    question: Question,
) {
    let (names, post) = (names.clone(), post.clone());
    tokio::spawn(async move {
        let answer = match names {
            Ok(names) => names.answer(question).await,
            Err(why) => Answer::Nothing(why),
        };
        let _ = post.post(to, Input::Answer { ticket, answer });
    });
}
