//! Why packets go nowhere, each cause counted.

/// Why a packet went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// No such socket.
    Unknown,
    /// The port is lent to nobody now.
    Idle,
    /// It came from somewhere its party is not.
    Stranger,
    /// Not what the m= line promises.
    Invalid,
    /// A STUN check, and ICE does not run between the parties.
    Stun,
    /// The other party has not been heard, and it is not certain that its signalled address is its own.
    Held,
    /// It came from one of this relay's own ports.
    Loop,
    /// A controller has blocked it.
    Blocked,
    /// Its tag is not the party's, or it came before.
    Forged,
    /// The keys it is to be opened or protected with are not agreed on yet, or are used up.
    Unkeyed,
    /// Its party has not said for a while that it wants to be sent anything (RFC 7675).
    Unwanted,
    /// It came to a port of many calls, and might be of several; see `crowd`.
    Ambiguous,
    /// Nobody expected it at a port that is flooded: kept out in the kernel; see `doors`.
    Flood,
}

impl Why {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Why; 13] = [
        Why::Unknown,
        Why::Idle,
        Why::Stranger,
        Why::Invalid,
        Why::Stun,
        Why::Held,
        Why::Loop,
        Why::Blocked,
        Why::Forged,
        Why::Unkeyed,
        Why::Unwanted,
        Why::Ambiguous,
        Why::Flood,
    ];

    /// A word for status pages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Unknown => "unknown",
            Why::Idle => "idle",
            Why::Stranger => "stranger",
            Why::Invalid => "invalid",
            Why::Stun => "stun",
            Why::Held => "held",
            Why::Loop => "loop",
            Why::Blocked => "blocked",
            Why::Forged => "forged",
            Why::Unkeyed => "unkeyed",
            Why::Unwanted => "unwanted",
            Why::Ambiguous => "ambiguous",
            Why::Flood => "flood",
        }
    }
}
