//! What a body tells of dialogs (RFC 4235): busy lamps and pickups read it, so it names calls as its reader knows them.
//!
//! ```text
//!  <dialog id="…" call-id="a84b4c@10.0.0.50" …>          the Call-ID; an id that is the same word is the same name
//!    <replaces call-id="…" …/>                             of the dialog that was there before (§4.1.2)
//!    <local><target uri="sip:101@10.0.0.50"/></local>      a Contact (§4.1.6)
//! ```
//!
//! Attribute values are exchanged where they stand, all else leaves as the same bytes. What is no well-formed XML passes from
//! there on as it is.

use std::borrow::Cow;
use std::ops::Range;

/// The media type (RFC 4235 §8.2).
pub(super) const TYPE: &str = "application/dialog-info+xml";

/// The document with every Call-ID and every target by the name that these have for it; `None`: it stays.
pub(super) fn renamed(
    xml: &str,
    call: impl Fn(&str) -> Option<String>,
    target: impl Fn(&str) -> Option<String>,
) -> String {
    let mut renamed = String::with_capacity(xml.len() + 256);
    let mut at = 0;
    for tag in (Tags { xml, at: 0 }) {
        let own = tag.attribute("call-id").map(|value| &xml[value]);
        for (name, value) in &tag.attributes {
            let said = unescaped(&xml[value.clone()]);
            let other = match *name {
                "call-id" => call(&said),
                "id" if own == Some(&xml[value.clone()]) => call(&said),
                "uri" if tag.name == "target" => target(&said),
                _ => None,
            };
            if let Some(other) = other {
                renamed.push_str(&xml[at..value.start]);
                push_escaped(&mut renamed, &other);
                at = value.end;
            }
        }
    }
    renamed + &xml[at..]
}

/// The start of an element.
struct Tag<'x> {
    /// Its name without a prefix.
    name: &'x str,
    /// Names, and where between their quotes the values stand.
    attributes: Vec<(&'x str, Range<usize>)>,
}

impl Tag<'_> {
    fn attribute(&self, wanted: &str) -> Option<Range<usize>> {
        self.attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
    }
}

/// Goes from one start of an element to the next.
struct Tags<'x> {
    xml: &'x str,
    at: usize,
}

/// What is no element: its begin and its end.
const OTHERS: [(&str, &str); 5] =
    [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("<!", ">"), ("</", ">")];

impl<'x> Iterator for Tags<'x> {
    type Item = Tag<'x>;

    fn next(&mut self) -> Option<Tag<'x>> {
        loop {
            self.at += self.rest().find('<')?;
            let Some((begin, end)) = OTHERS.iter().find(|(begin, _)| self.rest().starts_with(begin)) else {
                self.at += 1;
                return self.tag();
            };
            self.at += begin.len();
            self.at += self.rest().find(end)? + end.len();
        }
    }
}

impl<'x> Tags<'x> {
    fn rest(&self) -> &'x str {
        &self.xml[self.at..]
    }

    fn tag(&mut self) -> Option<Tag<'x>> {
        let name = self.word();
        let mut attributes = Vec::new();
        loop {
            self.blanks();
            match self.rest().chars().next()? {
                '>' => break,
                '/' => self.at += 1,
                _ => attributes.push(self.attribute()?),
            }
        }
        Some(Tag { name: name.rsplit(':').next().unwrap_or(name), attributes })
    }

    /// `name = "value"`
    fn attribute(&mut self) -> Option<(&'x str, Range<usize>)> {
        let name = self.word();
        self.blanks();
        self.rest().strip_prefix('=')?;
        self.at += 1;
        self.blanks();
        let quote = self.rest().chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        self.at += 1;
        let value = self.at..self.at + self.rest().find(quote)?;
        self.at = value.end + 1;
        Some((name, value))
    }

    fn word(&mut self) -> &'x str {
        let rest = self.rest();
        let ends = |c: char| c.is_ascii_whitespace() || "/>=<\"'".contains(c);
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
    }
}

/// The five entities every XML has (XML 1.0 §4.6).
const ENTITIES: [(&str, char); 5] =
    [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];

/// What a value says.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let (mut said, mut rest) = (String::with_capacity(value.len()), value);
    while let Some(at) = rest.find('&') {
        said.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = rest.find(';').map_or(1, |end| end + 1);
        let named = ENTITIES.iter().find(|(entity, _)| *entity == &rest[..length]).map(|(_, c)| *c);
        match named.or_else(|| numbered(&rest[..length])) {
            Some(character) => said.push(character),
            None => said.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    Cow::Owned(said + rest)
}

/// `&#64;`, `&#x40;`
fn numbered(reference: &str) -> Option<char> {
    let digits = reference.strip_prefix("&#")?.strip_suffix(';')?;
    let number = match digits.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    char::from_u32(number.ok()?)
}

fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match ENTITIES.iter().find(|(_, plain)| *plain == character) {
            Some((entity, _)) => out.push_str(entity),
            None => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4235 §6, with what may stand around it.
    const TOLD: &str = r#"<?xml version="1.0"?>
<!-- call-id="in a comment" --><dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:alice@example.com">
  <d:dialog id='a&amp;b' call-id = 'a&amp;b' local-tag="1" remote-tag="2" direction="initiator">
    <state event="cancelled">terminated</state><note><![CDATA[<dialog call-id="c">]]> call-id="d"</note>
    <replaces call-id="e" local-tag="3" remote-tag="4"/>
    <local><identity display="uri">sip:alice@example.com</identity>
      <target uri="sip:alice@10.0.0.50;x=1"><param pname="uri" pval="f"/></target></local>
  </d:dialog>
  <dialog id="7" call-id="g"/>
</dialog-info>"#;

    #[test]
    fn exchanges_calls_and_targets_and_nothing_else() {
        let renamed =
            renamed(TOLD, |call| Some(format!("<{call}>")), |uri| Some(uri.replace("10.0.0.50", "us")));
        let expected = TOLD
            .replace("'a&amp;b'", "'&lt;a&amp;b&gt;'")
            .replace("replaces call-id=\"e\"", "replaces call-id=\"&lt;e&gt;\"")
            .replace("call-id=\"g\"", "call-id=\"&lt;g&gt;\"")
            .replace("10.0.0.50", "us");
        assert_eq!(renamed, expected);
    }

    #[test]
    fn what_has_no_other_name_stays() {
        assert_eq!(renamed(TOLD, |_| None, |_| None), TOLD);
    }

    #[test]
    fn values_are_read_as_xml_reads_them() {
        assert_eq!(unescaped("a&#64;b&#x40;&lt;&unknown;&;&#xfffffff;&"), "a@b@<&unknown;&;&#xfffffff;&");
    }

    /// Broken XML is nobody's to read: whatever is missing, the rest stays and nothing is lost.
    #[test]
    fn whatever_is_missing_the_rest_stays() {
        let plain = |xml: &str| {
            ENTITIES.iter().fold(xml.to_owned(), |xml, (entity, c)| xml.replace(entity, &c.to_string()))
        };
        let same = |text: &str| Some(text.to_owned());
        for from in 0..TOLD.len() {
            for length in [1, 7, TOLD.len()] {
                let broken = format!("{}{}", &TOLD[..from], TOLD.get(from + length..).unwrap_or("é<"));
                assert_eq!(plain(&renamed(&broken, same, same)), plain(&broken), "{broken}");
            }
        }
    }
}
