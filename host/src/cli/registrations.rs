//! `postern registrations`: who is registered, by which path, and whether the phone answers.

use std::io::{self, Write};
use std::iter::once;
use std::sync::mpsc::channel;

use serde::Deserialize;

use super::ask::{Target, nobody_answers};
use super::exit;
use super::terminal::{harmless, json as as_json};
use crate::admin::{self, Answer, Ask};
use crate::registrations::{Registration, State};

/// See `postern registrations --help`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
STATE says whether the phone answers keep-alives:
  reachable    it does, or its connection stands
  silent 2     it left the last two unanswered
  unreachable  it left three, or its connection ended with an earlier process: calls pass it by while
               another phone of the address is left
  not asked    it gets none: it is behind no NAT, comes by another proxy (path), or `keep-alive` is 0
  over         its time is up
LEFT is until it expires, MET AT where it is met, LISTENER where its REGISTER came in.")]
pub struct Registrations {
    /// An address of record such as alice@example.com, or its user part: alice, at any domain; without it, all
    address: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What a part of an answer is, or why there is none.
type Part = io::Result<Answer>;

/// Asks, and writes each part of the answer as it comes.
pub fn registrations(wanted: &Registrations, json: bool) -> u8 {
    let path = match wanted.target.socket() {
        Ok(path) => path,
        Err(code) => return code,
    };
    let answers = match admin::answers(&path, &Ask::Registrations { address: wanted.address.clone() }) {
        Ok(answers) => answers,
        Err(error) => return nobody_answers(&path, &error),
    };
    // Whoever pages through the list keeps nobody waiting at the other end: what is not read yet waits here.
    let (to, parts) = channel();
    std::thread::spawn(move || answers.map(|part| to.send(part)).all(|sent| sent.is_ok()));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let told = match json {
        true => tell_programs(parts, &mut out),
        false => tell_people(parts, &mut out),
    };
    match told.and_then(|ok| out.flush().map(|()| ok)) {
        Ok(true) => exit::OK,
        Ok(false) => exit::UNAVAILABLE,
        Err(error) => {
            let _ = out.flush();
            eprintln!("{} broke off: {error}\n  this is not all of them: ask again", path.display());
            exit::UNAVAILABLE
        }
    }
}

/// A table that begins before its end is known; whether it could be had.
fn tell_people(parts: impl IntoIterator<Item = Part>, out: &mut impl Write) -> io::Result<bool> {
    let (mut table, mut ok) = (Table::default(), true);
    for part in parts {
        let answer = part?;
        table.write(&registered(&answer)?, out)?;
        answer.lines.iter().try_for_each(|line| writeln!(out, "{}", harmless(line)))?;
        out.flush()?;
        ok = answer.ok;
    }
    Ok(ok)
}

/// One array, a binding a line; what is no list is the answer itself. One that breaks off has no end.
fn tell_programs(parts: impl IntoIterator<Item = Part>, out: &mut impl Write) -> io::Result<bool> {
    let mut before = "[\n";
    for part in parts {
        let answer = part?;
        if !answer.ok {
            writeln!(out, "{}", as_json(&answer.value))?;
            return Ok(false);
        }
        for one in registered(&answer)? {
            write!(out, "{before}{}", as_json(&one))?;
            before = ",\n";
        }
        out.flush()?;
    }
    writeln!(out, "{}", if before == ",\n" { "\n]" } else { "[]" })?;
    Ok(true)
}

fn registered(answer: &Answer) -> io::Result<Vec<Registration>> {
    if !answer.value.is_array() {
        return Ok(Vec::new());
    }
    Ok(Vec::deserialize(&answer.value)?)
}

const HEADS: [&str; 8] = ["ADDRESS", "STATE", "LEFT", "MET AT", "NAT", "LISTENER", "CONTACT", "DEVICE"];
/// This column is of numbers.
const LEFT: usize = 2;
/// No column is wider; what is longer moves its own row.
const WIDEST: usize = 48;

/// Columns as wide as what they have had to hold so far.
#[derive(Default)]
struct Table {
    widths: [usize; HEADS.len()],
}

impl Table {
    fn write(&mut self, some: &[Registration], out: &mut impl Write) -> io::Result<()> {
        if some.is_empty() {
            return Ok(());
        }
        let heads = (self.widths == [0; HEADS.len()]).then(|| HEADS.map(str::to_owned));
        let rows: Vec<_> = heads.into_iter().chain(some.iter().map(cells)).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(WIDEST));
            }
        }
        rows.iter().try_for_each(|row| writeln!(out, "{}", self.line(row)))
    }

    fn line(&self, row: &[String; HEADS.len()]) -> String {
        let aligned = row.iter().zip(self.widths).enumerate().map(|(column, (cell, width))| match column {
            LEFT => format!("{cell:>width$}"),
            _ => format!("{cell:width$}"),
        });
        aligned.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

fn cells(one: &Registration) -> [String; HEADS.len()] {
    let left = format!("{} s", one.left_s);
    let nat = if one.behind_nat { "yes" } else { "no" };
    let words = [&one.aor, &state(one), &left, &one.remote, nat, &one.listener, &one.contact, &device(one)];
    words.map(|word| harmless(word).into_owned())
}

fn state(one: &Registration) -> String {
    match one.state {
        State::Reachable => "reachable".to_owned(),
        State::Silent => format!("silent {}", one.unanswered),
        State::Unreachable => "unreachable".to_owned(),
        State::NotAsked => "not asked".to_owned(),
        State::Over => "over".to_owned(),
    }
}

/// What it is, which of its flows this is, and whom it came through.
fn device(one: &Registration) -> String {
    let instance = one.instance.as_ref().map(|instance| format!("instance {instance}"));
    let reg_id = one.reg_id.map(|id| format!("reg-id {id}"));
    let path = (!one.path.is_empty()).then(|| format!("path {}", one.path.join(", ")));
    let all = once(one.agent.clone()).chain([instance, reg_id, path]);
    all.flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "registrations_tests.rs"]
mod tests;
