//! The server side: what its two machines share, and how the layer carries out what they ask for.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::client::advance;
use super::matching::Key;
use super::stamp::stamped;
use super::timer::{Running, Start, Timer};
use super::{Fire, Happened, Place, Received, ServerId, ServerKey, Transactions};
use super::{server_invite, server_non_invite};
use crate::node::{Flow, FlowId, Output, Transport};
use crate::sip::{Message, Method, Name, reply};

/// What happens to a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The request came again.
    Again,
    /// Its ACK came.
    Ack,
    /// The TU answers 1xx.
    Provisional,
    /// The TU answers 2xx.
    Success,
    /// The TU answers 300–699.
    Failure,
    /// The TU won't answer.
    Ignored,
    /// A timer fired.
    Fired(Timer),
    /// A response did not leave.
    Undelivered,
}

/// What a machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Send the TU's response, and keep it.
    Send,
    /// Send the last one again, if there was one.
    SendAgain,
    /// Send 100, if nothing was sent.
    SendTrying,
    /// Hand the ACK up.
    Up,
    /// Tell that the final response was not acknowledged.
    NotAcknowledged,
    Start(Timer),
    Stop(Timer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Invite(server_invite::State),
    NonInvite(server_non_invite::State),
}

/// One server transaction.
#[derive(Debug)]
pub(super) struct Server {
    key: Key,
    flow: Flow,
    /// The Via's port: where to connect when `flow` is a connection that is gone.
    via_port: u16,
    machine: Machine,
    request: Option<Box<Message>>,
    last: Option<Bytes>,
    running: Running,
}

impl Server {
    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn request(&self) -> Option<&Message> {
        self.request.as_deref()
    }

    fn step(&mut self, event: Event) -> &'static [Do] {
        match &mut self.machine {
            Machine::Invite(state) => advance(state, server_invite::step(*state, event)),
            Machine::NonInvite(state) => advance(state, server_non_invite::step(*state, event)),
        }
    }

    fn is_over(&self) -> bool {
        matches!(
            self.machine,
            Machine::Invite(server_invite::State::Terminated)
                | Machine::NonInvite(server_non_invite::State::Terminated)
        )
    }

    /// Whether the TU has spoken its last word, so that the request is needed no more.
    fn is_answered(&self) -> bool {
        use server_non_invite::State::{Proceeding, Trying};
        !matches!(
            self.machine,
            Machine::Invite(server_invite::State::Proceeding) | Machine::NonInvite(Trying | Proceeding)
        )
    }
}

impl Transactions {
    /// Answers a request. Responses go to where the request came from (RFC 3261 §18.2.2, RFC 3581). An answer to what
    /// is answered already, or gone, has no effect, except 2xx after 2xx to an INVITE (RFC 6026 §8.7).
    pub fn respond(&mut self, now: Instant, id: ServerId, response: Message) {
        let event = match response.status() {
            Some(100..=199) => Event::Provisional,
            Some(200..=299) => Event::Success,
            Some(_) => Event::Failure,
            None => return,
        };
        self.drive_server(now, id.key(), event, Some(&response));
    }

    /// Leaves a request without an answer. Its retransmissions are absorbed for 64·T1.
    pub fn ignore(&mut self, now: Instant, id: ServerId) {
        self.drive_server(now, id.key(), Event::Ignored, None);
    }

    /// Answers a request that is too broken to have a transaction ([`Message::answerable`]), statelessly: its
    /// retransmissions get the same answer, and its ACK is known by the tag.
    pub fn refuse_broken(&mut self, flow: Flow, request: Message, status: u16) {
        let key = self.keys.server(&request, request.method()).unwrap_or(Key(0));
        let request = stamped(request, flow.remote);
        let refusal = reply(&request, status, &self.keys.stateless_tag(key));
        self.send(flow, refusal.finish());
    }

    /// Answers a request and forgets it: for those who proved nothing, nothing is kept (RFC 3261 §26.3.2.4, §8.2.7).
    /// Retransmissions come as new requests. The ACK is absorbed if the To tag is [`Transactions::stateless_tag`].
    /// Not after a 1xx: the client has stopped to ask then, and a lost answer would not be sent again.
    pub fn answer_and_forget(&mut self, id: ServerId, response: Message) {
        let Some(server) = self.servers.get(id.key()) else { return };
        let flow = server.flow;
        self.send(flow, response);
        self.forget_request(id);
    }

    /// Forgets a request without an answer: its retransmissions come as new ones.
    pub fn forget_request(&mut self, id: ServerId) {
        self.remove_server(id.key());
    }

    /// The To tag by which the ACK of [`Transactions::answer_and_forget`] is known, the same for every retransmission.
    pub fn stateless_tag(&self, id: ServerId) -> String {
        self.servers.get(id.key()).map_or(String::new(), |server| self.keys.stateless_tag(server.key))
    }

    /// The request a server transaction was made for, as it was handed up; `None` once it has a final response.
    pub fn server_request(&self, id: ServerId) -> Option<(&Flow, &Message)> {
        let server = self.servers.get(id.key())?;
        Some((&server.flow, server.request.as_deref()?))
    }

    pub(super) fn receive_request(&mut self, now: Instant, flow: Flow, message: Message) -> Received {
        match message.method() {
            Method::Ack => self.receive_ack(now, flow, message),
            Method::Cancel => {
                let invite = self.server_place(&message, Method::Invite).map(|(_, place)| place);
                match self.receive_new(now, flow, message) {
                    Received::Request { id, flow, message } => {
                        Received::Cancel { id, invite: invite.flatten().map(ServerId::from), flow, message }
                    }
                    other => other,
                }
            }
            _ => self.receive_new(now, flow, message),
        }
    }

    /// The transaction of an INVITE that was received in a former life of this node and is about to be answered; whether it
    /// had to be made. `None`: its Via can't be read, or there is no room.
    pub fn take_up(&mut self, now: Instant, flow: Flow, invite: Message) -> Option<(ServerId, bool)> {
        let (key, place) = self.server_place(&invite, Method::Invite)?;
        match place {
            Some(server) => Some((server.into(), false)),
            None if self.is_full(&invite) => None,
            None => match self.accept(now, flow, key, invite) {
                Received::Request { id, .. } => Some((id, true)),
                _ => None,
            },
        }
    }

    fn receive_ack(&mut self, now: Instant, flow: Flow, message: Message) -> Received {
        let Some((key, place)) = self.server_place(&message, Method::Invite) else {
            return Received::Stray { flow, message };
        };
        let is_for_the_service = match place {
            Some(server) => self.drive_server(now, server, Event::Ack, None),
            None => message.to_tag() != self.keys.stateless_tag(key),
        };
        if is_for_the_service {
            Received::Ack { flow, message: stamped(message, flow.remote) }
        } else {
            Received::Absorbed
        }
    }

    fn receive_new(&mut self, now: Instant, flow: Flow, message: Message) -> Received {
        match self.server_place(&message, message.method()) {
            None => Received::Stray { flow, message },
            Some((_, Some(server))) => {
                self.drive_server(now, server, Event::Again, None);
                Received::Absorbed
            }
            Some((key, None)) => {
                let again = self.again(now, flow, key, &message);
                again.unwrap_or_else(|| self.receive_first(now, flow, key, message))
            }
        }
    }

    fn receive_first(&mut self, now: Instant, flow: Flow, key: Key, message: Message) -> Received {
        if self.is_full(&message) {
            self.refuse(flow, key, &message);
            return Received::Absorbed;
        }
        self.accept(now, flow, key, message)
    }

    /// A request's key, were its method `method`, and the transaction it belongs to. `None`: it can't be told.
    fn server_place(&self, request: &Message, method: Method<'_>) -> Option<(Key, Option<ServerKey>)> {
        let key = self.keys.server(request, method)?;
        match self.index.get(&key) {
            Some(Place::Server(server)) => Some((key, Some(*server))),
            _ => Some((key, None)),
        }
    }

    pub(super) fn accept(&mut self, now: Instant, flow: Flow, index_key: Key, message: Message) -> Received {
        let (machine, actions) = if message.method() == Method::Invite {
            (Machine::Invite(server_invite::START.0), server_invite::START.1)
        } else {
            (Machine::NonInvite(server_non_invite::START.0), server_non_invite::START.1)
        };
        let via_port = via_port(&message, flow.transport);
        let message = stamped(message, flow.remote);
        let key = self.servers.insert(Server {
            key: index_key,
            flow,
            via_port,
            machine,
            request: Some(Box::new(message.clone())),
            last: None,
            running: Running::default(),
        });
        self.index.insert(index_key, Place::Server(key));
        for action in actions {
            self.do_server(now, key, *action, None);
        }
        Received::Request { id: key.into(), flow, message }
    }

    /// Full for new dialogs an eighth earlier than for what ends or changes old ones.
    pub(super) fn is_full(&self, request: &Message) -> bool {
        let is_new = request.to_tag().is_empty() && request.method() != Method::Cancel;
        self.len() >= if is_new { self.limit - self.limit / 8 } else { self.limit }
    }

    /// 503 without a transaction: retransmissions get the same again, and its ACK is known by the tag.
    fn refuse(&mut self, flow: Flow, key: Key, request: &Message) {
        let request = stamped(request.clone(), flow.remote);
        let refusal =
            reply(&request, 503, &self.keys.stateless_tag(key)).header(Name::RetryAfter, RETRY_AFTER);
        self.send(flow, refusal.finish());
    }

    pub(super) fn server_timer(&mut self, now: Instant, key: ServerKey, timer: Timer) {
        let Some(server) = self.servers.get_mut(key) else { return };
        server.running.fired(timer);
        self.drive_server(now, key, Event::Fired(timer), None);
    }

    /// A response that its connection did not take goes by a new one to the Via's port, once.
    pub(super) fn server_unsent(&mut self, now: Instant, key: ServerKey) {
        let Some(server) = self.servers.get_mut(key) else { return };
        if !server.flow.id.is_connection() {
            self.drive_server(now, key, Event::Undelivered, None);
        } else {
            server.flow = around(&server.flow, server.via_port);
            self.send_last(key, None);
        }
    }

    /// Gives one event to a machine and does what it asks for; whether the ACK is for the service.
    fn drive_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        event: Event,
        response: Option<&Message>,
    ) -> bool {
        let mut event = Some(event);
        let mut up = false;
        while let Some(happening) = event.take() {
            let Some(server) = self.servers.get_mut(key) else { return up };
            for action in server.step(happening) {
                up |= *action == Do::Up;
                event = self.do_server(now, key, *action, response).or(event);
            }
            self.tidy_server(key);
        }
        up
    }

    /// Does one thing. Returns the event of a timer whose length is zero.
    fn do_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        action: Do,
        response: Option<&Message>,
    ) -> Option<Event> {
        let server = self.servers.get_mut(key)?;
        match action {
            Do::Send => {
                server.last = response.map(|response| response.bytes().clone());
                self.send_last(key, response.cloned());
            }
            Do::SendAgain => self.send_last(key, None),
            Do::SendTrying => {
                let trying = server.request.as_deref().map(|request| reply(request, 100, "").finish());
                server.last = trying.as_ref().map(|trying| trying.bytes().clone());
                self.send_last(key, trying);
            }
            Do::Start(timer) => {
                let start = Start { now, timer, reliable: server.flow.transport.is_reliable() };
                let at_once =
                    server.running.start(&mut self.queue, &self.timers, start, Fire::Server(key, timer));
                return at_once.then_some(Event::Fired(timer));
            }
            Do::Stop(timer) => server.running.stop(&mut self.queue, timer),
            Do::NotAcknowledged => self.happened.push_back(Happened::NotAcknowledged(key.into())),
            Do::Up => {}
        }
        None
    }

    /// Sends the last response; `read`: the same, read. What is kept for repetitions is bytes alone, which is smaller.
    fn send_last(&mut self, key: ServerKey, read: Option<Message>) {
        let Some(server) = self.servers.get_mut(key) else { return };
        if self.gone.contains(&server.flow.id) {
            server.flow = around(&server.flow, server.via_port);
        }
        let (flow, ticket) = (server.flow, Place::Server(key).ticket());
        let again = || Some(Output::Send { flow, bytes: server.last.clone()?, ticket });
        self.outputs.extend(read.map(|message| Output::Message { flow, message, ticket }).or_else(again));
    }

    /// Lets go of what the state needs no more: the request, or the transaction itself.
    fn tidy_server(&mut self, key: ServerKey) {
        let Some(server) = self.servers.get_mut(key) else { return };
        if server.is_over() {
            self.remove_server(key);
        } else if server.is_answered() {
            server.request = None;
        }
    }

    fn remove_server(&mut self, key: ServerKey) {
        let Some(mut server) = self.servers.remove(key) else { return };
        server.running.stop_all(&mut self.queue);
        self.forget(server.key, Place::Server(key));
    }
}

/// RFC 3261 §18.2.2: when the request's connection is gone, a new one to the observed address and the Via's port.
fn around(flow: &Flow, via_port: u16) -> Flow {
    Flow { remote: SocketAddr::new(flow.remote.ip(), via_port), id: FlowId(0), ..*flow }
}

fn via_port(request: &Message, transport: Transport) -> u16 {
    request.via().ok().and_then(|via| via.port).unwrap_or_else(|| transport.default_port())
}

/// What a refused client is told to wait, in seconds.
const RETRY_AFTER: u32 = 10;
