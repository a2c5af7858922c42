//! A description without what names a person (RFC 3323 §5.2): the user and the title of the session, what is said about it, and
//! where to write or call. Addresses are a relay's matter; everything else stays byte for byte.

use super::lines::{Line, lines};

/// The same description, said by nobody: `o=-`, `s=-`, no `i=`, `u=`, `e=`, `p=` line.
pub fn anonymous(sdp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(sdp.len());
    for line in lines(sdp) {
        if !matches!(line.text, [b'i' | b'u' | b'e' | b'p', b'=', ..]) {
            out.extend(unnamed(&line));
            out.extend(line.end);
        }
    }
    out
}

fn unnamed(line: &Line<'_>) -> Vec<u8> {
    match line.text {
        [b'o', b'=', origin @ ..] => {
            let user = origin.iter().position(|byte| *byte == b' ').unwrap_or(origin.len());
            [b"o=-", &origin[user..]].concat()
        }
        [b's', b'=', ..] => b"s=-".to_vec(),
        text => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_out_and_the_rest_stays_as_it_was() {
        let said = b"v=0\r\no=alice 1 2 IN IP4 192.0.2.1\r\ns=Alice's call\r\ni=about money\r\nu=http://a.example\r\n\
            e=a@a.example\r\np=+1 555\r\nc=IN IP4 192.0.2.1\r\nt=0 0\nm=audio 4000 RTP/AVP 0\r\ni=her voice\r\na=sendrecv";
        let expected = b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\n\
            m=audio 4000 RTP/AVP 0\r\na=sendrecv";
        assert_eq!(String::from_utf8_lossy(&anonymous(said)), String::from_utf8_lossy(expected));
        assert_eq!(anonymous(expected), expected);
    }
}
