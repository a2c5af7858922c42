//! Media in a call: the decision, what each party is told, and the relay that is asked (SYSTEMS §1, DESIGN §5).

pub(crate) mod anchoring;
pub(crate) mod apart;
pub mod decision;
pub(crate) mod keying;
pub(crate) mod negotiation;
pub(crate) mod relay_dialog;
pub(crate) mod relays;
pub(crate) mod settling;
pub(crate) mod siblings;
