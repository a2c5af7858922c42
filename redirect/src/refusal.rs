//! A refusal is a value that knows its status and its words.

use proto::sip::{Builder, Message, Name, reply};

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// For the operator.
    pub(crate) why: &'static str,
    /// What the status asks to be said along with it.
    header: Option<(Name, String)>,
}

/// Without a header.
pub(crate) const fn refusal(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why, header: None }
}

impl Refusal {
    pub(crate) fn with(mut self, name: Name, value: impl ToString) -> Refusal {
        self.header = Some((name, value.to_string()));
        self
    }

    pub(crate) fn reply(&self, request: &Message, to_tag: &str) -> Builder {
        let response = reply(request, self.status, to_tag);
        match &self.header {
            Some((name, value)) => response.header(*name, value),
            None => response,
        }
    }
}
