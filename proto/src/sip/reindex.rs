//! The index of a message we changed or wrote ourselves, without reading it again.
//!
//! Whoever splices a message knows where everything has gone: what stood before a splice stays, what stands behind it
//! moves by as much as the splice grew, and a line that was written is where it was put. That costs a tenth of a new
//! [`scan`]. Where a change is of a kind that this bookkeeping does not follow (values with white space at their ends,
//! overlapping splices, a head that never ended), the answer is `None` and the message is read anew. Debug builds,
//! hence all tests, compare the two.

use std::ops::Range;

use super::Name;
use super::edit::Splice;
use super::index::{Index, Line, scan};
use super::lex::is_lws;

/// The header line `NAME: VALUE`, written at `at` of some text. `None`: its index can't be told without reading it.
pub(super) fn written(name: Name, at: usize, value: &[u8]) -> Option<Line> {
    let name_len = name.as_str().len();
    let starts = at + name_len + 2;
    (name != Name::Other && is_tidy(value)).then(|| Line {
        at: at as u32,
        value: starts as u32,
        value_end: (starts + value.len()) as u32,
        name_len: name_len as u16,
        name,
    })
}

/// Whether a value is its own trimmed self, and there is something of it.
pub(super) fn is_tidy(value: &[u8]) -> bool {
    matches!((value.first(), value.last()), (Some(first), Some(last)) if !is_lws(*first) && !is_lws(*last))
}

/// Takes an index that was kept, after comparing it in debug builds with what reading gives; reads when there is none.
pub(super) fn or_scanned(kept: Option<Index>, bytes: &[u8]) -> Index {
    match kept {
        Some(index) => {
            debug_assert_eq!(index, scan(bytes).0, "in {:?}", String::from_utf8_lossy(bytes));
            index
        }
        None => scan(bytes).0,
    }
}

/// The index of a message after splices, which are in order and do not overlap.
pub(super) fn after(old: &Index, splices: &[Splice]) -> Option<Index> {
    if old.body == old.head_end || splices.iter().any(|splice| splice.odd) {
        return None;
    }
    let mut way = Way { splices, moved: 0, lines: Vec::with_capacity(old.lines.len() + splices.len()) };
    let mut start = old.start;
    start.second.1 = way.moved_to(start.second.1)?;
    start.end = way.moved_to(start.end)?;
    for (number, line) in old.lines.iter().enumerate() {
        let at = way.moved_to(line.at)?;
        if way.drops(old.span(number)) {
            continue;
        }
        let touched = way.splices.first().is_some_and(|splice| splice.cut.start < old.span(number).1);
        let (value, value_end) = match touched {
            true => (way.moved_to(line.value)?, way.moved_to(line.value_end)?),
            false => (shifted(line.value, way.moved)?, shifted(line.value_end, way.moved)?),
        };
        way.lines.push(Line { at, value, value_end, ..*line });
    }
    let head_end = way.moved_to(old.head_end)?;
    let body = head_end + (old.body - old.head_end);
    Some(Index::of(start, way.lines, head_end, body))
}

/// A walk over a message from its begin to its end, splice by splice.
struct Way<'s> {
    /// Those that lie ahead, or around.
    splices: &'s [Splice],
    /// By how much what is here has moved.
    moved: i64,
    lines: Vec<Line>,
}

impl Way<'_> {
    /// Where a place of the old message is in the new one. Lines that were put in before it are noted.
    fn moved_to(&mut self, place: u32) -> Option<u32> {
        while let Some((splice, ahead)) = self.splices.split_first()
            && splice.cut.end <= place as usize
        {
            if let Some(line) = splice.line {
                // Told from the begin of the splice's text, which stands where the cut began.
                let by = splice.cut.start as i64 + self.moved;
                self.lines.push(Line {
                    at: shifted(line.at, by)?,
                    value: shifted(line.value, by)?,
                    value_end: shifted(line.value_end, by)?,
                    ..line
                });
            }
            self.moved += splice.text.len() as i64 - splice.cut.len() as i64;
            self.splices = ahead;
        }
        shifted(place, self.moved)
    }

    /// Whether the line that spans this is cut out whole.
    fn drops(&self, (at, end): (usize, usize)) -> bool {
        self.splices.first().is_some_and(|splice| splice.cut == (at..end))
    }
}

fn shifted(place: u32, by: i64) -> Option<u32> {
    u32::try_from(i64::from(place) + by).ok()
}

/// What stands behind `cut` is further on by so much.
pub(super) fn grow(lines: &mut [Line], cut: &Range<usize>, by: i64) {
    let places = lines.iter_mut().flat_map(|line| [&mut line.at, &mut line.value, &mut line.value_end]);
    places.for_each(|place| move_on(place, cut, by));
}

/// The same of one place.
pub(super) fn move_on(place: &mut u32, cut: &Range<usize>, by: i64) {
    if *place as usize >= cut.end {
        *place = (i64::from(*place) + by) as u32;
    }
}
