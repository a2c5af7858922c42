//! Properties of the SIP core over many generated messages: what is not touched stays, what is changed is what was
//! meant, and no bytes whatever make it panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proto::sip::{Builder, Frame, Framer, Message, Name, NameAddr, Via, reply};

/// White space where RFC 3261 allows it, folds among it.
fn lws() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 4 => Just(" "), 1 => Just("  \t"), 1 => Just("\r\n "), 1 => Just("\r\n\t ")]
}

fn via() -> impl Strategy<Value = String> {
    let host = prop_oneof![Just("192.0.2.1"), Just("a.example.com"), Just("[2001:db8::1]")];
    (host, lws(), lws(), "[a-z0-9]{1,8}").prop_map(|(host, a, b, branch)| {
        format!("SIP/2.0/UDP {a}{host}:5070{b};branch=z9hG4bK{branch}{a};rport")
    })
}

fn address() -> impl Strategy<Value = String> {
    let display = prop_oneof![Just(""), Just("Bob "), Just("\"a, \\\" <x;y>\" ")];
    (display, "[a-z]{1,6}", lws())
        .prop_map(|(display, user, ws)| format!("{display}<sip:{user}@x;lr>{ws};p={user}"))
}

/// A header that occurs any number of times, its values on one line or on several.
fn list(names: &'static [&'static str], value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let line =
        (prop::sample::select(names), lws(), lws(), vec(value, 1..4)).prop_map(|(name, a, b, values)| {
            let separator = format!("{a},{b}");
            format!("{name}{}:{b}{}\r\n", if a.starts_with('\r') { "" } else { a }, values.join(&separator))
        });
    vec(line, 0..3).prop_map(|lines| lines.concat()).boxed()
}

fn odd_line() -> impl Strategy<Value = String> {
    ("X-[A-Za-z]{1,9}", lws(), "[ -~é]{0,30}")
        .prop_map(|(name, ws, value)| format!("{name}:{ws}{value}{ws}\r\n"))
}

prop_compose! {
    fn message()(
        vias in list(&["Via", "v", "VIA"], via().boxed()),
        first in via(),
        routes in list(&["Route"], address().boxed()),
        contacts in list(&["Contact", "m"], address().boxed()),
        odd in vec(odd_line(), 0..40),
        from in address(),
        to in address(),
        before in any::<bool>(),
        length in prop::option::of(Just("Content-Length")),
        body in vec(any::<u8>(), 0..40),
    ) -> Vec<u8> {
        let (odd_before, odd_after) = if before { (odd.concat(), String::new()) } else { (String::new(), odd.concat()) };
        let length = length.map_or(String::new(), |name| format!("{name} : {}\r\n", body.len()));
        let head = format!(
            "INVITE sip:b@x SIP/2.0\r\n{odd_before}Via: {first}\r\n{vias}{routes}From: {from};tag=1\r\nt: {to}\r\n\
             i: c@d\r\n{contacts}CSeq: 7 INVITE\r\n{length}{odd_after}\r\n"
        );
        [head.as_bytes(), &body].concat()
    }
}

fn parse(bytes: Vec<u8>) -> Message {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Message::parse(Bytes::from(bytes)).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

/// The message as a list of what it says, read again from its bytes.
fn said(message: &Message) -> Vec<(Name, Vec<u8>, Vec<u8>)> {
    let again = Message::parse(message.bytes().clone()).expect("an edited message is well-formed");
    let read = |m: &Message| {
        m.headers().map(|h| (h.name, h.raw_name.to_vec(), h.value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(read(&again), read(message), "the index of an edited message is that of its bytes");
    assert_eq!(again.body(), message.body());
    read(message)
}

fn values(message: &Message, name: Name) -> Vec<String> {
    message.values(name).map(str::to_string).collect()
}

const EDITED: [Name; 6] =
    [Name::Via, Name::Route, Name::RecordRoute, Name::Contact, Name::MaxForwards, Name::From];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn an_untouched_message_leaves_byte_for_byte(bytes in message()) {
        let message = parse(bytes.clone());
        prop_assert_eq!(message.bytes(), &bytes);
        let untouched = message.edit().finish();
        prop_assert_eq!(untouched.bytes(), &bytes);
        prop_assert_eq!(message.vias().filter(|v| v.is_err()).count(), 0);
        prop_assert!(message.headers().all(|h| h.value == h.value.trim_ascii()));
        prop_assert_eq!(message.routes().chain(message.contacts()).filter(|v| v.is_err()).count(), 0);
    }

    #[test]
    fn pushing_adds_one_line_before_all_of_its_name(bytes in message(), which in 0..EDITED.len(), value in "[ -~]{0,20}") {
        let (message, name) = (parse(bytes), EDITED[which]);
        prop_assume!(!matches!(name, Name::Via | Name::From | Name::MaxForwards));
        let after = message.edit().push_front(name, &value).finish();
        let (mut seen, before) = (said(&after), said(&message));
        let at = seen.iter().position(|(n, ..)| *n == name).unwrap();
        prop_assert_eq!(&seen.remove(at).2, value.trim().as_bytes());
        prop_assert_eq!(seen, before);
    }

    #[test]
    fn popping_takes_the_first_value_and_nothing_else(bytes in message(), times in 1usize..5) {
        let message = parse(bytes);
        for name in [Name::Route, Name::Contact] {
            let after = (0..times).fold(message.edit(), |edit, _| edit.pop_front(name)).finish();
            let want: Vec<_> = values(&message, name).into_iter().skip(times).collect();
            prop_assert_eq!(values(&after, name), want);
            prop_assert!(said(&after).iter().all(|(n, _, value)| *n != name || !value.starts_with(b",")));
            let others = |m: &Message| said(m).into_iter().filter(|(n, ..)| *n != name).collect::<Vec<_>>();
            prop_assert_eq!(others(&after), others(&message));
        }
    }

    #[test]
    fn setting_the_first_value_leaves_all_others(bytes in message()) {
        let message = parse(bytes);
        let via = "SIP/2.0/TCP new;branch=z9hG4bKnew";
        let after = message.edit().set_first(Name::Via, via).finish();
        let mut want = values(&message, Name::Via);
        want[0] = via.to_string();
        prop_assert_eq!(values(&after, Name::Via), want);
        prop_assert_eq!(said(&after).len(), said(&message).len());
    }

    #[test]
    fn removal_takes_exactly_the_lines_of_a_name(bytes in message()) {
        let message = parse(bytes);
        let after = message.edit().remove(Name::Route).remove_where(Name::Contact, |value| value.contains('"')).finish();
        let stays = |(name, _, value): &(Name, Vec<u8>, Vec<u8>)| {
            *name != Name::Route && !(*name == Name::Contact && value.contains(&b'"'))
        };
        prop_assert_eq!(said(&after), said(&message).into_iter().filter(stays).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_body_has_its_length(bytes in message(), body in vec(any::<u8>(), 0..200)) {
        let after = parse(bytes).edit().body(&body).finish();
        prop_assert_eq!(after.body(), &body[..]);
        let length = body.len().to_string();
        prop_assert_eq!(after.text(Name::ContentLength), Some(length.as_str()));
        said(&after);
    }

    #[test]
    fn a_hop_and_its_way_back_leave_what_came(bytes in message()) {
        let message = parse(bytes);
        let there = message.edit().push_front(Name::Via, "SIP/2.0/UDP p;branch=z9hG4bKp").finish();
        let back = there.edit().pop_front(Name::Via).finish();
        prop_assert_eq!(back.bytes(), message.bytes());
    }

    #[test]
    fn a_reply_is_well_formed_and_keeps_what_it_must(bytes in message(), status in 100u16..700, tag in "[a-z]{1,8}") {
        let message = parse(bytes);
        let reply = reply(&message, status, &tag).finish();
        said(&reply);
        prop_assert_eq!(values(&reply, Name::Via), values(&message, Name::Via));
        prop_assert_eq!((reply.status(), reply.call_id()), (Some(status), "c@d"));
        prop_assert_eq!(reply.to_tag(), if status == 100 { "" } else { &tag });
        prop_assert_eq!(reply.cseq().unwrap(), message.cseq().unwrap());
    }

    #[test]
    fn no_value_forges_a_header(value in "[ -~\r\n]{0,60}", uri in "[ -~\r\n]{0,30}") {
        let message = Builder::request("INFO", &uri).header(Name::Subject, &value).raw_header("X-A", &value).finish();
        prop_assert_eq!(message.headers().count(), 3);
        let edited = message.edit().set(Name::Subject, &value).append(Name::Date, &value).request_uri(&uri).finish();
        prop_assert_eq!(edited.headers().count(), 4);
    }

    #[test]
    fn messages_survive_a_stream_cut_anywhere(bodies in vec(vec(any::<u8>(), 0..50), 1..5), cuts in vec(1usize..40, 1..20)) {
        let sent: Vec<Bytes> = bodies
            .iter()
            .map(|body| Builder::request("INFO", "sip:a").body("text/plain", body).finish().bytes().clone())
            .collect();
        let stream = sent.concat();
        let (mut framer, mut seen, mut at) = (Framer::default(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            if at == stream.len() { break }
            let to = (at + cut).min(stream.len());
            framer.push(&stream[at..to]);
            at = to;
            seen.extend(std::iter::from_fn(|| framer.poll()));
        }
        prop_assert_eq!(seen, sent.into_iter().map(Frame::Message).collect::<Vec<_>>());
    }
}

/// What a mutation does to a message.
#[derive(Clone, Debug)]
enum Mutation {
    Put(usize, u8),
    Insert(usize, Vec<u8>),
    Cut(usize, usize),
}

/// What trips parsers.
const PIECES: &[&str] = &[
    "\r\n", "\r\n\r\n", "\n", "\r", "\"", "<", ">", ",", ";", ";;", "(", "\\", "%", "%4", "@", "[", ":", "=",
    "\0", " ", "\r\n ", "é",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Put(at, byte)),
        (any::<usize>(), prop::sample::select(PIECES)).prop_map(|(at, p)| Mutation::Insert(at, p.into())),
        (any::<usize>(), 0usize..30).prop_map(|(at, length)| Mutation::Cut(at, length)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    let place = |at: usize, length: usize| if length == 0 { 0 } else { at % length };
    match mutation {
        Mutation::Put(at, byte) => {
            let at = place(at, bytes.len());
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte
            }
        }
        Mutation::Insert(at, piece) => {
            let at = place(at, bytes.len());
            bytes.splice(at..at, piece);
        }
        Mutation::Cut(at, length) => {
            let at = place(at, bytes.len());
            bytes.drain(at..(at + length).min(bytes.len()));
        }
    }
}

/// Reads everything there is to read.
fn read_all(message: &Message) -> usize {
    let names =
        message.headers().map(|h| message.values(h.name).count() + message.name_addrs(h.name).count());
    let texts = message.headers().filter_map(|h| std::str::from_utf8(h.value).ok());
    let typed = texts.map(|t| {
        let uri = NameAddr::parse(t).and_then(|n| n.uri());
        let same = uri.as_ref().is_ok_and(|u| u.is_equivalent(u) && u.aor().is_none_or(|a| !a.is_empty()));
        usize::from(same)
            + usize::from(Via::parse(t).is_ok())
            + proto::sip::Auth(t).get("realm").map_or(0, str::len)
    });
    let rest = (
        message.uri().is_ok(),
        message.via().is_ok(),
        message.cseq().is_ok(),
        message.max_forwards().is_ok(),
    );
    let sdp = message.sdp().map_or(0, |(range, _)| range.len());
    names.sum::<usize>()
        + typed.sum::<usize>()
        + sdp
        + message.reason().len()
        + usize::from(rest.0 & rest.1 & rest.2 & rest.3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn no_bytes_make_it_panic(mut bytes in message(), mutations in vec(mutation(), 1..8)) {
        mutations.into_iter().for_each(|m| mutate(&mut bytes, m));
        let bytes = Bytes::from(bytes);
        if let Some(message) = Message::answerable(&bytes) {
            read_all(&message);
            let answer = reply(&message, 400, "t").finish();
            read_all(&answer.edit().remove(Name::Via).push_front(Name::Via, "SIP/2.0/UDP a").finish());
        }
        let Ok(message) = Message::parse(bytes) else { return Ok(()) };
        read_all(&message);
        let there = message.edit().push_front(Name::Via, "SIP/2.0/UDP p;branch=z9hG4bKp").append(Name::RecordRoute, "<sip:p;lr>").finish();
        said(&there);
        read_all(&there);
        let back = there.edit().pop_front(Name::Via).remove_where(Name::RecordRoute, |v| v == "<sip:p;lr>").finish();
        prop_assert_eq!(back.headers().count(), message.headers().count() - message.values(Name::RecordRoute).filter(|v| *v == "<sip:p;lr>").count());
    }

    #[test]
    fn no_stream_makes_the_framer_panic(mut bytes in message(), mutations in vec(mutation(), 0..8), cut in 1usize..100) {
        mutations.into_iter().for_each(|m| mutate(&mut bytes, m));
        let mut framer = Framer::default();
        for chunk in bytes.chunks(cut) {
            framer.push(chunk);
            while let Some(frame) = framer.poll() {
                if let Frame::Message(bytes) = frame { let _ = Message::parse(bytes).map(|m| read_all(&m)); }
            }
        }
    }
}
