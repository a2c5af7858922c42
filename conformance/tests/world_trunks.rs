//! A site with a carrier, in the simulated world. The carrier is a proxy of the same make that trusts nobody: it wants
//! credentials for every call and registration, as carriers do.
//!
//! ```text
//!  alice 10.0.0.2 ─ NAT ── P1 203.0.113.1 (office.example) ── carrier 203.0.113.2 (carrier.example) ── bob 192.0.2.20
//!                               └── 203.0.113.77, the carrier's first server: nobody is there
//! ```

use std::sync::Arc;
use std::time::Duration;

use conformance::cast::{P1, P2, add_phone_with, add_proxy_with, add_relay, proxy_config, script};
use conformance::world::{INTERNET, NodeId, Rules, World};
use endpoint_sim::{Act, After, Phone, Script, Step};
use proto::event::Event;
use proto::lookup::{Advice, Lookup};
use proto::tables::{Anchor, Secret, User};
use proxy::config::{Goes, NextHop, Origin, Pattern, Route, Server, Siblings, Trunk};
use proxy::trunks::health::State;
use proxy::trunks::login::Credentials;
use proxy::trunks::rules::{Act as Does, Direction, Part, Rule, expression};
use proxy::trunks::trunk::Registering;

const SECOND: Duration = Duration::from_secs(1);

struct Office {
    world: World,
    office: NodeId,
    alice: NodeId,
    bob: NodeId,
    config: proxy::Config,
}

fn next(host: &str) -> NextHop {
    NextHop { host: host.into(), port: Some(5060), transport: None }
}

/// The carrier's servers, the first of them dead, with our account there.
fn trunk() -> Trunk {
    let servers = [(0, "203.0.113.77"), (1, "203.0.113.2")];
    let server = |(priority, host)| Server { priority, ..Server::new(next(host)) };
    let own_number = Rule {
        on: Direction::Out,
        methods: Vec::new(),
        status: None,
        act: Does::Rewrite {
            part: Part::named("From"),
            find: expression("^.*$").unwrap(),
            with: "<sip:4711@carrier.example>".into(),
        },
    };
    Trunk {
        servers: servers.into_iter().map(server).collect(),
        trusted: true,
        sources: vec!["203.0.113.2".parse().unwrap()],
        try_timeout: 2 * SECOND,
        domain: Some("carrier.example".into()),
        credentials: Some(Credentials { user: "4711".into(), password: "4711's secret".into(), realm: None }),
        register: Some(Registering {
            user: "4711".into(),
            domain: "carrier.example".into(),
            registrar: next("203.0.113.2"),
            expires: 300,
            contact: "4711".into(),
        }),
        rules: vec![own_number],
        ..Trunk::named("carrier")
    }
}

fn route(user: &str, from: Origin, goes: Goes) -> Route {
    let user = Pattern::Exact(user.into());
    let (name, prefix) = ("route".into(), String::new());
    Route { name, user, domain: Pattern::Any, from: vec![from], strip: 0, prefix, goes }
}

fn config(at: &str, domain: &str) -> proxy::Config {
    let siblings = Siblings { cidrs: Vec::new(), ..proxy_config(at).siblings };
    let (domains, realm) = (vec![domain.to_owned()], domain.to_owned());
    proxy::Config { domains, realm, siblings, redirects: Vec::new(), ..proxy_config(at) }
}

fn account(world: &mut World, proxy: NodeId, name: &str, domain: &str) {
    world.tables(proxy).add_user(User {
        name: name.to_owned(),
        secret: Secret::Password(format!("{name}'s secret")),
        aors: vec![format!("{name}@{domain}")],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    });
}

fn phone(
    world: &mut World,
    home: (conformance::world::Realm, &str),
    who: [&str; 3],
    script: Script,
) -> NodeId {
    let [name, domain, proxy] = who;
    let set = |config: &mut endpoint_sim::PhoneConfig| config.domain = domain.to_owned();
    add_phone_with(world, home, name, proxy, script, set).1
}

fn office(alice: Script, bob: Script) -> Office {
    let mut world = World::new(7);
    let ours = proxy::Config {
        trunks: vec![Arc::new(trunk())],
        routes: vec![
            route("bob", Origin::Users, Goes::Trunks(vec![0])),
            route("4711", Origin::Trunk("carrier".into()), Goes::User("sip:alice@office.example".into())),
        ],
        ..config(P1, "office.example")
    };
    let theirs = proxy::Config { relays: Vec::new(), anchor: Anchor::Never, ..config(P2, "carrier.example") };
    let config = ours.clone();
    let office = add_proxy_with(&mut world, "P1", P1, ours);
    let carrier = add_proxy_with(&mut world, "carrier", P2, theirs);
    add_relay(&mut world, 100);
    account(&mut world, office, "alice", "office.example");
    account(&mut world, carrier, "bob", "carrier.example");
    account(&mut world, carrier, "4711", "carrier.example");
    let nat = world.nat("nat", INTERNET, "198.51.100.1", Rules::PORT_RESTRICTED);
    let inside = world.inside(nat);
    let alice = phone(&mut world, (inside, "10.0.0.2"), ["alice", "office.example", P1], alice);
    let bob = phone(&mut world, (INTERNET, "192.0.2.20"), ["bob", "carrier.example", P2], bob);
    Office { world, office, alice, bob, config }
}

fn calls(to: &str) -> Script {
    script(vec![Step::call(to, After::Registered, 2000), Step::new(Act::HangUp, After::Answered, 3000)])
}

impl Office {
    /// From now on a server is asked where numbers go.
    fn ask_first(&mut self) {
        let url = "https://routes.office.example/{number}".to_owned();
        let lookup = Lookup { url, token: None, timeout: SECOND, cache: SECOND, negative: SECOND };
        let asks = Route {
            user: Pattern::Prefix("+".into()),
            ..Route::plain(Goes::Http(Arc::new(lookup), Vec::new()))
        };
        let mut config = self.config.clone();
        config.routes.insert(0, asks);
        self.world.with::<proxy::Proxy, _>(self.office, |proxy, _| proxy.reconfigure(Arc::new(config)));
    }

    fn until_done(&mut self, phone: NodeId) {
        let over = |w: &World| w.node::<Phone>(phone).report().ended_by.is_some();
        assert!(self.world.run_until(over, 100 * SECOND), "never done\n{}", self.world.ladder());
    }

    fn assert_audio(&self) {
        for phone in [self.alice, self.bob] {
            let report = self.world.node::<Phone>(phone).report();
            assert!(report.answered && report.audio_both_ways, "{report:#?}\n{}", self.world.ladder());
        }
    }

    /// Nothing of the call is left in the office within a minute.
    fn assert_clean(&mut self) {
        let office = self.office;
        let clean = |w: &World| {
            let status = w.node::<proxy::Proxy>(office).status();
            (status.calls, status.relay_sessions) == (0, 0)
        };
        assert!(self.world.run_until(clean, 60 * SECOND), "{}", self.world.ladder());
    }
}

/// The office registers at its carrier, a call out finds the first server dead and the second wanting credentials, and
/// has audio within seconds.
#[test]
fn a_call_out_by_a_carrier_with_a_dead_server_and_a_password() {
    let mut office = office(calls("sip:bob@office.example"), script(vec![]));
    office.until_done(office.alice);
    office.assert_audio();
    let setup = office.world.events().iter().find_map(|(_, node, event)| match event {
        Event::CallAnswered { setup, .. } if *node == office.office => Some(*setup),
        _ => None,
    });
    assert!(setup.is_some_and(|setup| setup < 4 * SECOND), "{setup:?}");
    let registered = |(_, _, event): &(Duration, NodeId, Event)| {
        matches!(event, Event::TrunkRegistered { registered: true, .. })
    };
    assert!(office.world.events().iter().any(registered));
    let status = office.world.with::<proxy::Proxy, _>(office.office, |proxy, now| proxy.trunks(now));
    let states: Vec<State> = status[0].servers.iter().map(|server| server.state).collect();
    assert_eq!(states, [State::Down, State::Up]);
    office.assert_clean();
}

/// The carrier calls the number we registered; a user of ours answers.
#[test]
fn a_call_in_by_a_carrier_reaches_the_user_of_the_number() {
    let mut office = office(script(vec![]), calls("sip:4711@carrier.example"));
    office.until_done(office.bob);
    office.assert_audio();
    office.assert_clean();
}

/// The office asks a server of its own before it calls: what that says decides, and when it says nothing the carrier does.
#[test]
fn a_call_out_goes_where_the_offices_own_server_says() {
    let bob = || "sip:bob@192.0.2.20:5060".to_owned();
    for said in [
        Some(Advice::Trunks { names: vec!["carrier".into()], number: Some("bob".into()) }),
        Some(Advice::Refuse { code: 402, reason: None }),
        Some(Advice::Targets(vec!["sip:nobody@203.0.113.77:5060".into(), bob()])),
        None,
    ] {
        let mut office = office(calls("sip:+49@office.example"), script(vec![]));
        office.ask_first();
        let reached = !matches!(said, Some(Advice::Refuse { .. }) | None);
        if let Some(said) = &said {
            office.world.pages().insert("https://routes.office.example/%2B49".into(), said.clone());
        }
        office.until_done(office.alice);
        if reached {
            office.assert_audio();
        } else {
            let status = if said.is_some() { 402 } else { 404 };
            let report = office.world.node::<Phone>(office.alice).report();
            assert_eq!(report.call_status, Some(status), "{said:?}\n{}", office.world.ladder());
        }
        office.assert_clean();
    }
}
