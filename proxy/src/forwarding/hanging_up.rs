//! Requests of our own in a dialog that is not ours: the ACK and BYE that end a call nobody could use.

use proto::event::EndedBy;
use proto::node::Flow;
use proto::sip::{Builder, Message, Method, Name};

use crate::dialogs::calls::{Call, Dialog, Peer};
use crate::forwarding::contexts::{Context, Final, Role};
use crate::proxy::{Cx, Proxy};

impl Proxy {
    /// The relay did not take an answer's SDP, so it must not reach the caller. A provisional response goes nowhere; a
    /// 2xx that began a call is acknowledged and hung up, and the caller hears that we are short.
    pub(crate) fn answer_is_useless(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        response: &Message,
        status: u16,
    ) {
        if response.status().is_none_or(|status| status < 200) {
            return;
        }
        if let Some(flow) = context.branches[index].flow.filter(|_| response.method() == Method::Invite) {
            let number = response.cseq().map_or(1, |cseq| cseq.number);
            self.speak_to_callee(cx, flow, response, "ACK", number);
            if context.role == Role::Begins {
                self.speak_to_callee(cx, flow, response, "BYE", number + 1);
            }
        }
        self.free_branch(cx, context, index);
        let refused = self.final_response(
            context,
            &Final { retry_after: (status == 503).then_some(5), ..Final::own(status) },
        );
        self.transactions.respond(cx.now.at, context.server, refused);
        if let Some(call) = context.call.clone().filter(|_| context.role == Role::Begins) {
            self.end_call(cx, &call, status, EndedBy::Us);
        }
    }

    /// A request in the dialog that a response makes, in the caller's name.
    fn speak_to_callee(
        &mut self,
        cx: &mut Cx<'_>,
        flow: Flow,
        response: &Message,
        method: &str,
        number: u32,
    ) {
        let Some(request) = in_callers_name(response, method, number) else { return };
        let request = self.with_via(&flow, &request);
        match method {
            "ACK" => self.transactions.send(flow, request),
            // Nobody waits for what becomes of it.
            _ => drop(self.transactions.request(cx.now.at, flow, request)),
        }
    }
}

impl Proxy {
    /// Ends a call from the middle: BYE to both parties of every dialog, each in the other's name.
    pub(crate) fn hang_up(&mut self, cx: &mut Cx<'_>, id: &str, by: EndedBy) {
        let Some(call) = self.calls.find(id) else { return };
        let byes: Vec<(Flow, Message)> =
            call.dialogs.iter().flat_map(|dialog| byes_of(call, dialog)).collect();
        for (flow, bye) in byes {
            let bye = self.with_via(&flow, &bye);
            self.transactions.request(cx.now.at, flow, bye);
        }
        self.end_call(cx, id, 200, by);
    }
}

fn byes_of(call: &Call, dialog: &Dialog) -> [(Flow, Message); 2] {
    let (caller, callee) = ((&*call.from, &*call.from_tag), (&*call.to, &*dialog.to_tag));
    let to_callee = bye(&call.id, caller, callee, &dialog.callee, call.caller.cseq + call.shift + 1);
    let to_caller = bye(&call.id, callee, caller, &call.caller, dialog.callee.cseq + 1);
    [(dialog.callee.flow, to_callee), (call.caller.flow, to_caller)]
}

fn bye(id: &str, from: (&str, &str), to: (&str, &str), receiver: &Peer, cseq: u32) -> Message {
    let party = |(name, tag): (&str, &str)| match name.contains(':') {
        true => format!("<{name}>;tag={tag}"),
        false => format!("<sip:{name}>;tag={tag}"),
    };
    let mut request = Builder::request("BYE", &receiver.contact)
        .header(Name::MaxForwards, 70)
        .header(Name::From, party(from))
        .header(Name::To, party(to))
        .header(Name::CallId, id)
        .header(Name::CSeq, format_args!("{cseq} BYE"))
        .header(Name::Reason, "SIP;cause=408;text=\"no media\"");
    for route in &receiver.route {
        request = request.header(Name::Route, route);
    }
    request.finish()
}

/// ACK or BYE as the caller would send it (RFC 3261 §12.2.1.1): the callee's Contact as request URI, and From, To and
/// Call-ID as they are. The way to the callee is known, so there is no Route but that of proxies behind us.
fn in_callers_name(response: &Message, method: &str, number: u32) -> Option<Message> {
    let contact = response.contacts().next()?.ok()?;
    let request = Builder::request(method, contact.raw_uri)
        .header(Name::MaxForwards, 70)
        .header(Name::From, response.text(Name::From)?)
        .header(Name::To, response.text(Name::To)?)
        .header(Name::CallId, response.call_id())
        .header(Name::CSeq, format_args!("{number} {method}"));
    Some(request.finish())
}
