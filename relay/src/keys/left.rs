//! Keys as a record leaves them behind: what was agreed on, and where roll-over counters and report numbers stood.

use proto::sdp::Protection;
use proto::srtp::sdes::Crypto;
use proto::srtp::{Position, Receiver, Sender};

use super::Keys;
use super::terms::{Ice, Terms};
use crate::ng::value::{Dict, Value};

const WORDS: [(&str, Protection); 3] =
    [("plain", Protection::Plain), ("sdes", Protection::Sdes), ("dtls", Protection::Dtls)];

impl Keys {
    /// As a record.
    pub(crate) fn pack(&self) -> Dict<'static> {
        let word = WORDS.iter().find(|(_, protection)| *protection == self.protection);
        let lines =
            |lines: &[Crypto]| Value::List(lines.iter().map(|line| Value::text(line.to_string())).collect());
        let agreed = self.agreed.as_ref().map_or(&[][..], |agreed| agreed);
        let sent = self.sender.as_ref().map(Sender::position).unwrap_or_default();
        let heard = self.receiver.as_ref().map(Receiver::position).unwrap_or_default();
        Dict::default()
            .with("agreed", lines(agreed))
            .with("heard", positions(&heard))
            .with("offered", lines(&self.offered))
            .with("protection", Value::text(word.map_or("", |(word, _)| word)))
            .with("sent", positions(&sent))
            .with("terms", self.terms.pack())
    }

    /// From a record; `None`: it is not one, and its session can't go on.
    pub(crate) fn unpack(dict: &Dict<'_>) -> Option<Keys> {
        let list = |key: &str| match dict.value(key) {
            Some(Value::List(items)) => items.iter().filter_map(Value::as_text).collect(),
            _ => Vec::new(),
        };
        let lines = |key: &str| -> Option<Vec<Crypto>> {
            list(key).into_iter().map(|line| Crypto::parse(line).ok()).collect()
        };
        let places = |key: &str| list(key).into_iter().map(position).collect::<Option<Vec<Position>>>();
        let word = dict.text("protection")?;
        let (_, protection) = WORDS.into_iter().find(|(known, _)| *known == word)?;
        let agreed: Option<[Crypto; 2]> = lines("agreed")?.try_into().ok();
        let (mut sender, mut receiver) = (None, None);
        if let Some([ours, theirs]) = &agreed {
            sender.insert(Sender::new(&ours.master)).resume(&places("sent")?);
            receiver.insert(Receiver::new(&theirs.master)).resume(&places("heard")?);
        }
        let terms = Terms::unpack(&list("terms"));
        Some(Keys { protection, offered: lines("offered")?, agreed, sender, receiver, terms })
    }
}

impl Terms {
    /// `active`, `ice UFRAG PWD UFRAG PWD`, `fingerprint HASH VALUE`.
    fn pack(&self) -> Value<'static> {
        let mut lines = Vec::new();
        lines.extend(self.bundle.head.map(|_| "member of another's".to_owned()));
        lines.push(format!("formats {}", self.bundle.formats));
        lines.extend(self.active.map(|active| format!("active {active}")));
        if let Some(ice) = &self.ice {
            let (ufrag, pwd) = ice.theirs.clone().unwrap_or_default();
            lines.push(format!("ice {} {} {ufrag} {pwd}", ice.ufrag, ice.pwd));
        }
        lines.extend(self.fingerprints.iter().map(|line| format!("fingerprint {line}")));
        Value::List(lines.into_iter().map(Value::text).collect())
    }

    fn unpack(lines: &[&str]) -> Terms {
        let mut terms = Terms::default();
        for (name, value) in lines.iter().filter_map(|line| line.split_once(' ')) {
            match name {
                "member" => terms.bundle.head = Some(u32::MAX),
                "formats" => terms.bundle.formats = value.parse().unwrap_or(0),
                "active" => terms.active = value.parse().ok(),
                "fingerprint" => terms.fingerprints.push(value.to_owned()),
                "ice" => {
                    let mut words = value.split(' ').map(str::to_owned);
                    let mut pair = || Some((words.next()?, words.next()?));
                    let (ours, theirs) = (pair(), pair().filter(|(ufrag, _)| !ufrag.is_empty()));
                    terms.ice = ours.map(|(ufrag, pwd)| Ice { ufrag, pwd, theirs, checked: None });
                }
                _ => {}
            }
        }
        terms
    }
}

/// `SSRC packet report`, `-` for none.
fn positions(positions: &[Position]) -> Value<'static> {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let line = |at: &Position| format!("{} {} {}", at.ssrc, number(at.packet), number(at.report));
    Value::List(positions.iter().map(|at| Value::text(line(at))).collect())
}

fn position(line: &str) -> Option<Position> {
    let mut words = line.split(' ');
    let ssrc = words.next()?.parse().ok()?;
    let mut number = || match words.next()? {
        "-" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    Some(Position { ssrc, packet: number()?, report: number()? })
}
