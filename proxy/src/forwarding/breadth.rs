//! Max-Breadth (RFC 5393 §5): a request may be in so many branches at a time, in all proxies together. Whoever forks shares
//! out what it was given, so that no loop of forking proxies grows without end.

use proto::sip::{Message, Name};

use crate::forwarding::contexts::{Context, Stage, Target};

/// What a request without the header may have (§5.3.3).
const DEFAULT: u32 = 60;

/// What the request allows in all; `None`: it says nothing.
pub(crate) fn stated(request: &Message) -> Option<u32> {
    request.text(Name::MaxBreadth)?.trim().parse().ok()
}

/// Shares what is left among targets that are to be tried at the same time: what each gets. Those for which nothing is left are
/// tried after the others (§5.3.3.1: serially), in `context.later`. `None`: as it came, since the request is not forked here.
pub(crate) fn share(context: &mut Context, targets: &mut Vec<Target>) -> Option<u32> {
    let live = context.branches.iter().filter(|branch| branch.stage != Stage::Done);
    let taken: u32 = live.map(|branch| branch.breadth.unwrap_or(1)).sum();
    let left = stated(&context.request).unwrap_or(DEFAULT).saturating_sub(taken);
    let fitting = targets.len().min(left as usize);
    for target in targets.drain(fitting..).rev() {
        context.later.push_front(target);
    }
    let forks = targets.len() > 1 || taken > 0;
    left.checked_div(targets.len() as u32).filter(|_| forks)
}
