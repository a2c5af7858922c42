//! RFC 3608: Service-Route.

use std::time::Duration;

use proto::node::Transport;
use proto::sip::Name;

use crate::desk::{B, C, Desk, at, guarded, register, requests, response, tcp};
use crate::handset::{EDGES, Handset};

/// The registrar's own proxy.
const HOME: &str = "<sip:198.51.100.30:5060;lr>";

/// §6.2: a device that knows of such things is told by which way its requests go.
#[test]
fn a_device_is_told_its_way_out() {
    let draft = register("bob").with("Contact", "<sip:bob@198.51.100.20:5070>").with("Supported", "path");
    let ok = response(&Desk::open().hear(B, draft), B);
    assert_eq!(ok.text(Name::ServiceRoute), Some("<sip:203.0.113.1:5060;lr>"));
}

/// §6.2: a request that brings it as its Route is served as if it had none.
#[test]
fn its_own_way_out_is_taken_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(crate::desk::invite().with("Route", "<sip:203.0.113.1:5060;lr>"));
    assert_eq!((there.flow.remote.to_string(), there.message.routes().count()), (B.into(), 0));
}

/// §6.2: by which listener it registered, by that it is to call.
#[test]
fn its_way_out_is_the_listener_it_came_by() {
    let draft = register("bob").with("Contact", "<sip:bob@10.0.0.9;transport=tcp>").with("Supported", "path");
    let ok = response(&Desk::open().hear_by(tcp(B), draft), B);
    assert_eq!(ok.text(Name::ServiceRoute), Some("<sip:203.0.113.1:5060;transport=tcp;lr>"));
}

/// §6.2: a REGISTER that is not granted is told nothing.
#[test]
fn a_refusal_names_no_way() {
    let draft = register("bob").with("Contact", "<sip:bob@10.0.0.9>").with("Supported", "path");
    let refused = response(&Desk::new(guarded()).hear(B, draft), B);
    assert_eq!((refused.status(), refused.text(Name::ServiceRoute)), (Some(401), None));
}

/// §6.1: a proxy between device and registrar passes on what the registrar said.
#[test]
fn a_service_route_passes_through_an_edge() {
    let mut desk = Desk::open();
    let draft = register("bob").to_domain(C).with("Contact", "<sip:bob@10.0.0.9>").with("Supported", "path");
    let there = requests(&desk.hear(B, draft), "REGISTER").remove(0);
    let sent =
        desk.answer(&there, 200, &[("Service-Route", HOME), ("Contact", "<sip:bob@10.0.0.9>;expires=60")]);
    assert_eq!(response(&sent, B).text(Name::ServiceRoute), Some(HOME));
}

/// §5.1, §6.3: a device's requests outside of dialogs have it for their Route, in its order; a REGISTER has not.
#[test]
fn a_device_calls_by_its_service_route() {
    let mut handset = Handset::new([Transport::Tcp, Transport::Tcp]);
    handset.granted(&[(Name::ServiceRoute, "<sip:198.51.100.40;lr>"), (Name::ServiceRoute, HOME)]);
    let there = handset.calls();
    let invite = there.message("INVITE").unwrap();
    assert_eq!(invite.values(Name::Route).collect::<Vec<_>>(), ["<sip:198.51.100.40;lr>", HOME]);
    assert_eq!(there.flow.remote, at(EDGES[0]), "the edge is its outbound proxy all the same");
    let refresh = handset.until(Duration::from_secs(1900), |heard| heard.is("REGISTER"));
    assert_eq!(refresh.message("REGISTER").unwrap().values(Name::Route).count(), 0);
}

/// §5.1: what the last 200 said counts: without Service-Route there is none any more.
#[test]
fn the_last_answer_counts() {
    let mut handset = Handset::new([Transport::Udp, Transport::Udp]);
    handset.granted(&[(Name::ServiceRoute, HOME)]);
    for edge in [0, 1] {
        let refresh = handset.until(Duration::from_secs(1900), |heard| {
            heard.is("REGISTER") && heard.flow.remote == at(EDGES[edge])
        });
        let register = refresh.message("REGISTER").unwrap();
        let contact = format!("{};expires=3600", register.text(Name::Contact).unwrap());
        handset.answer((edge, 0), &register, 200, &[(Name::Contact, &contact)]);
    }
    assert_eq!(handset.calls().message("INVITE").unwrap().values(Name::Route).count(), 0);
}

/// §5.1: a request that goes by another flow takes that flow's Service-Route.
#[test]
fn another_flow_has_its_own() {
    let mut handset = Handset::new([Transport::Tcp, Transport::Tcp]);
    let registers = handset.registers();
    for (edge, way) in [(0, HOME), (1, "<sip:198.51.100.41;lr>")] {
        let contact = format!("{};expires=3600", registers[edge].text(Name::Contact).unwrap());
        let more = [(Name::Contact, &*contact), (Name::ServiceRoute, way)];
        handset.answer((edge, edge as u64 + 1), &registers[edge], 200, &more);
    }
    let first = handset.calls().message("INVITE").unwrap();
    assert_eq!(first.values(Name::Route).collect::<Vec<_>>(), [HOME]);
    let sent = handset.answer((0, 1), &first, 430, &[]);
    let second = sent.iter().find_map(|heard| heard.message("INVITE")).expect("another INVITE");
    assert_eq!(second.values(Name::Route).collect::<Vec<_>>(), ["<sip:198.51.100.41;lr>"]);
}
