//! RFC 3325: asserted identities, believed within the house alone.

use proto::sip::Name;

use crate::desk::{Desk, invite};

/// §5: an identity asserted by somebody we don't trust is taken off.
#[test]
fn nobody_asserts_his_own_identity() {
    let there =
        Desk::open().forwarded(invite().with("P-Asserted-Identity", "<sip:queen@palace.example>")).message;
    assert_eq!(there.text(Name::PAssertedIdentity), None);
}

/// §6: what a party would like to be called is for its first proxy alone.
#[test]
fn a_preference_goes_no_further() {
    let there =
        Desk::open().forwarded(invite().with("P-Preferred-Identity", "<sip:alice@example.com>")).message;
    assert_eq!(there.text(Name::PPreferredIdentity), None);
}
