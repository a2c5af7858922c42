//! A dialog at one end (RFC 3261 §12).

use proto::sip::{Builder, Message, Method, Name};

/// One dialog. Before the other side answers, `remote` has no tag.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: String,
    /// From of our requests, tag included.
    local: String,
    /// To of our requests, tag included.
    remote: String,
    pub(crate) local_seq: u32,
    /// Where its other party is met.
    pub(crate) target: String,
    routes: Vec<String>,
}

impl Dialog {
    /// The one an INVITE of ours is to make.
    pub(crate) fn outgoing(call_id: String, tag: String, own_uri: &str, to: &str) -> Dialog {
        Dialog {
            call_id,
            local: format!("<{own_uri}>;tag={tag}"),
            local_tag: tag,
            remote: format!("<{to}>"),
            remote_tag: String::new(),
            local_seq: 0,
            target: to.to_string(),
            routes: Vec::new(),
        }
    }

    /// The one a received INVITE makes (§12.1.1).
    pub(crate) fn incoming(invite: &Message, tag: String) -> Dialog {
        let mut dialog = Dialog {
            call_id: invite.call_id().to_string(),
            local: format!("{};tag={tag}", invite.text(Name::To).unwrap_or("")),
            local_tag: tag,
            remote: invite.text(Name::From).unwrap_or("").to_string(),
            remote_tag: invite.from_tag().to_string(),
            local_seq: 0,
            target: String::new(),
            routes: invite.values(Name::RecordRoute).map(str::to_string).collect(),
        };
        dialog.follow_target(invite);
        dialog
    }

    /// What a response that makes a dialog says of it (§12.1.2).
    pub(crate) fn confirm(&mut self, response: &Message) {
        self.remote_tag = response.to_tag().to_string();
        self.remote = response.text(Name::To).unwrap_or(&self.remote).to_string();
        self.routes = response.values(Name::RecordRoute).map(str::to_string).collect();
        self.routes.reverse();
        self.follow_target(response);
    }

    /// The Contact of the other side (§12.2: of every target refresh).
    pub(crate) fn follow_target(&mut self, message: &Message) {
        if let Some(Ok(contact)) = message.contacts().next() {
            self.target = contact.raw_uri.to_string();
        }
    }

    /// The other party's address of record.
    pub(crate) fn party(&self) -> Option<&str> {
        let after = |scheme| Some(self.remote.split_once(scheme)?.1);
        let address = ["sip:", "sips:", "tel:"].into_iter().find_map(after)?;
        address.split(['>', ';', '?']).next()
    }

    /// Whether a request belongs to it.
    pub(crate) fn has(&self, request: &Message) -> bool {
        request.call_id() == self.call_id
            && request.to_tag() == self.local_tag
            && (self.remote_tag.is_empty() || request.from_tag() == self.remote_tag)
    }

    /// A request in it (§12.2.1.1), without Via. ACK and CANCEL keep the number of their INVITE.
    pub(crate) fn request(&mut self, method: Method<'_>, via: &str) -> Builder {
        if !matches!(method, Method::Ack | Method::Cancel) {
            self.local_seq += 1;
        }
        self.request_numbered(method, self.local_seq, via)
    }

    /// A request with a number of its own.
    pub(crate) fn request_numbered(&self, method: Method<'_>, number: u32, via: &str) -> Builder {
        let builder = Builder::request(method.as_str(), &self.target)
            .header(Name::Via, via)
            .header(Name::MaxForwards, 70)
            .header(Name::From, &self.local)
            .header(Name::To, &self.remote)
            .header(Name::CallId, &self.call_id)
            .header(Name::CSeq, format_args!("{number} {}", method.as_str()));
        self.routes.iter().fold(builder, |builder, route| builder.header(Name::Route, route))
    }
}
