//! The client side: what its two machines share, and how the layer carries out what they ask for.

use std::time::Instant;

use bytes::Bytes;

use super::matching::Key;
use super::timer::{Running, Start, Timer};
use super::{ClientId, ClientKey, Fire, Happened, Place, Received, Transactions};
use super::{client_invite, client_non_invite, derived};
use crate::node::{Flow, Output, SendError, Ticket};
use crate::sip::{Message, Method};

/// What happens to a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// 1xx came.
    Provisional,
    /// 2xx came.
    Success,
    /// 300–699 came.
    Failure,
    /// A timer fired.
    Fired(Timer),
    /// What we sent did not leave.
    Unsent,
    /// A CANCEL for it left.
    Cancelled,
}

/// What a machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Send the request.
    Send,
    /// Make the ACK of the response at hand, and send it.
    Ack,
    /// Send that ACK again.
    AckAgain,
    /// Hand the response up.
    Up,
    /// Tell that no answer came.
    TimedOut,
    /// Tell that the request did not leave.
    Failed,
    Start(Timer),
    Stop(Timer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Invite(client_invite::State),
    NonInvite(client_non_invite::State),
}

/// One client transaction.
#[derive(Debug)]
pub(super) struct Client {
    key: Key,
    flow: Flow,
    machine: Machine,
    kept: Kept,
    cancel: Cancel,
    /// A CANCEL of the layer's own: nobody above knows of it.
    is_ours: bool,
    running: Running,
}

/// What may have to be sent again.
#[derive(Debug)]
enum Kept {
    Request(Box<Message>),
    Ack(Bytes),
    Nothing,
}

/// How far cancelling has come (RFC 3261 §9.1: not before a provisional response).
#[derive(Debug)]
enum Cancel {
    No,
    Wanted(Option<Box<str>>),
    Sent,
}

impl Client {
    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    fn step(&mut self, event: Event) -> &'static [Do] {
        match &mut self.machine {
            Machine::Invite(state) => advance(state, client_invite::step(*state, event)),
            Machine::NonInvite(state) => advance(state, client_non_invite::step(*state, event)),
        }
    }

    fn is_over(&self) -> bool {
        matches!(
            self.machine,
            Machine::Invite(client_invite::State::Terminated)
                | Machine::NonInvite(client_non_invite::State::Terminated)
        )
    }

    /// Whether a final response has come, so that the request will never be sent again.
    fn is_answered(&self) -> bool {
        use client_invite::State::{Calling, Proceeding};
        use client_non_invite::State as NonInvite;
        !matches!(
            self.machine,
            Machine::Invite(Calling | Proceeding)
                | Machine::NonInvite(NonInvite::Trying | NonInvite::Proceeding)
        )
    }

    fn output(&self, ticket: Ticket) -> Option<Output> {
        let flow = self.flow;
        match &self.kept {
            Kept::Request(request) => Some(Output::Message { flow, message: (**request).clone(), ticket }),
            Kept::Ack(bytes) => Some(Output::Send { flow, bytes: bytes.clone(), ticket }),
            Kept::Nothing => None,
        }
    }
}

pub(super) fn advance<S, D>(state: &mut S, (next, actions): (S, &'static [D])) -> &'static [D] {
    *state = next;
    actions
}

impl Transactions {
    /// Sends a request (whose topmost Via carries a branch unique to it). ACK for 2xx does not go here: send it with
    /// [`Transactions::send`].
    pub fn request(&mut self, now: Instant, flow: Flow, message: Message) -> ClientId {
        self.begin(now, flow, message, false)
    }

    /// Cancels an INVITE: CANCEL leaves when a provisional response has come (RFC 3261 §9.1), by its own transaction.
    /// The INVITE ends with 487 or another final response, or is given up after 64·T1. `reason` is a Reason header's
    /// value (RFC 3326). Cancelling twice, or what has its final response, does nothing.
    pub fn cancel(&mut self, now: Instant, id: ClientId, reason: Option<&str>) {
        let Some(client) = self.clients.get_mut(id.key()) else { return };
        if let (Machine::Invite(state), Cancel::No) = (client.machine, &client.cancel) {
            client.cancel = Cancel::Wanted(reason.map(Box::from));
            if state == client_invite::State::Proceeding {
                self.send_cancel(now, id.key());
            }
        }
    }

    /// Forgets a request other than INVITE once it has its final response, five seconds before timer K would: for who has
    /// many, and to whom a response that comes again is as good as a stray one.
    pub fn forget_answered(&mut self, id: ClientId) {
        let over = |client: &Client| {
            matches!(client.machine, Machine::NonInvite(client_non_invite::State::Completed))
        };
        if let Some(client) = self.clients.get_mut(id.key()).filter(|client| over(client)) {
            client.machine = Machine::NonInvite(client_non_invite::State::Terminated);
            self.tidy_client(id.key());
        }
    }

    pub(super) fn receive_response(&mut self, now: Instant, flow: Flow, message: Message) -> Received {
        let Some((key, event)) = self.client_of(&message) else { return Received::Stray { flow, message } };
        let is_ours = self.clients.get(key).is_some_and(|client| client.is_ours);
        let is_for_the_service = self.drive_client(now, key, event, Some(&message)) && !is_ours;
        if event == Event::Provisional {
            self.send_cancel(now, key);
        }
        if is_for_the_service {
            Received::Response { id: key.into(), flow, message }
        } else {
            Received::Absorbed
        }
    }

    fn client_of(&self, response: &Message) -> Option<(ClientKey, Event)> {
        let via = response.via().ok()?;
        let event = match response.status()? {
            100..=199 => Event::Provisional,
            200..=299 => Event::Success,
            300..=699 => Event::Failure,
            _ => return None,
        };
        match self.index.get(&self.keys.client(&via, response.method()))? {
            Place::Client(key) => Some((*key, event)),
            Place::Server(_) | Place::Answered(_) => None,
        }
    }

    pub(super) fn client_timer(&mut self, now: Instant, key: ClientKey, timer: Timer) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.running.fired(timer);
        self.drive_client(now, key, Event::Fired(timer), None);
    }

    pub(super) fn client_unsent(&mut self, now: Instant, key: ClientKey, error: SendError) {
        let before = self.happened.len();
        self.drive_client(now, key, Event::Unsent, None);
        for happened in self.happened.iter_mut().skip(before) {
            if let Happened::Failed(_, why) = happened {
                *why = error;
            }
        }
    }

    fn begin(&mut self, now: Instant, flow: Flow, message: Message, is_ours: bool) -> ClientId {
        // A request of ours without a Via is a mistake; no response can come for it.
        let via = message.via().ok();
        let index_key = via.map_or(Key(0), |via| self.keys.client(&via, message.method()));
        let (machine, actions) = if message.method() == Method::Invite {
            (Machine::Invite(client_invite::START.0), client_invite::START.1)
        } else {
            (Machine::NonInvite(client_non_invite::START.0), client_non_invite::START.1)
        };
        let key = self.clients.insert(Client {
            key: index_key,
            flow,
            machine,
            kept: Kept::Request(Box::new(message)),
            cancel: Cancel::No,
            is_ours,
            running: Running::default(),
        });
        self.index.insert(index_key, Place::Client(key));
        for action in actions {
            self.do_client(now, key, *action, None);
        }
        key.into()
    }

    /// Gives one event to a machine and does what it asks for; whether the response is for the service.
    fn drive_client(
        &mut self,
        now: Instant,
        key: ClientKey,
        event: Event,
        response: Option<&Message>,
    ) -> bool {
        let mut event = Some(event);
        let mut up = false;
        while let Some(happening) = event.take() {
            let Some(client) = self.clients.get_mut(key) else { return up };
            for action in client.step(happening) {
                up |= *action == Do::Up;
                event = self.do_client(now, key, *action, response).or(event);
            }
            self.tidy_client(key);
        }
        up
    }

    /// Does one thing. Returns the event of a timer whose length is zero.
    fn do_client(
        &mut self,
        now: Instant,
        key: ClientKey,
        action: Do,
        response: Option<&Message>,
    ) -> Option<Event> {
        let client = self.clients.get_mut(key)?;
        match action {
            Do::Send | Do::AckAgain => self.send_kept(key),
            Do::Ack => {
                if let (Kept::Request(invite), Some(response)) = (&client.kept, response) {
                    client.kept = Kept::Ack(derived::ack(invite, response).bytes().clone());
                }
                self.send_kept(key);
            }
            Do::Start(timer) => {
                let start = Start { now, timer, reliable: client.flow.transport.is_reliable() };
                let at_once =
                    client.running.start(&mut self.queue, &self.timers, start, Fire::Client(key, timer));
                return at_once.then_some(Event::Fired(timer));
            }
            Do::Stop(timer) => client.running.stop(&mut self.queue, timer),
            Do::TimedOut if !client.is_ours => self.happened.push_back(Happened::TimedOut(key.into())),
            Do::Failed if !client.is_ours => {
                self.happened.push_back(Happened::Failed(key.into(), SendError::Unreachable));
            }
            Do::Up | Do::TimedOut | Do::Failed => {}
        }
        None
    }

    fn send_kept(&mut self, key: ClientKey) {
        let ticket = Place::Client(key).ticket();
        self.outputs.extend(self.clients.get(key).and_then(|client| client.output(ticket)));
    }

    /// Sends the CANCEL that is wanted, if one is.
    fn send_cancel(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let (Cancel::Wanted(reason), Kept::Request(invite)) = (&client.cancel, &client.kept) else { return };
        let (flow, cancel) = (client.flow, derived::cancel(invite, reason.as_deref()));
        client.cancel = Cancel::Sent;
        self.begin(now, flow, cancel, true);
        self.drive_client(now, key, Event::Cancelled, None);
    }

    /// Lets go of what the state needs no more: the request, or the transaction itself.
    fn tidy_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.is_over() {
            let index_key = client.key;
            client.running.stop_all(&mut self.queue);
            self.clients.remove(key);
            self.forget(index_key, Place::Client(key));
        } else if client.is_answered() && matches!(client.kept, Kept::Request(_)) {
            client.kept = Kept::Nothing;
        }
    }
}
