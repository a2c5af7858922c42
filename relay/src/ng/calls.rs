//! Calls as the protocol names them: a Call-ID, the tags of its parties, and a branch where a fork tells them apart.
//! Each pair of parties is a dialog, and has a relay session of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use proto::control::Session;
use proto::event::{Name, Side};

use super::codecs::Key;
use super::command::Target;
use super::value::{Dict, Value};
use crate::session::index;

/// What one party said in one m= section, as far as it matters later. Here and below nothing has room to grow: there are
/// thousands of calls, and what is known of each is replaced, not added to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) media: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) mux: bool,
    pub(crate) codecs: Box<[Key]>,
    pub(crate) ptime: Option<u32>,
    pub(crate) mid: Option<Box<str>>,
}

/// One party of a dialog.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// `None`: it has not answered.
    pub(crate) tag: Option<Box<str>>,
    pub(crate) label: Option<Box<str>>,
    pub(crate) said: Arc<[Said]>,
    /// By m= section: it was offered rtcp-mux.
    pub(crate) told_mux: Box<[bool]>,
    /// Its last offer's client wants rtcp-mux spoken with it whatever the answer says, or never.
    pub(crate) mux_accept: bool,
    pub(crate) mux_reject: bool,
}

/// Two parties.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) session: Session,
    /// Who made the first offer, and who is to answer it.
    pub(crate) ends: [End; 2],
    pub(crate) branch: Option<Box<str>>,
}

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: Name,
    pub(crate) begun: Instant,
    /// When a command about it last came.
    pub(crate) signalled: Instant,
    pub(crate) answered: bool,
    pub(crate) metadata: Option<String>,
    pub(crate) dialogs: Vec<Dialog>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) by_id: BTreeMap<String, Call>,
    by_session: BTreeMap<u64, String>,
}

impl End {
    fn pack(&self) -> Dict<'static> {
        let flags =
            |flags: &[bool]| Value::List(flags.iter().map(|flag| Value::Int((*flag).into())).collect());
        let said = self.said.iter().map(|said| {
            let dict = Dict::default()
                .with("codecs", Value::List(said.codecs.iter().map(|key| Value::text(&**key)).collect()))
                .with("media", Value::text(said.media.to_string()))
                .with("mux", Value::Int(said.mux.into()))
                .with("protocol", Value::text(said.protocol.to_string()));
            let dict = with_text(dict, "mid", said.mid.as_deref());
            Value::Dict(match said.ptime {
                Some(ptime) => dict.with("ptime", Value::Int(ptime.into())),
                None => dict,
            })
        });
        let dict = Dict::default()
            .with("muxes", flags(&[self.mux_accept, self.mux_reject]))
            .with("said", Value::List(said.collect()))
            .with("told mux", flags(&self.told_mux));
        let dict = with_text(dict, "label", self.label.as_deref());
        with_text(dict, "tag", self.tag.as_deref())
    }

    fn unpack(kept: &Dict<'_>) -> End {
        let list = |key: &str| match kept.value(key) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        };
        let flags =
            |key: &str| -> Vec<bool> { list(key).iter().map(|flag| flag.as_int() == Some(1)).collect() };
        let muxes = flags("muxes");
        let text = |key: &str| kept.text(key).map(Box::from);
        let said = |dict: &Dict<'_>| Said {
            media: dict.text("media").unwrap_or_default().into(),
            protocol: dict.text("protocol").unwrap_or_default().into(),
            mux: dict.value("mux").and_then(Value::as_int) == Some(1),
            codecs: dict
                .value("codecs")
                .map(|codecs| codecs.words().into_iter().map(Key::from).collect())
                .unwrap_or_default(),
            ptime: dict.value("ptime").and_then(Value::as_int).and_then(|ptime| u32::try_from(ptime).ok()),
            mid: dict.text("mid").map(Box::from),
        };
        End {
            tag: text("tag"),
            label: text("label"),
            said: list("said").iter().filter_map(Value::as_dict).map(said).collect(),
            told_mux: flags("told mux").into(),
            mux_accept: muxes.first() == Some(&true),
            mux_reject: muxes.get(1) == Some(&true),
        }
    }
}

fn with_text(dict: Dict<'static>, key: &str, text: Option<&str>) -> Dict<'static> {
    match text {
        Some(text) => dict.with(key, Value::text(text)),
        None => dict,
    }
}

impl Dialog {
    pub(crate) fn new(session: Session, target: &Target) -> Dialog {
        let caller = End { tag: target.from.as_deref().map(Box::from), ..End::default() };
        let callee = End { tag: target.to.as_deref().map(Box::from), ..End::default() };
        Dialog { session, ends: [caller, callee], branch: target.branch.as_deref().map(Box::from) }
    }

    /// Which party has this tag.
    pub(crate) fn side(&self, tag: &str) -> Option<Side> {
        let has = |side: Side| self.ends[index(side)].tag.as_deref() == Some(tag);
        [Side::Caller, Side::Callee].into_iter().find(|side| has(*side))
    }

    /// Which party has this label.
    pub(crate) fn labelled(&self, label: &str) -> Option<Side> {
        let has = |side: Side| self.ends[index(side)].label.as_deref() == Some(label);
        [Side::Caller, Side::Callee].into_iter().find(|side| has(*side))
    }

    fn joins(&self, one: &str, other: &str) -> bool {
        self.side(one).is_some_and(|side| self.ends[index(side.other())].tag.as_deref() == Some(other))
    }

    fn is_branch(&self, branch: Option<&str>) -> bool {
        branch.is_none() || self.branch.as_deref() == branch
    }

    fn waits(&self) -> bool {
        self.ends[1].tag.is_none()
    }
}

impl Call {
    /// The dialog an offer is about, and who makes it.
    pub(crate) fn offered(&self, target: &Target) -> Option<(usize, Side)> {
        let (from, branch) = (target.from.as_deref()?, target.branch.as_deref());
        let at = match target.to.as_deref() {
            // The tag of an answer we were not told of: the dialog that still waits for one.
            Some(to) => self.position(|dialog| dialog.joins(from, to)).or_else(|| {
                self.position(|dialog| dialog.waits() && dialog.side(from) == Some(Side::Caller))
            }),
            None => self
                .position(|dialog| dialog.side(from).is_some() && dialog.branch.as_deref() == branch)
                .or_else(|| self.position(|dialog| dialog.side(from).is_some() && dialog.is_branch(branch))),
        }?;
        Some((at, self.dialogs[at].side(from)?))
    }

    /// The dialog an answer is about, and who made the offer.
    pub(crate) fn answered(&self, target: &Target) -> Option<(usize, Side)> {
        let (from, branch) = (target.from.as_deref()?, target.branch.as_deref());
        let to = target.to.as_deref();
        let offers = |dialog: &Dialog| dialog.side(from) == Some(Side::Caller) && dialog.is_branch(branch);
        let at = to
            .and_then(|to| self.position(|dialog| dialog.joins(from, to) && dialog.is_branch(branch)))
            .or_else(|| self.position(|dialog| offers(dialog) && dialog.waits()))
            .or_else(|| to.and_then(|to| self.position(|dialog| dialog.joins(from, to))))
            .or_else(|| self.position(offers))
            .or_else(|| self.position(|dialog| dialog.side(from).is_some()))?;
        Some((at, self.dialogs[at].side(from)?))
    }

    /// The dialogs a command is about.
    pub(crate) fn meant(&self, target: &Target) -> Vec<usize> {
        let from = target.from.as_deref();
        let to = target.to.as_deref();
        let tags = |dialog: &Dialog| match (from, to) {
            (None, None) => true,
            (Some(tag), None) | (None, Some(tag)) => dialog.side(tag).is_some(),
            (Some(from), Some(to)) => dialog.joins(from, to),
        };
        let all = || self.dialogs.iter().enumerate();
        let fits =
            |(_, dialog): &(usize, &Dialog)| tags(dialog) && dialog.is_branch(target.branch.as_deref());
        let exact: Vec<usize> = all().filter(fits).map(|(at, _)| at).collect();
        if !exact.is_empty() || to.is_none() {
            return exact;
        }
        // Whoever deletes an unanswered branch may know the tag of a response we were not told of.
        let waits = |(_, dialog): &(usize, &Dialog)| {
            dialog.waits()
                && from.is_some_and(|from| dialog.side(from).is_some())
                && dialog.is_branch(target.branch.as_deref())
        };
        all().filter(waits).map(|(at, _)| at).collect()
    }

    fn position(&self, is: impl Fn(&Dialog) -> bool) -> Option<usize> {
        self.dialogs.iter().position(is)
    }
}

impl Calls {
    /// The call a session belongs to.
    pub(crate) fn of(&mut self, session: Session) -> Option<&mut Call> {
        self.by_id.get_mut(self.by_session.get(&session.0)?)
    }

    /// What a party of a session said last.
    pub(crate) fn said(&self, session: Session, side: Side) -> Option<&[Said]> {
        let call = self.by_id.get(self.by_session.get(&session.0)?)?;
        let dialog = call.dialogs.iter().find(|dialog| dialog.session == session)?;
        Some(&dialog.ends[index(side)].said)
    }

    /// A new dialog, of a new call or of one that is there.
    pub(crate) fn add(&mut self, now: Instant, target: &Target, dialog: Dialog) {
        self.by_session.insert(dialog.session.0, target.call.clone());
        let new = || Call {
            name: target.call.as_str().into(),
            begun: now,
            signalled: now,
            answered: false,
            metadata: None,
            dialogs: Vec::new(),
        };
        // Most calls have one dialog: a list that grows by doubling begins with four.
        let dialogs = &mut self.by_id.entry(target.call.clone()).or_insert_with(new).dialogs;
        dialogs.reserve_exact(1);
        dialogs.push(dialog);
    }

    /// A session's dialog, for the next process.
    pub(crate) fn pack(&self, session: Session) -> Dict<'static> {
        let call = self.by_session.get(&session.0).and_then(|id| self.by_id.get_key_value(id));
        let Some((id, call)) = call else { return Dict::default() };
        let Some(dialog) = call.dialogs.iter().find(|dialog| dialog.session == session) else {
            return Dict::default();
        };
        let ends = dialog.ends.iter().map(|end| Value::Dict(end.pack()));
        let dict = Dict::default()
            .with("answered", Value::Int(call.answered.into()))
            .with("call", Value::text(id.clone()))
            .with("ends", Value::List(ends.collect()));
        let dict = with_text(dict, "branch", dialog.branch.as_deref());
        with_text(dict, "metadata", call.metadata.as_deref())
    }

    /// Takes up what [`Calls::pack`] wrote.
    pub(crate) fn unpack(&mut self, now: Instant, session: Session, kept: &Dict<'_>) -> Option<()> {
        let Some(Value::List(ends)) = kept.value("ends") else { return None };
        let end = |at: usize| ends.get(at).and_then(Value::as_dict).map(End::unpack);
        let text = |key: &str| kept.text(key).map(str::to_owned);
        let dialog = Dialog { session, ends: [end(0)?, end(1)?], branch: kept.text("branch").map(Box::from) };
        let target = Target { call: text("call")?, ..Target::default() };
        self.add(now, &target, dialog);
        let call = self.by_id.get_mut(&target.call)?;
        call.answered |= kept.value("answered").and_then(Value::as_int) == Some(1);
        call.metadata = text("metadata").or(call.metadata.take());
        Some(())
    }

    /// A session is gone: its dialog goes, and with the last one the call, which is given back.
    pub(crate) fn remove(&mut self, session: Session) -> Option<Call> {
        let id = self.by_session.remove(&session.0)?;
        let call = self.by_id.get_mut(&id)?;
        call.dialogs.retain(|dialog| dialog.session != session);
        if call.dialogs.is_empty() { self.by_id.remove(&id) } else { None }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "one Instant to count from")]
mod tests {
    use super::*;

    fn target(from: &str, to: &str, branch: &str) -> Target {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Target { call: "c".into(), from: some(from), to: some(to), branch: some(branch), ..Target::default() }
    }

    fn call(dialogs: &[(&str, &str, &str)]) -> Call {
        let mut calls = Calls::default();
        for (at, (from, to, branch)) in dialogs.iter().enumerate() {
            let target = target(from, to, branch);
            calls.add(Instant::now(), &target, Dialog::new(Session(at as u64), &target));
        }
        calls.by_id.remove("c").unwrap()
    }

    #[test]
    fn an_offer_finds_its_dialog_from_either_side() {
        let call = call(&[("a", "b", "1"), ("a", "", "2")]);
        assert_eq!(call.offered(&target("a", "b", "")), Some((0, Side::Caller)));
        assert_eq!(call.offered(&target("b", "a", "9")), Some((0, Side::Callee)));
        assert_eq!(call.offered(&target("a", "", "2")), Some((1, Side::Caller)));
        assert_eq!(call.offered(&target("a", "", "3")), None, "another branch of the fork");
        assert_eq!(call.offered(&target("a", "x", "")), Some((1, Side::Caller)), "answered behind our back");
        assert_eq!(call.offered(&target("x", "a", "")), None);
    }

    #[test]
    fn an_answer_finds_the_branch_that_waits_for_it() {
        let call = call(&[("a", "b", "1"), ("a", "", "2")]);
        assert_eq!(call.answered(&target("a", "b", "1")), Some((0, Side::Caller)));
        assert_eq!(call.answered(&target("a", "c", "2")), Some((1, Side::Caller)));
        assert_eq!(call.answered(&target("a", "c", "")), Some((1, Side::Caller)));
        assert_eq!(call.answered(&target("b", "a", "")), Some((0, Side::Callee)));
        assert_eq!(call.answered(&target("x", "a", "")), None);
    }

    #[test]
    fn an_answer_of_another_fork_takes_over_when_no_branch_tells_them_apart() {
        let call = call(&[("a", "b", "")]);
        assert_eq!(call.answered(&target("a", "c", "")), Some((0, Side::Caller)));
    }

    #[test]
    fn a_delete_means_what_its_tags_say() {
        let call = call(&[("a", "b", "1"), ("a", "c", "2"), ("a", "", "3")]);
        assert_eq!(call.meant(&target("", "", "")), [0, 1, 2]);
        assert_eq!(call.meant(&target("a", "", "")), [0, 1, 2]);
        assert_eq!(call.meant(&target("a", "c", "")), [1]);
        assert_eq!(call.meant(&target("a", "", "2")), [1]);
        assert_eq!(call.meant(&target("a", "z", "")), [2]);
        assert_eq!(call.meant(&target("z", "", "")), Vec::<usize>::new());
    }

    #[test]
    fn the_call_goes_with_its_last_dialog() {
        let mut calls = Calls::default();
        for (session, branch) in [(1, "1"), (2, "2")] {
            let target = target("a", "", branch);
            calls.add(Instant::now(), &target, Dialog::new(Session(session), &target));
        }
        assert!(calls.remove(Session(1)).is_none());
        assert!(calls.remove(Session(2)).is_some_and(|call| &*call.name == "c"));
        assert!(calls.by_id.is_empty() && calls.of(Session(2)).is_none());
    }
}
