//! The relay client.

use proto::control::Session;
use proto::node::Flow;
use proto::sip::Message;
use proto::sip::transaction::ClientId;

use crate::branches::Step;
use crate::contexts::Context;
use crate::dialogs::Way;
use crate::hashing::{Keyed, Map};
use crate::proxy::{Cx, Proxy};
use crate::routing::Routed;
use crate::validate::Refusal;

#[derive(Debug)]
pub(crate) struct Relays {
    sessions: Map<Session, ()>,
}

impl Relays {
    pub(crate) fn new(keyed: Keyed) -> Relays {
        Relays { sessions: Map::with_hasher(keyed) }
    }
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Proxy {
    pub(crate) fn relay_response(&mut self, _: &mut Cx<'_>, _: Session, _: ClientId, _: Flow, _: Message) {}
    pub(crate) fn relay_unanswered(&mut self, _: &mut Cx<'_>, _: Session, _: ClientId) {}
    pub(crate) fn repeat_relay_ack(&mut self, _: Flow, _: &Message) {}
    pub(crate) fn refresh(&mut self, _: &mut Cx<'_>, _: Session) {}
    pub(crate) fn free(&mut self, _: &mut Cx<'_>, _: u8, _: Session) {}
    pub(crate) fn free_branch(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize) {}
    pub(crate) fn settle_media(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize) -> Step {
        Step::Go
    }
    pub(crate) fn answer_through_relay(
        &mut self,
        _: &mut Cx<'_>,
        _: &mut Context,
        _: usize,
        _: &Message,
    ) -> bool {
        false
    }
    pub(crate) fn ack_through_relay(
        &mut self,
        _: &mut Cx<'_>,
        _: &Flow,
        _: &Message,
        _: &Routed,
        _: &Way,
    ) -> bool {
        false
    }
    pub(crate) fn refuse_our_own_relay(&self, _: &Context) -> Result<(), Refusal> {
        Ok(())
    }
}
