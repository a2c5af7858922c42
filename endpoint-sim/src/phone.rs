//! The phone: what it is told, what it wants, and when it wants to be woken.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto::digest;
use proto::node::{Birth, Dice, Flow, Input, Node, Output, Ticket};
use proto::sip::transaction::{ClientId, Happened, Received, Timers, Transactions};
use proto::sip::{Message, Name};
use proto::tables::Tables;

use crate::PhoneConfig;
use crate::call::{Call, Stage};
use crate::dialog::Dialog;
use crate::media;
use crate::ports::Opening;
use crate::registration::Registration;
use crate::report::{EndedBy, Report};
use crate::script::{Act, After, Answer, Script, Step};

/// A phone without a speaker. See the crate.
#[derive(Debug)]
pub struct Phone {
    pub(crate) config: PhoneConfig,
    pub(crate) birth: Birth,
    pub(crate) dice: Dice,
    pub(crate) now: Instant,
    pub(crate) transactions: Transactions,
    pub(crate) out: VecDeque<Output>,
    pub(crate) steps: VecDeque<Step>,
    pub(crate) answer: Answer,
    until: Option<Instant>,
    pub(crate) milestones: BTreeMap<After, Instant>,
    /// One, or one for each flow (RFC 5626).
    pub(crate) registrations: Vec<Registration>,
    pub(crate) call: Option<Call>,
    /// The dialog of a call that was transferred away, while the other side waits for the outcome.
    pub(crate) transferred: Option<Dialog>,
    /// The call that waits while somebody else is consulted.
    pub(crate) parked: Option<Call>,
    /// The dialog whose place the next call of ours is to take, as a Replaces header.
    pub(crate) replaces: Option<String>,
    pub(crate) opening: Option<Opening>,
    /// Ports above [`PhoneConfig::media_port`] that were tried.
    pub(crate) ports_used: u16,
    /// Pairs that could not be opened in a row.
    pub(crate) unopened: u8,
    pub(crate) next_ticket: u64,
    pending: BTreeMap<ClientId, Pending>,
    pub(crate) report: Report,
    /// Whether it is registered, and the status, as it was told last.
    pub(crate) told_registered: Option<(bool, u16)>,
}

/// A request that waits for its final response.
#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    request: Message,
    tries: u8,
    /// The flow it took.
    way: usize,
}

/// What a request of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// By this flow.
    Register(usize),
    Unregister(usize),
    Invite,
    /// A re-INVITE or UPDATE.
    Change(Act),
    Bye,
    Refer,
    /// Something whose outcome changes nothing.
    Other,
}

/// Timer values of RFC 3261 that the phone itself needs.
pub(crate) const T1: Duration = Duration::from_millis(500);
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Times a request is sent with credentials: a stale nonce deserves another try, a wrong password no third.
const MAX_TRIES: u8 = 2;
impl Phone {
    /// A phone that will follow `script` from its birth on.
    pub fn new(birth: Birth, config: PhoneConfig, script: Script) -> Phone {
        let mut dice = birth.dice(0x70686f6e);
        let registrations: Vec<_> =
            config.flows().into_iter().map(|flow| Registration::new(flow, &mut dice)).collect();
        let report = Report { name: config.name(), ..Report::default() };
        Phone {
            transactions: Transactions::new(Timers::default(), 1000, &mut dice),
            ports_used: 0,
            unopened: 0,
            now: birth.now,
            until: Some(birth.now + Duration::from_millis(script.until_ms)),
            milestones: BTreeMap::from([(After::Start, birth.now), (After::Previous, birth.now)]),
            steps: script.steps.into(),
            answer: script.answer,
            out: VecDeque::new(),
            call: None,
            transferred: None,
            parked: None,
            replaces: None,
            opening: None,
            next_ticket: 1,
            pending: BTreeMap::new(),
            config,
            birth,
            dice,
            registrations,
            report,
            told_registered: None,
        }
    }

    /// What it saw so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether its script has run out, and nothing is under way. A phone without steps is done before it is called:
    /// one that waits for a call has a step [`After::Ended`].
    pub fn is_done(&self) -> bool {
        self.steps.is_empty() && self.call.is_none() && self.parked.is_none() && self.pending.is_empty()
    }

    /// A new branch for a Via of ours.
    pub(crate) fn via(&mut self) -> String {
        self.via_by(self.way())
    }

    /// The same, for what goes by this flow.
    pub(crate) fn via_by(&mut self, way: usize) -> String {
        let branch = self.dice.word(16);
        let transport = self.registrations[way].flow.transport;
        let sent_by = self.config.sent_by(transport);
        format!("SIP/2.0/{} {sent_by};branch=z9hG4bK{branch};rport", transport.via())
    }

    /// The flow by which a request leaves: that of the call while it stands, else one that does (RFC 5626 §4.3).
    pub(crate) fn way(&self) -> usize {
        let stands = |way: &usize| self.registrations[*way].stands;
        let own = self.call.as_ref().and_then(|call| call.way).filter(stands);
        own.or_else(|| (0..self.registrations.len()).find(stands)).unwrap_or(0)
    }

    /// The same as a path.
    pub(crate) fn flow(&self) -> Flow {
        self.registrations[self.way()].flow
    }

    /// Its Contact, as who is on the other side of that flow may use it.
    pub(crate) fn contact(&self) -> String {
        self.config.contact_by(self.flow().transport)
    }

    /// Sends a request; its final response comes back by its purpose.
    pub(crate) fn request(&mut self, purpose: Purpose, request: Message) -> ClientId {
        let way = match purpose {
            Purpose::Register(way) | Purpose::Unregister(way) => way,
            _ => self.way(),
        };
        self.request_again(Pending { purpose, request, tries: 0, way })
    }

    fn request_again(&mut self, pending: Pending) -> ClientId {
        let flow = self.registrations[pending.way].flow;
        let id = self.transactions.request(self.now, flow, pending.request.clone());
        if let Some(call) = self.call.as_mut().filter(|_| pending.purpose == Purpose::Invite) {
            (call.client, call.invite) = (Some(id), Some(pending.request.clone()));
            call.way = Some(pending.way);
        }
        self.pending.insert(id, pending);
        id
    }

    pub(crate) fn reached(&mut self, milestone: After) {
        if let Entry::Vacant(entry) = self.milestones.entry(milestone) {
            entry.insert(self.now);
            self.tell_call(milestone);
        }
    }

    fn receive(&mut self, received: Received) {
        match received {
            Received::Request { id, flow, message } => self.asked(id, &flow, message),
            Received::Cancel { id, invite, message, .. } => self.cancelled(id, invite, &message),
            Received::Ack { message, .. } => self.acknowledged(&message),
            Received::Response { id, flow, message } => self.answered(id, flow, message),
            Received::Stray { .. } | Received::Again { .. } | Received::Absorbed => {}
        }
    }

    fn answered(&mut self, id: ClientId, flow: Flow, response: Message) {
        let status = response.status().unwrap_or(0);
        if status < 200 {
            if self.call.as_ref().is_some_and(|call| call.client == Some(id)) {
                self.call_progresses(&response);
            }
            return;
        }
        let Some(pending) = self.pending.remove(&id) else { return self.answered_again(&response) };
        if matches!(status, 401 | 407) && self.authorize(&pending, &response) {
            return;
        }
        if status == 430 && self.goes_by_another(&pending) {
            return;
        }
        self.finished(pending.purpose, status, Some((&response, flow)));
    }

    /// A request that its flow did not bring through goes by another one that stands (RFC 5626 §4.3).
    fn goes_by_another(&mut self, pending: &Pending) -> bool {
        let registers = matches!(pending.purpose, Purpose::Register(_) | Purpose::Unregister(_));
        self.flow_failed(pending.way);
        let way = self.way();
        if registers || way == pending.way || !self.registrations[way].stands {
            return false;
        }
        let request = self.by_way(&pending.request, way);
        self.request_again(Pending { purpose: pending.purpose, request, tries: pending.tries, way });
        true
    }

    /// A request came to its end, by a response or without one (408, 503).
    fn finished(&mut self, purpose: Purpose, status: u16, came: Option<(&Message, Flow)>) {
        let response = came.map(|(response, _)| response);
        match purpose {
            Purpose::Register(_) | Purpose::Unregister(_) => self.register_finished(purpose, status, came),
            Purpose::Invite => self.invite_finished(status, response),
            Purpose::Change(act) => self.change_finished(act, status, response),
            Purpose::Bye => self.end_call(EndedBy::Us),
            Purpose::Refer if status >= 300 => self.report.transfer_status = Some(status),
            Purpose::Refer | Purpose::Other => {}
        }
    }

    /// Sends a challenged request again with credentials (RFC 3261 §22.2); `false` when we have none to give.
    fn authorize(&mut self, pending: &Pending, response: &Message) -> bool {
        let Some(password) = self.config.password.clone().filter(|_| pending.tries < MAX_TRIES) else {
            return false;
        };
        let (asked, name) = match response.status() {
            Some(407) => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
            _ => (Name::WwwAuthenticate, Name::Authorization),
        };
        let lines = response.headers().filter(|header| header.name == asked);
        let challenges = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
        let user = self.config.auth_user.clone().unwrap_or_else(|| self.config.user.clone());
        let request = &pending.request;
        let (method, uri) = (request.method(), request.request_uri());
        let covered = digest::Request { method: method.as_str(), body: request.body() };
        let (cnonce, via) = (self.dice.word(12), self.via_by(pending.way));
        let credentials = digest::choose(challenges)
            .and_then(|challenge| digest::answer(challenge, &user, &password, uri, covered, 1, &cnonce));
        let Some(credentials) = credentials else { return false };
        let number = request.cseq().map_or(1, |cseq| cseq.number) + 1;
        let edit = request.edit().set_first(Name::Via, &via).remove(name).append(name, &credentials);
        let request = edit.set(Name::CSeq, &format!("{number} {}", method.as_str())).finish();
        self.numbered(pending.purpose, number);
        let (tries, way) = (pending.tries + 1, pending.way);
        self.request_again(Pending { purpose: pending.purpose, request, tries, way });
        true
    }

    /// A request took the next number of its sequence.
    fn numbered(&mut self, purpose: Purpose, number: u32) {
        match (purpose, &mut self.call) {
            (Purpose::Register(way) | Purpose::Unregister(way), _) => self.registrations[way].number = number,
            (_, Some(call)) => call.dialog.local_seq = call.dialog.local_seq.max(number),
            _ => {}
        }
    }

    fn happened(&mut self) {
        while let Some(happened) = self.transactions.happened() {
            let (id, status) = match happened {
                Happened::TimedOut(id) => (id, 408),
                Happened::Failed(id, _) => (id, 503),
                Happened::NotAcknowledged(_) => continue,
            };
            if let Some(pending) = self.pending.remove(&id).filter(|pending| !self.goes_by_another(pending)) {
                self.finished(pending.purpose, status, None);
            }
        }
    }

    /// The call is over, whoever ended it.
    pub(crate) fn end_call(&mut self, by: EndedBy) {
        let Some(mut call) = self.call.take() else { return };
        if let Some(old) = call.moved_from.take() {
            media::release(old, &mut self.out);
        }
        call.media.end(&mut self.out);
        self.tell_end(&call, by);
        self.report.ended_by = Some(by);
        self.reached(After::Ended);
    }

    /// Everything that is due.
    fn tick(&mut self) {
        if self.until.is_some_and(|until| until <= self.now) {
            self.until = None;
            self.give_up();
        }
        self.registrations_due();
        while let Some(step) = self.step_due() {
            self.milestones.insert(After::Previous, self.now);
            self.act(step);
        }
        self.call_due();
        if let Some(call) = &mut self.call {
            call.media.wake(self.now, &self.birth, &mut self.out, &mut self.report);
        }
    }

    fn give_up(&mut self) {
        self.steps.clear();
        self.registrations.iter_mut().for_each(Registration::stop);
        self.leave_parked(true);
        self.hang_up();
    }

    fn step_at(&self) -> Option<Instant> {
        let step = self.steps.front()?;
        Some(*self.milestones.get(&step.after)? + Duration::from_millis(step.at_ms))
    }

    fn step_due(&mut self) -> Option<Step> {
        self.step_at().filter(|at| *at <= self.now)?;
        self.steps.pop_front()
    }

    fn act(&mut self, step: Step) {
        let to = step.to.unwrap_or_default();
        match step.what {
            Act::Wait => {}
            Act::Register => self.register_all(Purpose::Register),
            Act::Unregister => self.register_all(Purpose::Unregister),
            Act::Call => self.begin_call(&to, step.late_offer),
            Act::HangUp => self.hang_up(),
            Act::Hold | Act::Resume | Act::Update => self.change(step.what),
            Act::Move => {
                if self.call.as_ref().is_some_and(|call| call.stage == Stage::Up && !call.changing) {
                    self.open_ports();
                }
            }
            Act::Transfer => self.transfer(&to),
            Act::Consult => self.consult(&to),
            Act::TransferConsulted => self.transfer_consulted(),
            Act::Dtmf => {
                if let Some(call) = &mut self.call {
                    call.media.dial(step.digits.as_deref().unwrap_or(""));
                }
            }
        }
    }
}

impl Node for Phone {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        self.take_in(now, input);
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.take_out()
    }

    fn deadline(&self) -> Option<Instant> {
        self.due()
    }
}

/// The contract without tables, for a peer that has a phone inside.
impl Phone {
    pub(crate) fn take_in(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Message { flow, message } => {
                let received = self.transactions.receive(now, flow, message);
                self.receive(received);
            }
            Input::Media { socket, from, bytes } => {
                if let Some(call) = self.call.as_mut().filter(|call| call.owns(socket)) {
                    call.media.receive(now, from, &bytes, &mut self.report);
                }
            }
            Input::Bound { ticket, socket, local } => self.opened(ticket, Some((socket, local))),
            Input::BindFailed { ticket, .. } => self.opened(ticket, None),
            Input::SendFailed { ticket, flow, error } => {
                self.transactions.send_failed(now, ticket, flow, error);
                if ticket == Ticket(0) {
                    self.unreachable(&flow, error);
                }
            }
            Input::Closed { flow } => {
                self.transactions.closed(&flow);
                self.connection_lost(&flow);
            }
            Input::Drain => self.give_up(),
            Input::Other { flow, bytes } => self.kept(&flow, &bytes),
            Input::Answer { .. }
            | Input::Proven { .. }
            | Input::Passed { .. }
            | Input::Carried(_)
            | Input::Dropped(_)
            | Input::Undelivered(_)
            | Input::Wake => {}
        }
        self.transactions.wake(now);
        self.happened();
        self.tick();
    }

    pub(crate) fn take_out(&mut self) -> Option<Output> {
        self.out.pop_front().or_else(|| self.transactions.poll())
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        let call = self.call.as_ref().and_then(Call::deadline);
        let registrations = self.registrations.iter().filter_map(Registration::deadline).min();
        let own = [self.until, self.step_at(), registrations, call, self.transactions.deadline()];
        own.into_iter().flatten().min()
    }

    /// Calls now, whatever the script says.
    pub fn call_now(&mut self, now: Instant, to: &str) {
        self.now = now;
        self.begin_call(to, false);
    }

    pub(crate) fn hang_up_now(&mut self, now: Instant) {
        self.now = now;
        self.hang_up();
    }

    /// A call that could not even begin.
    pub(crate) fn was_not_called(&mut self, status: u16) {
        self.report.begin_call();
        (self.report.call_status, self.report.ended_by) = (Some(status), Some(EndedBy::Failure));
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.call.is_some()
    }

    /// The address of record of the other party.
    pub(crate) fn talks_with(&self) -> Option<&str> {
        self.call.as_ref()?.dialog.party()
    }
}
