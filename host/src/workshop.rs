//! Where work is done that would hold a lane up (`proto::node::Work`: handshakes, files): one thread, one job after another, and with less claim on
//! a processor than the lanes have. Who waits for a job here waits for those before it, and no packet of anybody else's does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proto::node::{Answer, Input, Ticket, Work};

use crate::lanes::post::{Address, PostOffice};

/// What is done, and for whom.
type Order = (Address, Ticket, Work);

/// Where work is left.
#[derive(Debug)]
pub(crate) struct Workshop {
    orders: Sender<Order>,
    post: Arc<PostOffice>,
}

impl Workshop {
    /// Starts its thread, which ends with the value.
    pub(crate) fn open(post: Arc<PostOffice>) -> Workshop {
        let (orders, waiting) = channel();
        let back = post.clone();
        let begun =
            std::thread::Builder::new().name("workshop".into()).spawn(move || work_off(&waiting, &back));
        if let Err(error) = begun {
            tracing::error!(%error, "no thread for handshakes and files: calls of browsers will have no media");
        }
        Workshop { orders, post }
    }

    /// Has work done. How much may wait is up to who asks: a relay asks once at a time for each leg.
    pub(crate) fn order(&self, from: Address, ticket: Ticket, work: Work) {
        if let Err(lost) = self.orders.send((from, ticket, work)) {
            let (from, ticket, _) = lost.0;
            let answer = Answer::Nothing("there is nobody to do it".to_owned());
            let _ = self.post.post(from, Input::Answer { ticket, answer });
        }
    }
}

fn work_off(orders: &Receiver<Order>, post: &PostOffice) {
    stand_back();
    while let Ok((to, ticket, work)) = orders.recv() {
        // What panicked leaves nothing in the work, and whoever asked sees that.
        if catch_unwind(AssertUnwindSafe(|| work.run())).is_err() {
            tracing::error!("a piece of work panicked: it is given up, nothing else is touched");
        }
        give_back(post, to, ticket, work);
    }
}

/// A lane that is overrun has no room in its mailbox for a moment.
fn give_back(post: &PostOffice, to: Address, ticket: Ticket, work: Work) {
    for _ in 0..TRIES {
        let answer = Answer::Done(work.clone());
        if post.post(to, Input::Answer { ticket, answer }).is_ok() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Lanes go first where processors are short: this thread gives way from now on.
#[allow(unsafe_code)]
pub(crate) fn stand_back() {
    // SAFETY: takes three numbers and touches no memory; 0 is the calling thread alone on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
        tracing::debug!("a thread keeps its priority");
    }
}

const NICENESS: libc::c_int = 5;
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);
