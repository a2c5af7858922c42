//! What is told to both programs, by subject.

pub(crate) mod exchanges;
pub(crate) mod formats;
pub(crate) mod rtcp;
pub(crate) mod sections;
pub(crate) mod words;
