use super::*;

struct Scene {
    shield: Shield,
    now: Instant,
}

const OFFICE: &str = "198.51.100.7";
const THIEF: &str = "203.0.113.66";

impl Scene {
    #[allow(clippy::disallowed_methods)]
    fn with(policy: Policy) -> Scene {
        let now = Instant::now();
        Scene { shield: Shield::new(now, [1, 2], policy), now }
    }

    fn new() -> Scene {
        Scene::with(Policy::default())
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn does(&mut self, source: &str, name: &str, what: What) -> Ruling {
        self.shield.judge(self.now, &Deed { source: ip(source), real: true, name, what })
    }

    /// As a forger does who never sees our answers.
    fn forges(&mut self, source: &str, name: &str, what: What) -> Ruling {
        self.shield.judge(self.now, &Deed { source: ip(source), real: false, name, what })
    }

    fn is_heard(&mut self, source: &str, name: &str) -> bool {
        self.does(source, name, What::Tries).outcome == Outcome::Pass
    }

    fn is_shut_out(&self, source: &str) -> bool {
        self.shield.shuts_out(self.now, ip(source))
    }

    /// Fails until something is done about it; how often that was, and what was done.
    fn guess(&mut self, source: &str, names: impl Fn(u32) -> String) -> (u32, Option<Measure>) {
        let tried = (1..1000).map(|at| (at, self.does(source, &names(at), What::Fails)));
        tried
            .into_iter()
            .find(|(_, ruling)| ruling.notice.is_some())
            .map_or((1000, None), |(at, r)| (at, r.notice))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn alice(_: u32) -> String {
    "alice".into()
}

fn many(at: u32) -> String {
    format!("extension-{at}")
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_seventh_wrong_password_bans_the_account_from_there_and_nowhere_else() {
    let mut scene = Scene::new();
    assert_eq!(scene.guess(THIEF, alice), (7, Some(Measure::BannedAccount(MINUTE))));
    assert!(!scene.is_heard(THIEF, "alice"));
    assert!(scene.is_heard(THIEF, "bob"));
    assert!(scene.is_heard(OFFICE, "alice"));
    assert!(!scene.is_shut_out(THIEF));
}

#[test]
fn a_phone_that_tries_its_wrong_password_every_minute_is_never_banned() {
    let mut scene = Scene::new();
    for _ in 0..200 {
        assert_eq!(scene.does(OFFICE, "alice", What::Fails), Ruling::PASS);
        scene.pass(60);
    }
}

#[test]
fn each_ban_lasts_twice_as_long_as_the_one_before_up_to_the_longest() {
    let mut scene = Scene::new();
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let lasts = MINUTE * minutes;
        assert_eq!(scene.guess(THIEF, alice).1, Some(Measure::BannedAccount(lasts)));
        scene.now += lasts - Duration::from_millis(1);
        assert!(!scene.is_heard(THIEF, "alice"));
        scene.now += Duration::from_millis(1);
        assert!(scene.is_heard(THIEF, "alice"));
    }
    scene.pass(2 * 3600);
    assert_eq!(scene.guess(THIEF, alice).1, Some(Measure::BannedAccount(MINUTE)), "forgotten");
}

#[test]
fn many_names_from_one_source_shut_it_out() {
    let mut scene = Scene::new();
    let (tries, measure) = scene.guess(THIEF, many);
    assert!((13..20).contains(&tries), "after {tries}");
    assert_eq!(measure, Some(Measure::BannedSource(MINUTE)));
    assert!(scene.is_shut_out(THIEF) && !scene.is_shut_out(OFFICE));
    assert_eq!(scene.does(THIEF, "anybody", What::Asks).outcome, Outcome::Silence);
    scene.pass(61);
    assert!(!scene.is_shut_out(THIEF));
}

#[test]
fn good_phones_behind_the_address_of_a_thief_are_heard_all_the_same() {
    let mut scene = Scene::new();
    for name in ["alice", "bob"] {
        assert_eq!(scene.does(OFFICE, name, What::Proves), Ruling::PASS);
    }
    assert!(matches!(scene.guess(OFFICE, many).1, Some(Measure::BannedSource(_))));
    assert!(!scene.is_shut_out(OFFICE), "who may be somebody good must be read");
    for name in ["alice", "bob"] {
        assert!(scene.is_heard(OFFICE, name));
        assert_eq!(scene.does(OFFICE, name, What::Asks), Ruling::PASS);
    }
    assert!(!scene.is_heard(OFFICE, "carol"));
    assert_eq!(scene.does(OFFICE, "carol", What::Asks).outcome, Outcome::Silence);
}

#[test]
fn successes_take_failures_of_their_source_back() {
    let mut scene = Scene::with(Policy { names: 64, failures: 1000, ..Policy::default() });
    for round in 0..100 {
        for _ in 0..3 {
            assert_eq!(scene.does(OFFICE, "typist", What::Fails).notice, None, "round {round}");
        }
        scene.does(OFFICE, "alice", What::Proves);
    }
}

#[test]
fn nobody_is_banned_by_who_forges_his_address() {
    let mut scene = Scene::new();
    for at in 0..5000 {
        let measure = scene.forges(OFFICE, &many(at), What::Fails).notice;
        assert!(matches!(measure, None | Some(Measure::Limited)), "{measure:?}");
        scene.forges(OFFICE, "alice", What::Fails);
    }
    assert!(scene.shield.banned(scene.now).is_empty());
    assert!(scene.is_heard(OFFICE, "alice"), "who answers our challenge is heard in the midst of it");
    scene.does(OFFICE, "alice", What::Proves);
    assert_eq!(
        scene.does(OFFICE, "alice", What::Asks),
        Ruling::PASS,
        "who has proven itself isn't slowed either"
    );
}

#[test]
fn an_office_whose_phones_all_start_at_once_is_answered() {
    let mut scene = Scene::new();
    for at in 0..500 {
        let asked = scene.does(OFFICE, &many(at), What::Asks);
        assert_eq!(asked, Ruling::PASS, "phone {at}");
        scene.does(OFFICE, &many(at), What::Proves);
    }
}

#[test]
fn who_asks_for_very_many_names_and_proves_none_waits() {
    let mut scene = Scene::new();
    let mut answered = [0; 3];
    for answered in &mut answered {
        *answered =
            (0..2000).filter(|&at| scene.forges(THIEF, &many(at), What::Asks) == Ruling::PASS).count();
        scene.pass(1);
    }
    assert!(answered[0] < 120, "{answered:?}");
    assert!((1..=3).contains(&answered[2]), "{answered:?}");
}

#[test]
fn the_rates_hold_and_are_told_of_once() {
    let mut scene = Scene::with(Policy { requests: 10, ..Policy::default() });
    let rulings: Vec<Ruling> = (0..100).map(|_| scene.does(OFFICE, "", What::Uses)).collect();
    assert_eq!(rulings.iter().filter(|ruling| ruling.outcome == Outcome::Pass).count(), 10);
    assert_eq!(rulings.iter().filter(|ruling| ruling.notice == Some(Measure::Limited)).count(), 1);
    scene.pass(1);
    assert_eq!(scene.does(OFFICE, "", What::Uses), Ruling::PASS);
    assert_eq!(scene.shield.counts().silenced, 90);
}

#[test]
fn strangers_of_all_sources_share_one_limit() {
    let mut scene = Scene::with(Policy { everybody: 100, ..Policy::default() });
    let asks = |scene: &mut Scene, at: u32| {
        scene.forges(&format!("10.0.{}.{}", at / 250, at % 250), "x", What::Asks)
    };
    assert_eq!((0..300).filter(|&at| asks(&mut scene, at) == Ruling::PASS).count(), 100);
    assert!(scene.is_heard(OFFICE, "alice"), "who was challenged before is no stranger");
}

#[test]
fn an_account_over_its_limit_is_told_to_come_later_wherever_it_is() {
    let mut scene = Scene::with(Policy { account: 10, ..Policy::default() });
    for at in 0..50 {
        assert_eq!(scene.does(&format!("10.0.0.{at}"), "alice", What::Proves), Ruling::PASS);
    }
    assert_eq!(scene.does(OFFICE, "alice", What::Proves).outcome, Outcome::Later);
    assert_eq!(scene.does(OFFICE, "bob", What::Proves), Ruling::PASS);
}

#[test]
fn an_ipv6_customer_is_one_source() {
    let mut scene = Scene::new();
    let own = |at: u32| format!("2001:db8:1:2::{at:x}");
    let tried = (1..100).find(|&at| scene.does(&own(at), &many(at), What::Fails).notice.is_some());
    assert!(tried.is_some());
    assert!(scene.is_shut_out("2001:db8:1:2:ffff::1") && !scene.is_shut_out("2001:db8:1:3::1"));
}

#[test]
fn who_is_allowed_is_never_limited_and_who_is_denied_never_served() {
    let policy = Policy {
        allow: vec!["198.51.100.0/24".parse().unwrap()],
        deny: vec!["203.0.113.0/24".parse().unwrap()],
        requests: 1,
        ..Policy::default()
    };
    let mut scene = Scene::with(policy);
    assert_eq!(scene.guess(OFFICE, many), (1000, None));
    assert!((0..10).all(|_| scene.does(OFFICE, "", What::Uses) == Ruling::PASS));
    assert!(scene.is_shut_out(THIEF) && !scene.is_shut_out("192.0.2.1") && !scene.is_shut_out("127.0.0.1"));
}

#[test]
fn the_operator_bans_and_allows() {
    let mut scene = Scene::new();
    scene.does(OFFICE, "alice", What::Proves);
    assert_eq!(scene.shield.ban(scene.now, ip(OFFICE), MINUTE).map(|ban| ban.left), Some(MINUTE));
    assert!(scene.is_shut_out(OFFICE), "good phones or not");
    scene.pass(10);
    let listed = scene.shield.banned(scene.now);
    assert_eq!((listed.len(), listed[0].left, listed[0].why), (1, Duration::from_secs(50), why::OPERATOR));
    assert_eq!(scene.shield.allow(format!("{OFFICE}/32").parse().unwrap()), Some(1));
    assert!(!scene.is_shut_out(OFFICE));
    assert_eq!(scene.shield.ban(scene.now, ip(OFFICE), MINUTE), None, "both can't be");
}

#[test]
fn a_reload_lifts_bans_of_those_who_are_exempt_now() {
    let mut scene = Scene::new();
    scene.guess(OFFICE, many);
    scene.guess(THIEF, many);
    scene
        .shield
        .reconfigure(Policy { allow: vec![format!("{OFFICE}/32").parse().unwrap()], ..Policy::default() });
    assert!(!scene.is_shut_out(OFFICE) && scene.is_shut_out(THIEF));
    scene.shield.reconfigure(Policy { enabled: false, ..Policy::default() });
    assert!(!scene.is_shut_out(THIEF));
}

#[test]
fn the_list_of_bans_is_bounded() {
    let mut scene = Scene::new();
    for at in 0..10_000_u32 {
        let source = IpAddr::from([10, 1, (at >> 8) as u8, at as u8]);
        scene.shield.ban(scene.now, source, MINUTE);
    }
    assert_eq!(scene.shield.banned(scene.now).len(), 8192);
}

#[test]
fn a_scanner_is_ignored_and_told_of_once() {
    let mut scene = Scene::new();
    let rulings: Vec<Ruling> = (0..10).map(|_| scene.forges(THIEF, "100", What::Scans)).collect();
    assert!(rulings.iter().all(|ruling| ruling.outcome == Outcome::Silence));
    assert_eq!(rulings.iter().filter(|ruling| ruling.notice.is_some()).count(), 1);
    assert!(!scene.is_shut_out(THIEF), "its address may be forged");
}
