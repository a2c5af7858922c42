//! The calls that are up: enough of each to recognise what belongs to it when no token says so, and to record its end.

use std::collections::VecDeque;
use std::time::Instant;

use proto::control::Session;
use proto::event::{CallEnded, EndedBy, Event, Name, Side};
use proto::node::Flow;
use proto::timers::Timer;

use crate::hashing::{Keyed, Map};

/// All calls of a node, by Call-ID.
#[derive(Debug)]
pub(crate) struct Calls {
    by_id: Map<Name, Call>,
    /// Calls of a former life whose end was recorded lately: when both parties hang up at once, a call ends once.
    former: VecDeque<Name>,
}

/// How many calls of a former life are remembered after their end.
const FORMER: usize = 1024;

/// A call: one INVITE outside of dialogs, and the dialogs it made.
#[derive(Debug)]
pub(crate) struct Call {
    /// Call-ID.
    pub(crate) id: Name,
    /// The caller's address of record, as From says.
    pub(crate) from: Name,
    /// The callee's, as To says.
    pub(crate) to: Name,
    /// From tag of the INVITE.
    pub(crate) from_tag: Box<str>,
    /// The caller.
    pub(crate) caller: Peer,
    /// When the INVITE came.
    pub(crate) begun: Instant,
    /// When the first 2xx came.
    pub(crate) answered: Option<Instant>,
    /// Dialogs, early ones too.
    pub(crate) dialogs: Vec<Dialog>,
    /// Whether media of any dialog goes through a relay.
    pub(crate) anchored: bool,
    /// By how much the CSeq of the caller's requests is raised on the way to the callee.
    pub(crate) shift: u32,
    /// Trunks it has a place on.
    pub(crate) trunks: Vec<Name>,
    /// Ends it when nothing else does.
    pub(crate) life: Option<Timer>,
}

/// A party of a dialog.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where its messages come from and go to.
    pub(crate) flow: Flow,
    /// Its Contact: the request URI of requests to it.
    pub(crate) contact: Box<str>,
    /// Routes of other proxies between us and it, the nearest first.
    pub(crate) route: Box<[Box<str>]>,
    /// The CSeq of its last request.
    pub(crate) cseq: u32,
}

/// One dialog of a call, as the callee's tag names it.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// To tag of the INVITE's response.
    pub(crate) to_tag: Box<str>,
    /// The callee.
    pub(crate) callee: Peer,
    /// The relay session of its media: which relay, and the session.
    pub(crate) session: Option<(u8, Session)>,
}

/// A dialog as seen by the sender of a request in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Which party the sender is.
    pub(crate) sender: Side,
    /// The other party.
    pub(crate) receiver: Peer,
    /// The relay session.
    pub(crate) session: Option<(u8, Session)>,
}

impl Calls {
    /// None yet.
    pub(crate) fn new(keyed: Keyed) -> Calls {
        Calls { by_id: Map::with_hasher(keyed), former: VecDeque::new() }
    }

    /// How many are up.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many have a party on such a path.
    pub(crate) fn at(&self, here: impl Fn(&Flow) -> bool) -> usize {
        let parties = |call: &Call| {
            here(&call.caller.flow) || call.dialogs.iter().any(|dialog| here(&dialog.callee.flow))
        };
        self.by_id.values().filter(|call| parties(call)).count()
    }

    /// Takes up a call. `false`: there is one with this Call-ID already (a spiral, or a merged request).
    pub(crate) fn begin(&mut self, call: Call) -> bool {
        let id = call.id.clone();
        match self.by_id.entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(call);
                true
            }
        }
    }

    /// A call.
    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Call> {
        self.by_id.get_mut(id)
    }

    /// The dialog with these tags that `from` is a party of (DESIGN §4: Call-ID, both tags, source). The source's
    /// address counts, its port does not: phones and NATs change it.
    pub(crate) fn place(&self, id: &str, from_tag: &str, to_tag: &str, from: &Flow) -> Option<Place> {
        self.by_id.get(id)?.place(from_tag, to_tag, from)
    }

    /// The Contact, as written, of the party that a request with these tags goes to.
    pub(crate) fn receivers_contact(&self, id: &str, [from_tag, to_tag]: [&str; 2]) -> Option<&str> {
        let call = self.by_id.get(id)?;
        let dialog = |tag: &str| call.dialogs.iter().find(|dialog| *dialog.to_tag == *tag);
        let receiver = match *call.from_tag == *from_tag {
            true => &dialog(to_tag)?.callee,
            false => dialog(from_tag).map(|_| &call.caller)?,
        };
        Some(&*receiver.contact).filter(|contact| !contact.is_empty())
    }

    /// Whether the dialog with these tags is known to have no relay session of ours, whatever a token says: one token
    /// serves all branches of a proxy behind us.
    pub(crate) fn is_apart(&self, id: &str, tags: [&str; 2]) -> bool {
        let dialogs = self.by_id.get(id).map(|call| &*call.dialogs).unwrap_or_default();
        dialogs.iter().any(|dialog| tags.contains(&&*dialog.to_tag) && dialog.session.is_none())
    }

    /// By how much the caller's CSeq is raised in the dialog with these tags.
    pub(crate) fn shift(&self, id: &str, tags: [&str; 2]) -> u32 {
        self.by_id.get(id).filter(|call| tags.contains(&&*call.from_tag)).map_or(0, |call| call.shift)
    }

    /// Whether a dialog of a call has its media by this session.
    pub(crate) fn talks_by(&self, id: &str, session: Session) -> bool {
        let dialogs = self.by_id.get(id).map(|call| &*call.dialogs).unwrap_or_default();
        dialogs.iter().any(|dialog| dialog.session.is_some_and(|(_, its)| its == session))
    }

    /// Ends one dialog of a call, and the call with its last one.
    pub(crate) fn end_dialog(&mut self, id: &str, tags: [&str; 2], end: End) -> Option<(Call, Event)> {
        let call = self.by_id.get_mut(id)?;
        call.dialogs.retain(|dialog| !tags.contains(&&*dialog.to_tag));
        if call.dialogs.is_empty() { self.end(id, end) } else { None }
    }

    /// Whether this is the first that is heard of the end of a call of a former life.
    pub(crate) fn end_former(&mut self, id: &Name) -> bool {
        if self.former.contains(id) {
            return false;
        }
        if self.former.len() >= FORMER {
            self.former.pop_front();
        }
        self.former.push_back(id.clone());
        true
    }

    /// Ends a call.
    pub(crate) fn end(&mut self, id: &str, end: End) -> Option<(Call, Event)> {
        let call = self.by_id.remove(id)?;
        let event = call.record(end);
        Some((call, event))
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// When.
    pub(crate) at: Instant,
    /// The final status of its INVITE.
    pub(crate) status: u16,
    /// Who ended it.
    pub(crate) by: EndedBy,
}

impl Call {
    /// The callee answered in the dialog `to_tag`, or gave a sign of life.
    pub(crate) fn heard(&mut self, dialog: Dialog) -> &mut Dialog {
        let known = self.dialogs.iter().position(|d| d.to_tag == dialog.to_tag);
        let index = known.unwrap_or_else(|| {
            self.dialogs.push(dialog.clone());
            self.dialogs.len() - 1
        });
        let place = &mut self.dialogs[index];
        let (session, cseq) = (dialog.session.or(place.session), place.callee.cseq);
        *place = Dialog { session, callee: Peer { cseq, ..dialog.callee }, ..dialog };
        place
    }

    /// Forgets early dialogs but this one: it was answered.
    pub(crate) fn answered_by(&mut self, at: Instant, to_tag: &str) -> bool {
        let first = self.answered.is_none();
        if first {
            self.dialogs.retain(|dialog| &*dialog.to_tag == to_tag);
            self.answered = Some(at);
        }
        first
    }

    /// A request of one party came: a BYE of ours in its name must count on from there.
    pub(crate) fn spoke(&mut self, sender: Side, tag: &str, cseq: u32) {
        match sender {
            Side::Caller => self.caller.cseq = self.caller.cseq.max(cseq),
            Side::Callee => {
                if let Some(dialog) = self.dialogs.iter_mut().find(|dialog| &*dialog.to_tag == tag) {
                    dialog.callee.cseq = dialog.callee.cseq.max(cseq);
                }
            }
        }
    }

    /// A target refresh (RFC 3261 §12.2): the party with this tag has written this Contact.
    pub(crate) fn is_met_at(&mut self, tag: &str, contact: Box<str>) {
        let dialog = self.dialogs.iter_mut().find(|dialog| *dialog.to_tag == *tag);
        match dialog {
            _ if contact.is_empty() => {}
            Some(dialog) => dialog.callee.contact = contact,
            None if *self.from_tag == *tag => self.caller.contact = contact,
            None => {}
        }
    }

    fn place(&self, from_tag: &str, to_tag: &str, from: &Flow) -> Option<Place> {
        let forward = *self.from_tag == *from_tag;
        let callee_tag = if forward { to_tag } else { from_tag };
        if !forward && *self.from_tag != *to_tag {
            return None;
        }
        let dialog = self.dialogs.iter().find(|d| &*d.to_tag == callee_tag)?;
        let (sender, sending, receiver) = match forward {
            true => (Side::Caller, &self.caller, &dialog.callee),
            false => (Side::Callee, &dialog.callee, &self.caller),
        };
        (sending.flow.remote.ip() == from.remote.ip()).then(|| Place {
            sender,
            receiver: receiver.clone(),
            session: dialog.session,
        })
    }

    fn record(&self, end: End) -> Event {
        let since = |from: Instant| end.at.saturating_duration_since(from);
        let setup = self.answered.unwrap_or(end.at).saturating_duration_since(self.begun);
        Event::CallEnded(Box::new(CallEnded {
            call: self.id.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            status: end.status,
            duration: self.answered.map(since).unwrap_or_default(),
            setup,
            by: end.by,
            anchored: self.anchored,
        }))
    }
}
