//! Logging in: what the endpoint says is compared with what is seen; whoever must be told to open a path to it is told
//! *before* it learns whom it may talk to and how.

use std::time::Instant;

use minicbor::bytes::ByteArray;
use proto::event::Registration;
use proto::node::Flow;
use proto::peer::reach::{Path, reach};
use proto::peer::ticket::Class;
use proto::peer::words::{self, Buddy, LOGIN, Login, NOTICE, Notice, PROFILE, Profile, Route, Sealing};
use proto::sip::transaction::ServerId;
use proto::sip::{Message, Name, reply};
use proto::tables::Tables;

use crate::accounts::{Device, Number};
use crate::proving::Newcomer;
use crate::server::{Access, Refusal, keep_alive};

impl Access {
    /// The account is proven.
    pub(crate) fn log_in(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Message,
        aor: String,
        tables: &mut dyn Tables,
    ) -> Result<(), Refusal> {
        if request.expires() == Some(0) {
            self.prove_all(now, tables);
            self.forget_path(&aor, tables);
            return self.log_out(now, id, flow, request, &aor);
        }
        if request.text(Name::ContentType) != Some(LOGIN) {
            return Err((415, "a login has a body of application/p2p-login+cbor"));
        }
        let login: Login = words::read(request.body()).ok_or((400, "the login can't be read"))?;
        self.proving.take(now, Newcomer { id, flow, request: request.clone(), aor, login });
        Ok(())
    }

    /// Its device has signed the login.
    pub(crate) fn let_in(&mut self, now: Instant, newcomer: &Newcomer, tables: &mut dyn Tables) {
        let Newcomer { id, flow, request, aor, login } = newcomer;
        let (id, flow) = (*id, *flow);
        let before = self.accounts.device(aor);
        let again = before.is_some_and(|device| device.key == *login.device);
        let moved = before.is_none_or(|device| device.flow != flow);
        let session = match before.filter(|_| again) {
            Some(device) => device.session.clone(),
            None => Sealing::fresh(&mut self.dice),
        };
        let newest = before.filter(|_| again).map_or(0, |device| device.newest);
        let mut device = Device { newest, ..Device::new(now, flow, login, session) };
        device.bound = self.proven_bind(now, login);
        let lease = self.lease(keep_alive(&device));
        let (number, before) = self.accounts.log_in(aor, device);
        self.met_by(number, before.as_ref().map(|device| device.flow), flow);
        self.lease_ends(before);
        self.lease_begins(now, number, lease);
        self.leave_path(now, number, tables);
        let change = if again { Registration::Refreshed } else { Registration::New };
        self.tell_registered(aor, flow, change);
        if moved {
            self.announce(now, number);
        }
        self.welcome(now, id, request, aor);
        self.deliver(now, aor);
    }

    fn log_out(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Message,
        aor: &str,
    ) -> Result<(), Refusal> {
        let number = self.accounts.number(aor);
        if let Some((number, device)) = number.zip(self.accounts.log_out(aor)) {
            self.forget_device(number, Some(device));
            self.tell_registered(aor, flow, Registration::Removed);
        }
        let response = reply(request, 200, &self.dice.word(8)).finish();
        self.transactions.respond(now, id, response);
        Ok(())
    }

    /// Profile and routing table. They are large and can be written anew: of the answer nothing is kept.
    fn welcome(&mut self, now: Instant, id: ServerId, request: &Message, aor: &str) {
        let tag = self.transactions.stateless_tag(id);
        if let Some(response) = self.profile(now, request, aor, &tag) {
            self.transactions.answer_and_recall(now, id, response);
        }
    }

    /// The very login that was let in comes again: its answer was lost.
    pub(crate) fn welcome_again(&mut self, now: Instant, flow: Flow, request: &Message, tag: &str) {
        let Some(aor) = request.to().ok().and_then(|to| to.uri().ok()?.aor()) else { return };
        if self.accounts.device(&aor).is_none_or(|device| device.flow != flow) {
            return;
        }
        if let Some(response) = self.profile(now, request, &aor, tag) {
            self.transactions.send(flow, response);
        }
    }

    fn profile(&self, now: Instant, request: &Message, aor: &str, tag: &str) -> Option<Message> {
        let own = self.accounts.number(aor)?;
        let device = self.accounts.device_of(own)?;
        let keep_alive = keep_alive(device);
        let lease_s = self.lease(keep_alive).as_secs() as u32;
        let others = self.accounts.buddies(own);
        let profile = Profile {
            you: device.flow.remote,
            keep_alive_ms: keep_alive.map(|every| every.as_millis() as u32),
            lease_s,
            session: device.session.clone(),
            buddies: others.iter().map(|other| self.buddy(*other)).collect(),
            routes: others.iter().map(|other| self.route(now, own, *other, true)).collect(),
            reflector: self.config.reflector.as_ref().map(|(address, _)| *address),
        };
        let contact = request.contacts().flatten().next().map(|contact| contact.raw_uri.to_owned());
        let response = reply(request, 200, tag)
            .header(Name::Contact, format_args!("<{}>;expires={lease_s}", contact.unwrap_or_default()))
            .body(PROFILE, &words::write_profile(&profile));
        Some(response.finish())
    }

    /// Tells every buddy who must send first that this one comes, or comes from elsewhere now.
    pub(crate) fn announce(&mut self, now: Instant, own: Number) {
        for other in self.accounts.buddies(own) {
            if self.must_be_told(own, other) {
                self.dig_channel(own, other);
                let notice = Notice::Punch(self.buddy(own), self.route(now, own, other, false));
                self.notify(now, other, &notice);
            }
        }
    }

    /// Whether a buddy's NAT keeps out what the newcomer would send; or lets in only what a reflector passes on, whose token
    /// for the way back it needs.
    fn must_be_told(&self, newcomer: Number, buddy: Number) -> bool {
        let (Some(from), Some(to)) = (self.accounts.device_of(newcomer), self.accounts.device_of(buddy))
        else {
            return false;
        };
        let reach = reach(&from.side(), &to.side());
        matches!(reach.path, Path::Punch | Path::Reflect | Path::Tunnel)
            || reach.neighbours
            || reach.path == Path::Spray && to.bound.is_some()
    }

    pub(crate) fn notify(&mut self, now: Instant, number: Number, notice: &Notice) {
        let Some(flow) = self.accounts.device_of(number).map(|device| device.flow) else { return };
        let (domain, aor) = (self.config.domain.clone(), self.accounts.name(number).to_owned());
        let request = self.begin(flow, "MESSAGE", &domain, &aor).body(NOTICE, &words::write(notice));
        self.send_to(now, number, request, None);
    }

    pub(crate) fn tell_gone(&mut self, now: Instant, own: Number) {
        let gone = Notice::Gone(self.accounts.name(own).to_owned());
        for other in self.accounts.buddies(own) {
            self.notify(now, other, &gone);
        }
    }

    pub(crate) fn buddy(&self, number: Number) -> Buddy {
        let device = self.accounts.device_of(number);
        let shown = device.filter(|device| device.allows.direct);
        Buddy {
            aor: self.accounts.name(number).to_owned(),
            online: device.is_some(),
            external: shown.map(|device| device.flow.remote),
            verdict: shown.map(|device| device.verdict),
            device: device.map(|device| ByteArray::from(device.key)),
        }
    }

    /// How `from` reaches `to`; written for the initiator, or for the responder, which needs the way back.
    pub(crate) fn route(&self, now: Instant, from: Number, to: Number, for_initiator: bool) -> Route {
        let pair = self.pair(from, to);
        let (Some(ours), Some(theirs)) = (self.accounts.device_of(from), self.accounts.device_of(to)) else {
            return Route { way: Path::Server.into(), pair, hosts: Vec::new(), token: None, channel: None };
        };
        let reach = reach(&ours.side(), &theirs.side());
        let (reader, other) = if for_initiator { (ours, theirs) } else { (theirs, ours) };
        let hosts = if reach.neighbours { other.hosts.clone() } else { Vec::new() };
        let (own, end) = if for_initiator { (from, to) } else { (to, from) };
        let channel = self.channels.channel(own, end).filter(|_| reach.path == Path::Tunnel);
        Route { way: reach.into(), pair, hosts, token: self.token(now, reader, other), channel }
    }

    /// Two buddies' common key does not depend on when they met or who asks.
    pub(crate) fn pair(&self, one: Number, other: Number) -> Sealing {
        let (one, other) = (self.accounts.name(one), self.accounts.name(other));
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        Sealing::derive(&self.config.secret, "pair", &[first, second])
    }

    /// Only towards who has proven that it hears the reflector, and only if both let others know where they are.
    fn token(&self, now: Instant, from: &Device, to: &Device) -> Option<ByteArray<44>> {
        let (_, keys) = self.config.reflector.as_ref()?;
        let open = from.allows.direct && to.allows.direct;
        let token = keys.mint(from.bound?, to.bound?, Class::Message, self.birth.unix_at(now) as u32);
        token.filter(|_| open).map(ByteArray::from)
    }

    fn proven_bind(&self, now: Instant, login: &Login) -> Option<std::net::SocketAddr> {
        let (_, keys) = self.config.reflector.as_ref()?;
        let (address, ticket) = login.bind.as_ref()?;
        keys.is_bound(ticket, *address, self.birth.unix_at(now) as u32).then_some(*address)
    }
}
