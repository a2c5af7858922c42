//! Where in the file a value stands: path (`listeners.0.address`) → line and column, for errors that no parser finds.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, Span, SpannedEventReceiver};

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Every value's place, by path; keys of mappings and indices of lists are joined with dots.
#[derive(Debug, Default)]
pub struct Places(HashMap<String, Place>);

impl Places {
    /// Of a text that parses; a text that does not has no places.
    pub fn of(text: &str) -> Places {
        let mut walk = Walk::default();
        match Parser::new_from_str(text).load(&mut walk, false) {
            Ok(()) => Places(walk.places),
            Err(_) => Places::default(),
        }
    }

    /// The place of the value at `path`, or of the nearest thing around it.
    pub fn find(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            match (self.0.get(path), path.rfind('.')) {
                (Some(place), _) => return Some(*place),
                (None, Some(dot)) => path = &path[..dot],
                (None, None) => return self.0.get("").copied(),
            }
        }
    }
}

/// What the walk is inside of.
enum Level {
    List { next: usize },
    Mapping { key: Option<String> },
}

#[derive(Default)]
struct Walk {
    places: HashMap<String, Place>,
    levels: Vec<Level>,
}

impl Walk {
    fn path(&self) -> String {
        let word = |level: &Level| match level {
            Level::List { next } => next.to_string(),
            Level::Mapping { key } => key.clone().unwrap_or_default(),
        };
        self.levels.iter().map(word).collect::<Vec<_>>().join(".")
    }

    /// A value begins here; a mapping's keys are not values.
    fn begin(&mut self, at: Marker) {
        self.places.insert(self.path(), Place { line: at.line(), column: at.col() + 1 });
    }

    /// A value is over: the list goes on, the mapping waits for its next key.
    fn end(&mut self) {
        match self.levels.last_mut() {
            Some(Level::List { next }) => *next += 1,
            Some(Level::Mapping { key }) => *key = None,
            None => {}
        }
    }

    fn scalar(&mut self, text: &str, at: Marker) {
        if let Some(Level::Mapping { key: key @ None }) = self.levels.last_mut() {
            *key = Some(text.to_owned());
        } else {
            self.begin(at);
            self.end();
        }
    }

    fn enter(&mut self, level: Level, at: Marker) {
        self.begin(at);
        self.levels.push(level);
    }

    fn leave(&mut self) {
        self.levels.pop();
        self.end();
    }
}

impl<'input> SpannedEventReceiver<'input> for Walk {
    fn on_event(&mut self, event: Event<'input>, span: Span) {
        match event {
            Event::Scalar(text, ..) => self.scalar(&text, span.start),
            Event::Alias(_) => self.scalar("", span.start),
            Event::SequenceStart(..) => self.enter(Level::List { next: 0 }, span.start),
            Event::MappingStart(..) => self.enter(Level::Mapping { key: None }, span.start),
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_deep_inside_has_its_place() {
        let places = Places::of(
            "proxy:\n  anchor: auto\nlisteners:\n  - address: udp:127.0.0.1:5060\n  - address: x\n",
        );
        assert_eq!(places.find("proxy.anchor"), Some(Place { line: 2, column: 11 }));
        assert_eq!(places.find("listeners.1.address"), Some(Place { line: 5, column: 14 }));
    }

    #[test]
    fn what_is_left_out_is_where_it_would_stand() {
        let places = Places::of("relay:\n  threads: 2\n");
        assert_eq!(places.find("relay.ports"), Some(Place { line: 2, column: 3 }));
    }
}
