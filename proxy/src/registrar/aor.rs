//! Addresses of record: the one name a user has here, however it is written (RFC 3261 §10.3 step 5).
//!
//! Phones register as `alice@192.0.2.1` and are called as `alice@example.com`, or by another address of ours: all of
//! our addresses mean our first domain, or the realm when there is none. Domains are kept apart: `alice@a.example` and
//! `alice@b.example` are two users.

use proto::node::literal;
use proto::sip::Uri;
use proto::tables::User;

use crate::config::Config;

/// The canonical `user@domain` of a URI, ours or not; `None` when it names no user at a host.
pub fn canonical(uri: &Uri<'_>, config: &Config) -> Option<String> {
    let mut aor = uri.aor()?;
    let at = aor.len() - uri.host.len();
    if is_our_address(&aor[at..], config) {
        aor.truncate(at);
        aor.push_str(home(config));
    }
    Some(aor)
}

/// Whether a canonical address of record is one of ours.
pub fn is_ours(aor: &str, config: &Config) -> bool {
    halves(aor).is_some_and(|(_, host)| host == home(config) || config.is_ours(host, None))
}

/// Whether an account may use this canonical address of record; `alice@` in the account means any of our domains.
pub fn belongs(user: &User, aor: &str, config: &Config) -> bool {
    let Some((name, there)) = halves(aor) else { return false };
    user.aors.iter().filter_map(|own| halves(own)).any(|(own_name, own_host)| {
        own_name == name
            && match own_host {
                "" => is_ours(aor, config),
                host if is_our_address(host, config) => there == home(config),
                host => there == host,
            }
    })
}

/// User and domain. They are short: a look at each byte is sooner done than a search.
fn halves(aor: &str) -> Option<(&str, &str)> {
    let at = aor.bytes().rposition(|byte| byte == b'@')?;
    Some((&aor[..at], &aor[at + 1..]))
}

/// The domain that our bare addresses stand for.
fn home(config: &Config) -> &str {
    config.domains.first().unwrap_or(&config.realm)
}

/// Whether a host is an address of ours, which stands for our first domain.
fn is_our_address(host: &str, config: &Config) -> bool {
    literal(host).is_some() && config.is_ours(host, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::{config, user};

    fn aor(uri: &str) -> Option<String> {
        canonical(&Uri::parse(uri).unwrap(), &config())
    }

    #[test]
    fn all_our_addresses_mean_our_first_domain() {
        for uri in ["sip:alice@203.0.113.1", "sip:alice@203.0.113.1:5060", "sip:alice@Example.COM;user=phone"]
        {
            assert_eq!(aor(uri).as_deref(), Some("alice@example.com"), "{uri}");
        }
    }

    #[test]
    fn other_hosts_and_our_other_domains_keep_their_names() {
        assert_eq!(aor("sip:alice@198.51.100.9").as_deref(), Some("alice@198.51.100.9"));
        assert_eq!(aor("sip:alice@second.example").as_deref(), Some("alice@second.example"));
        assert_eq!(aor("tel:+4930123"), None);
    }

    #[test]
    fn an_account_without_a_domain_is_at_home_in_all_of_ours() {
        let alice = user("alice", &["alice@"]);
        assert!(belongs(&alice, "alice@example.com", &config()));
        assert!(belongs(&alice, "alice@second.example", &config()));
        assert!(!belongs(&alice, "alice@elsewhere.example", &config()));
        assert!(!belongs(&alice, "bob@example.com", &config()));
    }

    #[test]
    fn an_account_with_a_domain_is_not_at_home_in_the_others() {
        let alice = user("alice", &["alice@example.com"]);
        assert!(belongs(&alice, "alice@example.com", &config()));
        assert!(!belongs(&alice, "alice@second.example", &config()));
        assert!(!belongs(&alice, "alice", &config()));
        let by_address = user("alice", &["alice@203.0.113.1"]);
        assert!(belongs(&by_address, "alice@example.com", &config()));
    }
}
