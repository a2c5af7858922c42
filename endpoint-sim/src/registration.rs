//! Registering (RFC 3261 §10.2), and staying registered: once, or by each of several flows (RFC 5626 §4.2).

use std::time::{Duration, Instant};

use proto::node::{Dice, Flow, Output, SendError, Ticket};
use proto::sip::{Builder, Message, Name};

use crate::outbound::{Keeping, Kept};
use crate::phone::{Phone, Purpose};
use crate::script::After;

/// One registration of the phone, by one flow.
#[derive(Debug)]
pub(crate) struct Registration {
    /// How its proxy is reached.
    pub(crate) flow: Flow,
    call_id: String,
    tag: String,
    /// CSeq of the last REGISTER.
    pub(crate) number: u32,
    wanted: bool,
    /// It was granted, and nothing is known against it.
    pub(crate) stands: bool,
    /// Failures since it last stood.
    failures: u32,
    keeping: Option<Keeping>,
    /// By which way the registrar wants requests to leave, first hop first (RFC 3608 §5).
    service_route: Vec<String>,
    /// When to refresh it, or try again.
    refresh_at: Option<Instant>,
}

/// How long to wait after a failure, without outbound.
const RETRY: Duration = Duration::from_secs(5);

impl Registration {
    pub(crate) fn new(flow: Flow, dice: &mut Dice) -> Registration {
        Registration {
            flow,
            call_id: dice.word(20),
            tag: dice.word(8),
            number: 0,
            wanted: false,
            stands: false,
            failures: 0,
            keeping: None,
            service_route: Vec::new(),
            refresh_at: None,
        }
    }

    /// No refresh any more, and no keep-alive.
    pub(crate) fn stop(&mut self) {
        (self.wanted, self.refresh_at, self.keeping) = (false, None, None);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let kept = self.keeping.as_ref().map(|keeping| keeping.due);
        [self.refresh_at, kept].into_iter().flatten().min()
    }
}

impl Phone {
    /// Makes or refreshes every binding, or takes it back.
    pub(crate) fn register_all(&mut self, purpose: fn(usize) -> Purpose) {
        (0..self.registrations.len()).for_each(|way| self.register(purpose(way)));
    }

    /// Sends a REGISTER, to make or refresh a binding or to take it back.
    fn register(&mut self, purpose: Purpose) {
        let (way, wanted) = match purpose {
            Purpose::Register(way) => (way, true),
            Purpose::Unregister(way) => (way, false),
            _ => return,
        };
        let via = self.via_by(way);
        let contact = self.registered_contact(way);
        let registration = &mut self.registrations[way];
        (registration.wanted, registration.refresh_at) = (wanted, None);
        registration.number += 1;
        let Registration { call_id, tag, number, .. } = &*registration;
        let (uri, expires) = (self.config.uri(), if wanted { self.config.expires } else { 0 });
        let request = Builder::request("REGISTER", &format!("sip:{}", self.config.domain))
            .header(Name::Via, via)
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<{uri}>;tag={tag}"))
            .header(Name::To, format_args!("<{uri}>"))
            .header(Name::CallId, call_id)
            .header(Name::CSeq, format_args!("{number} REGISTER"))
            .header(Name::Contact, contact)
            .header(Name::Expires, expires);
        let request = match self.config.outbound {
            Some(_) => request.header(Name::Supported, "path, outbound"),
            None => request,
        };
        self.request(purpose, request.finish());
    }

    /// Its Contact in REGISTER.
    fn registered_contact(&self, way: usize) -> String {
        let contact = self.config.contact_by(self.registrations[way].flow.transport);
        let contact = match self.config.q {
            1000 => contact,
            q => format!("{contact};q=0.{q:03}"),
        };
        match &self.config.outbound {
            Some(outbound) => {
                format!("{contact};+sip.instance=\"<{}>\";reg-id={}", outbound.instance, way + 1)
            }
            None => contact,
        }
    }

    pub(crate) fn register_finished(
        &mut self,
        purpose: Purpose,
        status: u16,
        response: Option<(&Message, Flow)>,
    ) {
        self.report.register_status = Some(status);
        let granted = response.filter(|_| matches!(status, 200..=299));
        match purpose {
            Purpose::Unregister(way) => self.registrations[way].stands &= granted.is_none(),
            Purpose::Register(way) => match granted {
                Some((response, flow)) => self.granted(way, response, flow),
                None => self.not_granted(way, status),
            },
            _ => {}
        }
        self.count_flows(status);
    }

    fn granted(&mut self, way: usize, response: &Message, flow: Flow) {
        let refresh_at = self.now + self.refresh_after(way, response);
        let registration = &mut self.registrations[way];
        (registration.stands, registration.failures) = (true, 0);
        registration.service_route = response.values(Name::ServiceRoute).map(str::to_owned).collect();
        registration.refresh_at = registration.wanted.then_some(refresh_at);
        if let Some(outbound) = self.config.outbound.as_ref().filter(|_| registration.wanted) {
            let timer = response.text(Name::FlowTimer).and_then(|timer| timer.trim().parse().ok());
            let timer = timer.filter(|seconds| *seconds > 0).map(Duration::from_secs);
            let before = registration.keeping.take();
            let kept = Keeping::granted(before, (self.now, flow), timer, outbound, &mut self.dice);
            registration.keeping = Some(kept);
        }
        self.reached(After::Registered);
    }

    /// The way that a request outside of dialogs takes by this flow, as a Route header (RFC 3608 §5).
    pub(crate) fn service_route(&self, way: usize) -> Option<String> {
        let route = &self.registrations[way].service_route;
        (!route.is_empty()).then(|| route.join(", "))
    }

    /// A request that was to leave by another flow. Outside of dialogs it takes that flow's own way.
    pub(crate) fn by_way(&mut self, request: &Message, way: usize) -> Message {
        let via = self.via_by(way);
        let edit = request.edit().set_first(Name::Via, &via);
        if !request.to_tag().is_empty() {
            return edit.finish();
        }
        let edit = edit.remove(Name::Route);
        match self.service_route(way) {
            Some(route) => edit.append(Name::Route, &route).finish(),
            None => edit.finish(),
        }
    }

    /// One more failure in a row (RFC 5626 §4.5).
    fn not_granted(&mut self, way: usize, status: u16) {
        self.registrations[way].failures += 1;
        self.lost(way, status);
    }

    /// A refusal stays one; what did not arrive is tried again.
    fn lost(&mut self, way: usize, status: u16) {
        let stood = std::mem::take(&mut self.registrations[way].stands);
        let wait = self.wait_after_failure(way);
        let registration = &mut self.registrations[way];
        let lost_a_flow = status == 430;
        let worth_it = registration.wanted && (lost_a_flow || !matches!(status, 400..=407 | 410..=499));
        registration.refresh_at = worth_it.then(|| self.now + wait);
        registration.keeping = None;
        self.report.flow_failures += u32::from(stood);
    }

    /// RFC 5626 §4.5, for what was registered by outbound.
    fn wait_after_failure(&mut self, way: usize) -> Duration {
        let another = self.registrations.iter().any(|registration| registration.stands);
        let failures = self.registrations[way].failures;
        let backoff = self.config.outbound.as_ref().map(|outbound| outbound.backoff);
        backoff.map_or(RETRY, |backoff| backoff.wait(failures, another, &mut self.dice))
    }

    /// Half of what the registrar grants, as the response says for our Contact or for all.
    fn refresh_after(&self, way: usize, response: &Message) -> Duration {
        let own = self.config.contact_by(self.registrations[way].flow.transport);
        let reg_id = self.config.outbound.is_some().then(|| (way + 1).to_string());
        let mut contacts = response.contacts().flatten();
        let ours = contacts.find(|contact| {
            let same_flow = reg_id.is_none() || contact.params.get("reg-id") == reg_id.as_deref();
            same_flow && own.contains(contact.raw_uri)
        });
        let granted = ours.and_then(|contact| contact.expires()).or(response.expires());
        Duration::from_secs(u64::from(granted.unwrap_or(self.config.expires)).max(2)) / 2
    }

    /// Which flow something came by.
    pub(crate) fn way_of(&self, flow: &Flow) -> Option<usize> {
        let is_it = |own: &Flow| own.transport == flow.transport && own.remote == flow.remote;
        self.registrations.iter().position(|registration| is_it(&registration.flow))
    }

    /// The connection a registration was made by is gone (RFC 5626 §4.4): make it anew by another; without outbound, soon.
    pub(crate) fn connection_lost(&mut self, flow: &Flow) {
        let Some(way) = self.way_of(flow) else { return };
        if self.config.outbound.is_some() {
            let kept = self.registrations[way].keeping.as_ref().is_some_and(|keeping| keeping.is(flow.id));
            return if kept {
                self.flow_failed(way)
            };
        }
        let registration = &mut self.registrations[way];
        if registration.wanted {
            registration.refresh_at = Some(self.now + Duration::from_secs(1));
        }
    }

    /// The network says that nobody is there.
    pub(crate) fn unreachable(&mut self, flow: &Flow, error: SendError) {
        let gone = matches!(error, SendError::Refused | SendError::Unreachable);
        if let Some(way) = self.way_of(flow).filter(|_| gone) {
            self.flow_failed(way);
        }
    }

    /// A flow that stood does no longer; the others go on.
    pub(crate) fn flow_failed(&mut self, way: usize) {
        let stands = self.registrations[way].stands && self.config.outbound.is_some();
        if stands {
            // It did stand, so no registration has failed yet: the first wait is the shortest (§4.5).
            self.registrations[way].failures = 0;
            self.lost(way, 503);
            self.count_flows(503);
        }
    }

    fn count_flows(&mut self, status: u16) {
        self.report.flows = self.registrations.iter().filter(|registration| registration.stands).count();
        self.report.registered = self.report.flows > 0;
        self.tell_registration(status);
    }

    /// What is no SIP: the answer to a keep-alive.
    pub(crate) fn kept(&mut self, flow: &Flow, bytes: &[u8]) {
        let Some(way) = self.way_of(flow) else { return };
        let Some(keeping) = &mut self.registrations[way].keeping else { return };
        if keeping.heard(self.now, bytes, &mut self.dice) == Kept::Failed {
            self.flow_failed(way);
        }
    }

    pub(crate) fn registrations_due(&mut self) {
        for way in 0..self.registrations.len() {
            if self.registrations[way].refresh_at.is_some_and(|at| at <= self.now) {
                self.register(Purpose::Register(way));
            }
            let kept = self.registrations[way]
                .keeping
                .as_mut()
                .map(|keeping| keeping.wake(self.now, &mut self.dice));
            match kept {
                Some(Kept::Send(flow, bytes)) => {
                    self.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) })
                }
                Some(Kept::Failed) => self.flow_failed(way),
                Some(Kept::Well) | None => {}
            }
        }
    }
}
