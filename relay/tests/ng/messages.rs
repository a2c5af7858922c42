//! Messages: cookies, encodings, who may command, and what is no command.

use crate::*;

#[test]
fn is_there() {
    let answer = rig().command(&[("command", text("ping"))]);
    assert_eq!(answer.text("result"), Some("pong"));
}

#[test]
fn a_repeated_cookie_gets_the_same_answer_and_changes_nothing() {
    let mut rig = rig();
    let offer = format!("7_1 d7:call-id2:c97:command5:offer8:from-tag1:a3:sdp{}:{ALICE}e", ALICE.len());
    let first = rig.say(CLIENT, offer.as_bytes()).unwrap();
    let leased = rig.ports().leased;
    assert_eq!(rig.say(CLIENT, offer.as_bytes()), Some(first.clone()));
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (leased, 1));
    let other = rig.say("127.0.0.1:9998", offer.replace("7_1", "7_2").as_bytes()).unwrap();
    assert_eq!(other[4..], first[4..], "a repeated offer keeps its ports");
}

#[test]
fn is_deaf_to_whoever_may_not_command() {
    let mut rig = rig();
    assert_eq!(rig.say("192.0.2.66:9999", b"1 d7:command4:pinge"), None);
    assert_eq!(rig.say(CLIENT, b"no cookie"), None);
    assert_eq!(
        rig.say(CLIENT, b"1 d7:command"),
        Some(b"1 d12:error-reason27:Could not decode dictionary6:result5:errore".to_vec())
    );
}

#[test]
fn what_is_no_command_ends_a_connection_and_nothing_over_udp() {
    let config = |allow: &str| {
        let listen = [Transport::Udp, Transport::Tcp].map(|transport| (transport, address(NG))).to_vec();
        let ng =
            relay::ng::Config { listen, allow: vec![allow.parse().unwrap()], ..relay::ng::Config::default() };
        Config { ng: Some(ng), ..rig::config() }
    };
    let said = |allow: &str, transport, bytes: &'static [u8]| {
        let mut rig = Rig::new(config(allow));
        let flow = Flow { transport, id: FlowId(7), ..Flow::udp(address(NG), address(CLIENT)) };
        rig.tell(Input::Other { flow, bytes: bytes.into() });
        let told = rig.events.iter().find_map(|event| match event {
            Event::Warning { about, why } => Some(format!("{about}: {why}")),
            _ => None,
        });
        assert_eq!(rig.closed.is_empty(), told.is_none(), "closed and told, or neither");
        (rig.ng.pop().map(|answer| String::from_utf8_lossy(&answer).into_owned()), told.unwrap_or_default())
    };
    let (answer, told) = said("127.0.0.1", Transport::Tcp, b"nonsense");
    assert_eq!(answer, None);
    assert!(told.starts_with("ng client 127.0.0.1:9999: what it sent is no command"), "{told}");
    let (answer, told) = said("127.0.0.1", Transport::Tcp, b"c {]}");
    assert!(answer.unwrap().contains("Could not decode dictionary") && told.contains("no command"), "{told}");
    assert!(said("127.0.0.9", Transport::Tcp, b"c d7:command4:pinge").1.contains("`relay.ng.allow`"));
    assert_eq!(said("127.0.0.1", Transport::Tcp, b"c d7:command3:fooe").1, "", "unknown, and well said");
    assert_eq!(said("127.0.0.1", Transport::Udp, b"nonsense"), (None, String::new()));
}

#[test]
fn json_is_answered_in_json() {
    let answer = rig().say(CLIENT, br#"c {"command":"query","call-id":"nobody"}"#).unwrap();
    assert_eq!(answer, br#"c {"error-reason":"Unknown call-id","result":"error"}"#);
}

#[test]
fn statistics_count_what_happened() {
    let mut rig = rig();
    let [_, for_a] = rig.ng_call();
    rig.packet(A, outside(for_a), &rtp(1, 1));
    let answer = rig.command(&[("command", text("statistics"))]);
    let of = |group: &str, key: &str| {
        let statistics = answer.value("statistics")?.as_dict()?;
        statistics.value(group)?.as_dict()?.value(key)?.as_int()
    };
    assert_eq!(of("currentstatistics", "sessionstotal"), Some(1));
    assert_eq!(of("totalstatistics", "relayedpackets"), Some(1));
    assert_eq!(of("controlstatistics", "totaloffercount"), Some(1));
}

/// Commands as a client sends them, broken in every place a few bytes can break them: none brings the relay down, and when
/// every call is deleted nothing stays lent.
#[test]
fn broken_commands_break_nothing() {
    let mut rig = Rig::new(Config { quarantine: MS, ..config() });
    let mut dice = proto::node::Birth {
        now: rig.now,
        wall: std::time::SystemTime::UNIX_EPOCH,
        seed: [7; 32],
        lane: proto::node::Lane::default(),
    }
    .dice(9);
    let whole: Vec<Vec<u8>> =
        ["offer", "answer", "query", "delete", "block media", "statistics", "start recording"]
            .iter()
            .flat_map(|command| [ALICE, BOB].map(|sdp| (command, sdp)))
            .map(|(command, sdp)| {
                let sdp = format!(
                    "{sdp}a=rtcp-mux\r\nm=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 x\r\n"
                );
                let flags =
                    list(&["trust-address", "SIP-source-address", "loop-protect", "codec-strip-PCMA"]);
                let codec = Dict::default().with("strip", list(&["all"])).with("offer", list(&["PCMU"]));
                let dict = Dict::default()
                    .with("command", text(command))
                    .with("call-id", text("c"))
                    .with("from-tag", text("a"))
                    .with("to-tag", text("b"))
                    .with("flags", flags)
                    .with("received-from", list(&["IP4", "198.51.100.77"]))
                    .with("codec", Value::Dict(codec))
                    .with("sdp", Value::text(sdp));
                let mut bytes = b"0 ".to_vec();
                bencode::write(&Value::Dict(dict), &mut bytes);
                bytes
            })
            .collect();
    for round in 0..20_000u32 {
        let mut bytes = whole[dice.below(whole.len() as u64) as usize].clone();
        for _ in 0..dice.below(6) {
            let at = dice.below(bytes.len() as u64) as usize;
            match dice.below(4) {
                0 => bytes[at] = dice.u32() as u8,
                1 => bytes[at] = b"0:;/ =\r\nmac"[dice.below(11) as usize],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        let message = [format!("{round}").as_bytes(), &bytes[1..]].concat();
        rig.say(CLIENT, &message);
        rig.pass(MS);
    }
    let listed = rig.command(&[("command", text("list")), ("limit", Value::Int(10_000))]);
    let Some(Value::List(calls)) = listed.value("calls") else { panic!("{listed:?}") };
    let ended = rig.events.iter().filter(|event| matches!(event, Event::CallEnded(_))).count();
    assert!(ended > 300, "only {ended} calls came about at all");
    for call in calls {
        rig.command(&[("command", text("delete")), ("call-id", call.clone())]);
    }
    assert_eq!((rig.relay.status().sessions, rig.ports().leased, rig.tables.sessions.len()), (0, 0, 0));
}
