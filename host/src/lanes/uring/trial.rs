//! Whether this machine lets a relay have io_uring, and which means: tried out on loopback.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use relay::Forward;

use super::{Means, UringPath};
use crate::lanes::media::{MediaPath, Wait};

/// How long a packet may take to come back.
const TRIAL: Duration = Duration::from_millis(200);

impl UringPath {
    /// Sends packets round, to see whether everything this path is made of works here, and with which means.
    pub fn try_out() -> io::Result<Means> {
        UringPath::try_with(Means::ALL).or_else(|_| UringPath::try_with(Means::FEWEST))
    }

    /// A knock is sent on once, singly, then twice, as a train if there are such; all must come.
    fn try_with(means: Means) -> io::Result<Means> {
        let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut path = UringPath::new(&control, means)?;
        let (socket, local) = path.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut heard = 0;
        let until = Instant::now() + TRIAL;
        for knocks in 1..=2 {
            (0..knocks).for_each(|_| path.send(socket, local, b"knock"));
            let wanted = heard + 2 * knocks;
            let mut sent_on = 0;
            while heard < wanted && Instant::now() < until {
                path.turn(Wait::at_most(TRIAL), &mut |_, _, from, slot, len| {
                    heard += u32::from(from == local && slot[..len] == *b"knock");
                    sent_on += 1;
                    match sent_on <= knocks {
                        true => Forward::Send { socket, to: local, len },
                        false => Forward::Drop(relay::Why::Idle),
                    }
                })?;
            }
        }
        let whole = heard == 6 && path.means == means;
        whole.then_some(means).ok_or(io::Error::other("packets sent to itself did not come back"))
    }
}
