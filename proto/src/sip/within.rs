//! A piece of one header value written anew, in one pass over the bytes and the index: what nearly every request that
//! comes in has done to its topmost Via. What was read of other headers stays read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::edit::push_flat;
use super::index::Index;
use super::{Message, reindex};

impl Message {
    /// The message with `text` in the place of `cut`: a value, its begin, or its end. Line breaks in it become spaces.
    pub(super) fn rewritten(self, cut: Range<usize>, text: &str) -> Message {
        let Message { bytes: old, mut index } = self;
        let mut bytes = Vec::with_capacity(old.len() - cut.len() + text.len());
        bytes.extend_from_slice(&old[..cut.start]);
        push_flat(&mut bytes, text);
        bytes.extend_from_slice(&old[cut.end..]);
        let told = index.body != index.head_end && reindex::is_tidy(text.as_bytes());
        if !told {
            return Message::own(Bytes::from(bytes));
        }
        let known = Arc::make_mut(&mut index);
        known.grow(&cut, text.len() as i64 - cut.len() as i64);
        known.text = ByteString::new();
        debug_assert_eq!(*known, super::index::scan(&bytes).0, "in {:?}", String::from_utf8_lossy(&bytes));
        let bytes = Bytes::from(bytes);
        known.text = ByteString::try_from(bytes.slice(..known.head_end as usize)).unwrap_or_default();
        Message { bytes, index }
    }
}

impl Index {
    /// What stands behind `cut` is further on by so much.
    fn grow(&mut self, cut: &Range<usize>, by: i64) {
        reindex::grow(&mut self.lines, cut, by);
        [&mut self.head_end, &mut self.body].into_iter().for_each(|place| reindex::move_on(place, cut, by));
        self.reads.moved(cut, by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Name;

    const TEXT: &str = "OPTIONS sip:b@x SIP/2.0\r\nFrom: <sip:a@x>;tag=1\r\nVia: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP c\r\n\
                        To: \"B\" <sip:b@x>;tag=2\r\nCall-ID: i\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn everything_is_found_where_it_went() {
        for via in ["SIP/2.0/TCP longer.example;branch=1;received=192.0.2.1", "SIP/2.0/UDP b"] {
            let message = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
            let cut = TEXT.find("SIP/2.0/UDP a").unwrap();
            let cut = cut..cut + "SIP/2.0/UDP a;branch=1".len();
            let after = message.rewritten(cut, via);
            assert_eq!(after.bytes(), &TEXT.replace("SIP/2.0/UDP a;branch=1", via));
            assert_eq!((after.from_tag(), after.to_tag(), after.body()), ("1", "2", &b"hi"[..]));
            assert_eq!((after.to().unwrap().display, after.call_id()), ("\"B\"", "i"));
            assert_eq!(after.values(Name::Via).next(), Some(via));
            assert_eq!(after.via().unwrap().host, if via.contains("TCP") { "longer.example" } else { "b" });
        }
    }

    #[test]
    fn one_that_others_hold_is_left_as_it_was() {
        let message = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        let cut = TEXT.find("SIP/2.0/UDP a").unwrap();
        let after = message.clone().rewritten(cut..cut + 22, "SIP/2.0/UDP other");
        assert_eq!((message.bytes(), message.to_tag()), (&Bytes::from_static(TEXT.as_bytes()), "2"));
        assert_eq!(after.to_tag(), "2");
    }
}
