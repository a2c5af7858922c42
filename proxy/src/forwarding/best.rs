//! When branches end without success: what is tried next, and which answer is best in the end (RFC 3261 §16.7 steps 6–9).

use proto::event::EndedBy;
use proto::sip::{Edit, Message, Name, reply};

use crate::forwarding::contexts::{Answered, Context, Final, Stage};
use crate::media::siblings;
use crate::proxy::{Cx, Proxy};
use crate::trunks::failover::is_trouble;
use crate::trunks::login::unshifted;

impl Proxy {
    /// A branch is done with, without success.
    pub(crate) fn branch_ended(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, end: Final) {
        context.branches[index].stage = Stage::Done;
        self.free_branch(cx, context, index);
        if end.status >= 600 {
            context.later.clear();
            self.call_off(cx, context, None);
        }
        if let Some((_, response)) = &end.response
            && matches!(end.status, 401 | 407)
        {
            remember_challenges(context, response);
        }
        let trouble = is_trouble(&end);
        if context.best.as_ref().is_none_or(|best| rank(end.status) < rank(best.status)) {
            context.best = Some(end);
        }
        if !(trouble && self.try_another(cx, context, index)) {
            self.when_idle(cx, context);
        }
    }

    /// When no branch is left: the targets of lower preference, or the best answer.
    pub(crate) fn when_idle(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        if !context.is_idle() || context.answered != Answered::No {
            return;
        }
        let Some(q) = context.later.front().map(|target| target.q) else {
            return self.answer_best(cx, context);
        };
        let next = context.later.iter().take_while(|target| target.q == q).count();
        let next = context.later.drain(..next).collect();
        self.try_targets(cx, context, next);
    }

    /// The best response goes back (§16.7 steps 6–9).
    fn answer_best(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        let best = context.best.take().unwrap_or(Final::own(408));
        let best = if context.cancelled && best.status < 600 { Final { status: 487, ..best } } else { best };
        let by = match &best {
            _ if context.cancelled => EndedBy::Caller,
            Final { response: Some(_), .. } => EndedBy::Callee,
            Final { status: 408, .. } => EndedBy::Timeout,
            _ => EndedBy::Us,
        };
        context.answered = Answered::Failure;
        if best.status == 408 && !context.is_invite {
            // RFC 4320 §4.2: it would come too late to be of use.
            self.transactions.ignore(cx.now.at, context.server);
        } else {
            let response = self.final_response(context, &best);
            self.transactions.respond(cx.now.at, context.server, response);
        }
        self.transaction_ended(cx, context, best.status, by);
    }

    pub(crate) fn final_response(&mut self, context: &Context, best: &Final) -> Message {
        match &best.response {
            Some((index, response)) if response.status() == Some(best.status) => {
                let edit = self.to_whom_it_answers(context, *index, response);
                let edit = unshifted(siblings::strip(edit, response), &context.request, response);
                let edit = self.identity_of_response(edit, context, *index, response);
                let answer = with_challenges(edit, response, context).finish();
                self.with_nothing_hidden(
                    context,
                    self.answer_as_trunks_want(context, &context.branches[*index], answer),
                )
            }
            _ => {
                let mut own = reply(&context.request, best.status, &self.dice.word(10));
                if let Some(words) = &best.words {
                    // RFC 3261 §20.43: 399 is for people to read.
                    own = own.header(Name::Warning, format_args!("399 {} \"{words}\"", self.config.realm));
                }
                match best.retry_after {
                    Some(seconds) => own.header(Name::RetryAfter, seconds).finish(),
                    None => own.finish(),
                }
            }
        }
    }
}

/// Which final response is better (§16.7 step 6): any 6xx, then the lowest class; within 4xx those that tell the
/// caller what to do next; 408 last.
fn rank(status: u16) -> u8 {
    match status {
        600.. => 0,
        300..=399 => 1,
        401 | 407 | 415 | 420 | 484 => 2,
        408 => 4,
        400..=499 => 3,
        503 => 6,
        _ => 5,
    }
}

fn remember_challenges(context: &mut Context, response: &Message) {
    for header in response.headers().filter(|header| CHALLENGES.contains(&header.name)) {
        if let Ok(value) = std::str::from_utf8(header.value) {
            context.challenges.push((header.name, value.to_owned()));
        }
    }
}

/// Of a challenge every branch's challenges go back (§16.7 step 7).
fn with_challenges<'m>(edit: Edit<'m>, response: &Message, context: &Context) -> Edit<'m> {
    if !matches!(response.status(), Some(401 | 407)) || context.branches.len() < 2 {
        return edit;
    }
    let edit = CHALLENGES.into_iter().fold(edit, Edit::remove);
    context.challenges.iter().fold(edit, |edit, (name, value)| edit.append(*name, value))
}

/// The two headers a challenge may stand in.
const CHALLENGES: [Name; 2] = [Name::WwwAuthenticate, Name::ProxyAuthenticate];
