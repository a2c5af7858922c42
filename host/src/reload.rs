//! A changed file beside the one a process runs by. Listeners, networks and media ports come and go; what was shared out or
//! derived at the start can't be taken in: each is named, and stays as it was. Everything else counts from now on.

use std::fmt::Display;

use proxy::config::Standing;

use crate::config::schema::{File, Listener, Network, Redirect, Relay, RelayMode};
use crate::config::values::SipAddress;

/// Puts back what must stay until the next start, and says what that was.
pub fn keep(running: &File, wanted: &mut File) -> Vec<String> {
    let mut left = services(running, wanted);
    listeners(running, wanted);
    networks(running, wanted);
    if let (Some(running), Some(wanted)) = (&running.proxy, &mut wanted.proxy) {
        left.extend(stays("proxy.lanes", &running.lanes, &mut wanted.lanes));
    }
    if let (Some(running), Some(wanted)) = (&running.relay, &mut wanted.relay) {
        left.extend(relay(running, wanted));
    }
    if let (Some(running), Some(wanted)) = (&running.redirect, &mut wanted.redirect) {
        left.extend(redirect(running, wanted));
    }
    left.extend(peers(running, wanted));
    left.extend(files(running, wanted));
    left
}

/// The servers of peers take in accounts; everything else of theirs counts from the next start.
fn peers(running: &File, wanted: &mut File) -> Vec<String> {
    let mut left = Vec::new();
    if running.access != wanted.access {
        left.push("`access` stays as it was until the next start".to_owned());
        wanted.access.clone_from(&running.access);
    }
    if running.reflector != wanted.reflector {
        left.push("`reflector` stays as it was until the next start".to_owned());
        wanted.reflector.clone_from(&running.reflector);
    }
    left
}

/// Whole services: they begin and end with the process.
fn services(running: &File, wanted: &mut File) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(comes_or_goes("proxy", &running.proxy, &mut wanted.proxy));
    left.extend(comes_or_goes("relay", &running.relay, &mut wanted.relay));
    left.extend(comes_or_goes("redirect", &running.redirect, &mut wanted.redirect));
    left.extend(comes_or_goes("access", &running.access, &mut wanted.access));
    left.extend(comes_or_goes("reflector", &running.reflector, &mut wanted.reflector));
    left
}

fn comes_or_goes<T: Clone>(name: &str, running: &Option<T>, wanted: &mut Option<T>) -> Option<String> {
    let words = match (running, &*wanted) {
        (Some(_), None) => format!("`{name}` is gone from the file: it runs on until the next start"),
        (None, Some(_)) => format!("`{name}` is new: it starts with the next start"),
        _ => return None,
    };
    wanted.clone_from(running);
    Some(words)
}

/// Sockets. One that is gone from the file keeps its place, since tokens in calls that are up name it by that, and closes
/// when nothing needs it any more. A port 0 stands for the port that was given for it.
fn listeners(running: &File, wanted: &mut File) {
    let mut new = std::mem::take(&mut wanted.listeners);
    for old in &running.listeners {
        let today = match new.iter().position(|new| is_same(old, new)) {
            Some(at) => Listener { address: old.address, ..new.remove(at) },
            None => closing(running, old),
        };
        wanted.listeners.push(today);
    }
    wanted.listeners.extend(new);
}

fn is_same(old: &Listener, new: &Listener) -> bool {
    let any_port = new.address.addr.port() == 0 && new.written == old.written;
    let asked = SipAddress { addr: (new.address.addr.ip(), old.address.addr.port()).into(), ..new.address };
    old.address == if any_port { asked } else { new.address }
}

fn closing(running: &File, old: &Listener) -> Listener {
    let standing = match old.standing {
        Standing::Closed => Standing::Closed,
        Standing::Open | Standing::Closing => Standing::Closing,
    };
    let here =
        |(name, network): (&String, &Network)| (network.bind == old.address.addr.ip()).then(|| name.clone());
    let network = old.network.clone().or_else(|| running.networks.iter().find_map(here));
    Listener { standing, network, ..old.clone() }
}

/// A network that is gone stays for the listeners in it that are closing.
fn networks(running: &File, wanted: &mut File) {
    let closing = wanted.listeners.iter().filter(|listener| listener.standing == Standing::Closing);
    for name in closing.filter_map(|listener| listener.network.clone()).collect::<Vec<_>>() {
        if let (false, Some(network)) = (wanted.networks.contains_key(&name), running.networks.get(&name)) {
            wanted.networks.insert(name, Network { closing: true, ..network.clone() });
        }
    }
}

/// Takes out the listeners that nothing needs any more, and the networks that stayed for them alone.
pub fn close(running: &mut File, done: &[SipAddress]) {
    for listener in &mut running.listeners {
        if listener.standing == Standing::Closing && done.contains(&listener.address) {
            listener.standing = Standing::Closed;
        }
    }
    let former = running.clone();
    running.networks.retain(|_, network| !network.closing);
    networks(&former, running);
}

fn relay(running: &Relay, wanted: &mut Relay) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(stays("relay.address", &running.address, &mut wanted.address));
    left.extend(stays("relay.threads", &running.threads, &mut wanted.threads));
    if (running.mode == RelayMode::OnePort) != (wanted.mode == RelayMode::OnePort) {
        left.push(
            "`relay.mode` stays as it was until the next start: one-port is another way to use ports".into(),
        );
        (wanted.mode, wanted.ports) = (running.mode, running.ports);
    }
    let listens = |relay: &Relay| relay.ng.as_ref().map(|ng| ng.listen.clone());
    if listens(running) != listens(wanted) {
        left.push("`relay.ng` stays as it was until the next start".into());
        wanted.ng.clone_from(&running.ng);
    }
    left
}

fn redirect(running: &Redirect, wanted: &mut Redirect) -> Option<String> {
    stays("redirect.address", &running.address, &mut wanted.address)
}

/// What is not in the services' hands: files of the process, and the key it derived others from.
fn files(running: &File, wanted: &mut File) -> Vec<String> {
    let shown = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut left = Vec::new();
    for (name, was, is) in [
        ("store", &running.store, &mut wanted.store),
        ("store-key", &running.store_key, &mut wanted.store_key),
        ("control", &running.control, &mut wanted.control),
    ] {
        if was != is {
            left.push(format!(
                "`{name}` stays {} until the next start",
                shown(was).unwrap_or("as it was".into())
            ));
            is.clone_from(was);
        }
    }
    if running.node_key != wanted.node_key {
        left.push(
            "`node-key` stays the former one until the next start: change it on all nodes, then restart them"
                .into(),
        );
        wanted.node_key.clone_from(&running.node_key);
    }
    left
}

fn stays<T: PartialEq + Clone + Display>(name: &str, running: &T, wanted: &mut T) -> Option<String> {
    if running == wanted {
        return None;
    }
    wanted.clone_from(running);
    Some(format!("`{name}` stays {running} until the next start"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    const RUNNING: &str = "\
networks:
  lan: { bind: 127.0.0.1, cidr: [127.0.0.0/8] }
listeners:
  - { address: \"udp:127.0.0.1:5060\" }
  - { address: \"tcp:127.0.0.1:5060\" }
users: [{ name: alice, password: one }]
proxy: { lanes: 1, max-calls: 10 }
relay: { address: \"udp:127.0.0.1:5090\", ports: 20000-20999, media-timeout: 60 s }
redirect: { address: \"udp:127.0.0.1:5080\" }
node-key: 0123456789abcdef0123456789abcdef
control: /tmp/postern-a.sock
";

    fn file(text: &str) -> File {
        Settings::from_text(Path::new("test.yaml"), text).unwrap_or_else(|error| panic!("{error}")).file
    }

    /// What is left alone when one thing in the file is changed, and what it is taken for from then on.
    fn changed(from: &str, to: &str) -> (Vec<String>, File) {
        assert!(RUNNING.contains(from), "{from}");
        let mut wanted = file(&RUNNING.replacen(from, to, 1));
        let left = keep(&file(RUNNING), &mut wanted);
        (left, wanted)
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays() {
        let table = [
            ("lanes: 1", "lanes: 2", "`proxy.lanes` stays 1"),
            ("udp:127.0.0.1:5090", "udp:127.0.0.1:5091", "`relay.address` stays udp:127.0.0.1:5090"),
            ("60 s }", "60 s, threads: 2 }", "`relay.threads` stays 1"),
            ("60 s }", "60 s, mode: one-port }", "`relay.mode` stays as it was"),
            ("60 s }", "60 s, ng: \"udp:127.0.0.1:2223\" }", "`relay.ng` stays"),
            ("udp:127.0.0.1:5080", "udp:127.0.0.1:5081", "`redirect.address` stays udp:127.0.0.1:5080"),
            ("redirect: {", "# redirect: {", "`redirect` is gone from the file"),
            ("node-key: 0", "node-key: 1", "`node-key` stays the former one"),
            ("postern-a.sock", "postern-b.sock", "`control` stays /tmp/postern-a.sock"),
            ("control:", "store: /tmp/postern-a.redb\ncontrol:", "`store` stays as it was"),
        ];
        for (from, to, words) in table {
            let (left, wanted) = changed(from, to);
            assert!(left.iter().any(|left| left.contains(words)), "{to}: {left:?}");
            let mut same = wanted.clone();
            assert_eq!(keep(&file(RUNNING), &mut same), Vec::<String>::new(), "{to}: it stays");
        }
    }

    #[test]
    fn everything_else_is_taken_in() {
        for (from, to) in [
            ("password: one", "password: two"),
            ("max-calls: 10", "max-calls: 11, anchor: always, keep-alive: 20 s"),
            ("media-timeout: 60 s", "media-timeout: 30 s, mode: shared, max-sessions: 5"),
            ("cidr: [127.0.0.0/8]", "cidr: [127.0.0.0/8], advertise: 192.0.2.1"),
            ("tcp:127.0.0.1:5060\" }", "tcp:127.0.0.1:5060\", anchor: never }"),
            ("20000-20999", "21000-21999"),
            ("60 s }", "60 s, networks: [lan] }"),
            ("lan: { bind: 127.0.0.1,", "lan: { bind: 127.0.0.2,"),
            ("udp:127.0.0.1:5060", "udp:127.0.0.1:5070"),
            ("control:", "log: debug\ndomains: [a.example]\nauth: { algorithms: [sha-256] }\ncontrol:"),
        ] {
            assert_eq!(changed(from, to).0, Vec::<String>::new(), "{to}");
        }
        assert_eq!(changed("max-calls: 10", "max-calls: 11").1.proxy.unwrap().max_calls, 11);
    }

    #[test]
    fn a_listener_that_is_gone_keeps_its_place_and_its_network_until_it_is_closed() {
        let outside = "listeners:\n  - { address: \"udp:127.0.0.2:5060\" }\n";
        let with_two = RUNNING.replace("listeners:\n", outside);
        let with_two = with_two.replace("  lan:", "  outside: { bind: 127.0.0.2 }\n  lan:");
        let mut wanted = file(RUNNING);
        keep(&file(&with_two), &mut wanted);
        let standing: Vec<_> = wanted.listeners.iter().map(|listener| listener.standing).collect();
        assert_eq!(standing, [Standing::Closing, Standing::Open, Standing::Open]);
        assert!(wanted.networks["outside"].closing && !wanted.networks["lan"].closing);
        let gone = wanted.listeners[0].address;
        close(&mut wanted, &[gone]);
        assert_eq!(wanted.listeners[0].standing, Standing::Closed);
        assert!(!wanted.networks.contains_key("outside") && wanted.addresses()[0] != gone);
        let mut again = file(&with_two);
        keep(&wanted, &mut again);
        assert_eq!((again.listeners.len(), again.listeners[0].standing), (3, Standing::Open));
    }
}
