//! How long a call lasts: silence, ports that run out, a relay that is killed.

use crate::*;

#[test]
fn a_call_both_parties_have_left_without_a_word_ends_by_itself() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    rig.packet(A, outside(for_a), &rtp(1, 1));
    rig.packet(B, outside(for_b), &rtp(2, 1));
    rig.pass(Duration::from_secs(119));
    assert_eq!(rig.relay.status().sessions, 1);
    rig.pass(2 * SECOND);
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
    let list = rig.command(&[("command", text("list"))]);
    assert_eq!(list.value("calls"), Some(&Value::List(Vec::new())));
}

#[test]
fn when_ports_run_out_a_client_is_told_to_ask_elsewhere() {
    let mut rig = Rig::new(Config { ports: 30_000..=30_003, ..config() });
    rig.ng_call();
    let ask = |supports: &[&str], call: &str| {
        let base = [
            ("command", text("offer")),
            ("call-id", text(call)),
            ("from-tag", text("a")),
            ("sdp", text(ALICE)),
        ];
        [base.to_vec(), vec![("supports", list(supports))]].concat()
    };
    let full = rig.command(&ask(&["load limit"], "x"));
    assert_eq!(full.text("result"), Some("load limit"), "{full:?}");
    let full = rig.command(&ask(&[], "y"));
    assert_eq!(full.text("result"), Some("error"));
    assert_eq!(rig.relay.status().sessions, 1);
}

#[test]
fn a_killed_relay_goes_on_with_its_calls_and_knows_what_was_said() {
    let mut rig = rig();
    let offer = rig.ng_offer(
        &format!("{ALICE}a=rtcp-mux\r\n"),
        &[("rtcp-mux", list(&["demux"])), ("label", text("caller"))],
    );
    let (for_b, for_a) = (port(&offer), port(&rig.ng_answer(BOB, &[])));
    rig.packet(A, outside(for_a), &rtp(1, 1));
    let mut next = Rig::after(rig.config, rig.tables, rig.now + SECOND, true);
    assert_eq!(next.packet(B, outside(for_b), &rtp(2, 1)).map(|sent| sent.to), Some(address(A)));
    let again = next.ng_answer(BOB, &[]);
    assert!(again.contains(&format!("m=audio {for_a} ")) && again.contains("a=rtcp-mux"), "{again}");
    next.command(&[("command", text("block media")), ("call-id", text("c1")), ("label", text("caller"))]);
    assert_eq!(next.packet(A, outside(for_a), &rtp(1, 9)), None);
    next.command(&[("command", text("delete")), ("call-id", text("c1")), ("from-tag", text("a"))]);
    assert_eq!((next.ports().leased, next.tables.sessions.len()), (0, 0));
}
