//! What endpoints have the server do for them: permissions, a path for media, and messages for those who can't be
//! reached directly, or not now.

use std::time::Instant;

use proto::node::Flow;
use proto::peer::words::{self, Notice, WISH, Wish};
use proto::sip::transaction::ServerId;
use proto::sip::{Message, Method, Name, reply};

use crate::accounts::Number;
use crate::server::{Access, Pending, Refusal};

impl Access {
    /// A MESSAGE or NOTIFY of an endpoint, for us or for another.
    pub(crate) fn between_peers(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Message,
    ) -> Result<(), Refusal> {
        let from = address(request.from().ok().and_then(|from| from.uri().ok()?.aor()))?;
        let device = self.accounts.device(&from).ok_or((403, "From is nobody who is logged in"))?;
        if device.flow != flow {
            return Err((403, "From is logged in from elsewhere"));
        }
        if request.text(Name::ContentType) == Some(WISH) {
            let session = device.session.clone();
            if !self.is_sealed(now, &session, request) {
                return Err((403, "the session's key has not signed this"));
            }
            let wish = words::read(request.body()).ok_or((400, "the wish can't be read"))?;
            return self.grant(now, id, request, &from, wish);
        }
        let to = address(request.to().ok().and_then(|to| to.uri().ok()?.aor()))?;
        let (one, other) = self.accounts.pair(&from, &to).ok_or((403, "no mutual consent"))?;
        if !self.is_sealed(now, &self.pair(one, other), request) {
            return Err((403, "the pair's key has not signed this"));
        }
        self.pass_on(now, id, request, &to)
    }

    fn pass_on(&mut self, now: Instant, id: ServerId, request: &Message, to: &str) -> Result<(), Refusal> {
        let hops = request.max_forwards().ok().flatten().unwrap_or(70);
        if hops == 0 {
            return Err((483, "it has passed too many servers"));
        }
        let Some(flow) = self.accounts.device(to).map(|device| device.flow) else {
            return self.not_online(now, id, request, to);
        };
        let (transport, branch) = (flow.transport.via(), self.dice.word(16));
        let via = format!("SIP/2.0/{transport} {};branch=z9hG4bK{branch};rport", flow.local);
        let passed = request
            .edit()
            .push_front(Name::Via, &via)
            .set(Name::MaxForwards, &(hops - 1).to_string())
            .remove(Name::Route)
            .finish();
        let client = self.transactions.request(now, flow, passed);
        let pending = Pending::Passed { server: id, aor: to.to_owned(), message: request.clone() };
        self.pending.insert(client, pending);
        Ok(())
    }

    fn not_online(&mut self, now: Instant, id: ServerId, request: &Message, to: &str) -> Result<(), Refusal> {
        if request.method() != Method::Message {
            return Err((480, "it is not online"));
        }
        self.keep(to, request.clone());
        let response = reply(request, 202, &self.dice.word(8)).finish();
        self.transactions.respond(now, id, response);
        Ok(())
    }

    /// A message that was passed on and not answered is kept; anything else has failed.
    pub(crate) fn not_passed(&mut self, now: Instant, server: ServerId, aor: &str, message: Message) {
        let is_message = message.method() == Method::Message;
        let status = if is_message { 202 } else { 408 };
        let response = reply(&message, status, &self.dice.word(8)).finish();
        self.transactions.respond(now, server, response);
        if is_message {
            self.keep(aor, message);
        }
    }

    /// For later; the oldest gives way.
    pub(crate) fn keep(&mut self, aor: &str, message: Message) {
        let most = self.config.mailbox;
        let mail = self.accounts.mail(aor);
        if mail.len() >= most {
            mail.pop_front();
        }
        if most > 0 {
            mail.push_back(message);
        }
    }

    /// What has waited goes out, signed by us: its sender's proof has aged.
    pub(crate) fn deliver(&mut self, now: Instant, aor: &str) {
        let Some(number) = self.accounts.number(aor) else { return };
        let Some(flow) = self.accounts.device_of(number).map(|device| device.flow) else { return };
        for message in self.accounts.take_mail(aor) {
            let from = message.from().ok().and_then(|from| from.uri().ok()?.aor()).unwrap_or_default();
            let kind = message.text(Name::ContentType).unwrap_or("text/plain").to_owned();
            let request = self.begin(flow, "MESSAGE", &from, aor).body(&kind, message.body());
            self.send_to(now, number, request, Some(Pending::Mail { aor: aor.to_owned(), message }));
        }
    }

    fn grant(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Message,
        from: &str,
        wish: Wish,
    ) -> Result<(), Refusal> {
        match wish {
            Wish::Permit(whom, permitted) => {
                let were = self.accounts.pair(from, &whom).is_some();
                if !self.accounts.permit(from, &whom, permitted) {
                    return Err((403, "an account has at most 128 buddies"));
                }
                self.answer_wish(now, id, request);
                match self.accounts.pair(from, &whom) {
                    Some((one, other)) if !were => self.introduce(now, one, other),
                    None if were => self.part(now, from, &whom),
                    _ => {}
                }
            }
            Wish::Open(whom) => {
                let (one, other) = self.accounts.pair(from, &whom).ok_or((403, "no mutual consent"))?;
                self.introduce(now, one, other);
                self.answer_wish(now, id, request);
            }
        }
        Ok(())
    }

    fn answer_wish(&mut self, now: Instant, id: ServerId, request: &Message) {
        let response = reply(request, 200, &self.dice.word(8)).finish();
        self.transactions.respond(now, id, response);
    }

    /// Both learn where the other is: the first one opens, the other has sent by then.
    fn introduce(&mut self, now: Instant, one: Number, other: Number) {
        self.dig_channel(one, other);
        let (theirs, ours) = (self.route(now, one, other, false), self.route(now, one, other, true));
        self.notify(now, other, &Notice::Punch(self.buddy(one), theirs));
        self.notify(now, one, &Notice::Met(self.buddy(other), ours));
    }

    /// Both forget one another: one no longer permits it.
    fn part(&mut self, now: Instant, one: &str, other: &str) {
        for (who, whom) in [(one, other), (other, one)] {
            if let Some(number) = self.accounts.number(who) {
                self.notify(now, number, &Notice::Gone(whom.to_owned()));
            }
        }
    }
}

fn address(aor: Option<String>) -> Result<String, Refusal> {
    aor.ok_or((400, "From or To names no user at a domain"))
}
