//! A call of peers on real NATs needs nobody else.

use std::time::Duration;

use conformance::lab::peers::{Hub, Online};

use crate::moving::heard;

const SECOND: Duration = Duration::from_secs(1);
/// Until a call is up and has found its path.
const BEFORE: Duration = Duration::from_secs(6);

#[test]
fn buddies_talk_on_when_every_server_is_gone() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2";
    let Some(mut hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let mut peers = vec![hub.peer("e2", "e2", 90, &[])];
    hub.until_online(1);
    peers.push(hub.peer("e1", "e1", 90, &["--call", "e2"]));
    hub.until_online(2);
    std::thread::sleep(BEFORE);
    hub.postern.kill();
    std::thread::sleep(SECOND);
    let recorder = hub.lab.capture(&["e1", "e2"]);
    std::thread::sleep(4 * SECOND);
    let wire = recorder.stop();
    peers.iter_mut().for_each(Online::leave);
    for (host, report) in ["e2", "e1"].into_iter().zip(peers.into_iter().map(Online::report)) {
        let count = heard(&wire, host).count();
        println!("{host} has heard {count} packets in 4 s without any server");
        assert!(count > 100, "{host} has heard {count} packets\n{report:#}");
        assert_eq!(report["call"]["phone"]["lost"], 0, "{report:#}");
    }
}
