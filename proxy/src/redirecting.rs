//! Who serves the callee (SYSTEMS §1 steps 7 and 8).

use proto::sip::Message;

use crate::branches::Step;
use crate::contexts::{Context, Final};
use crate::proxy::{Cx, Proxy};

impl Proxy {
    pub(crate) fn look_up(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize) -> Step {
        Step::Fail(Final::own(404))
    }
    pub(crate) fn redirect_answered(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize, _: &Message) {}
    pub(crate) fn redirect_failed(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize, _: Final) {}
    pub(crate) fn redirect_silent(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize) {}
    pub(crate) fn recurse(&mut self, _: &mut Cx<'_>, _: &mut Context, _: usize, _: &Message) -> bool {
        false
    }
}
