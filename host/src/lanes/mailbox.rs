//! A lane's mailbox: bounded, and with a bell that is only rung when the lane may be asleep.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use proto::node::Input;
use proto::sip::Method;

use super::seat::Command;

/// Inputs that may wait.
const ROOM: usize = 16_384;
/// From here on new calls are refused, so that calls in progress still get through.
const NEW_CALLS: usize = ROOM / 4 * 3;

/// One input, and the seat it is for.
pub type Letter = (usize, Input);

/// What waits for one lane.
#[derive(Debug)]
pub struct Mailbox {
    /// Boxed: an input is large, and every slot is touched as the queue goes round.
    letters: ArrayQueue<Box<Letter>>,
    commands: Mutex<VecDeque<Command>>,
    bell: EventFd,
    rung: AtomicBool,
    refused: AtomicU64,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> nix::Result<Mailbox> {
        Ok(Mailbox {
            letters: ArrayQueue::new(ROOM),
            commands: Mutex::default(),
            bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            rung: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        })
    }

    /// Leaves an input for a seat; gives it back when there is no room: for new calls earlier than for others.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        if self.letters.len() >= NEW_CALLS && begins_call(&letter.1) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(letter);
        }
        let left = self.letters.push(Box::new(letter)).map_err(|letter| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            *letter
        });
        self.ring();
        left
    }

    /// Gives the lane a command. Commands are few and never refused.
    pub fn command(&self, command: Command) {
        self.commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push_back(command);
        self.ring();
    }

    /// How many inputs found no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // Fails only when the counter is full, and then the bell is ringing.
            let _ = self.bell.write(1);
        }
    }

    /// Whether there may be something to take, without a system call.
    pub fn is_ringing(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// The lane is awake and about to look: stops the bell. The bell first, then the word that it rings: in the other
    /// order a letter that comes between the two would ring a bell that is stopped right after, and be believed to ring
    /// for ever.
    pub fn silence(&self) {
        let _ = self.bell.read();
        self.rung.store(false, Ordering::SeqCst);
    }

    /// The next input.
    pub fn take(&self) -> Option<Letter> {
        self.letters.pop().map(|letter| *letter)
    }

    /// The next command.
    pub fn take_command(&self) -> Option<Command> {
        self.commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front()
    }
}

impl AsFd for Mailbox {
    /// Readable while the bell rings.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn begins_call(input: &Input) -> bool {
    match input {
        Input::Message { message, .. } => {
            message.is_request() && message.method() == Method::Invite && message.to_tag().is_empty()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    use super::*;

    #[test]
    fn a_full_mailbox_gives_back_and_counts() {
        let mailbox = Mailbox::new().unwrap();
        for _ in 0..ROOM {
            mailbox.post((0, Input::Wake)).unwrap();
        }
        assert!(mailbox.post((0, Input::Wake)).is_err());
        assert_eq!(mailbox.refused(), 1);
        assert!(mailbox.take().is_some());
        assert!(mailbox.post((0, Input::Wake)).is_ok());
    }

    #[test]
    fn the_bell_rings_from_the_first_letter_until_it_is_silenced() {
        let mailbox = Mailbox::new().unwrap();
        assert!(!mailbox.is_ringing());
        mailbox.post((0, Input::Wake)).unwrap();
        mailbox.post((0, Input::Wake)).unwrap();
        assert!(mailbox.is_ringing());
        mailbox.silence();
        assert!(!mailbox.is_ringing());
        mailbox.command(Command::Drain);
        assert!(mailbox.is_ringing(), "a command rings, too");
    }

    /// Two letters at a time, the second of which often comes while the bell is being stopped for the first.
    #[test]
    fn no_letter_waits_for_the_bell_of_the_next() {
        const PAIRS: usize = 20_000;
        let (mailbox, taken) = (Mailbox::new().unwrap(), AtomicU64::new(0));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(&mailbox, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for pair in 1..=PAIRS {
                    mailbox.post((0, Input::Wake)).unwrap();
                    mailbox.post((0, Input::Wake)).unwrap();
                    while taken.load(Ordering::SeqCst) < 2 * pair as u64 {
                        std::thread::yield_now();
                    }
                }
            });
            while taken.load(Ordering::SeqCst) < 2 * PAIRS as u64 {
                let rung = epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::from(5_000_u16)).unwrap();
                if rung == 0 {
                    // Lets the other thread end, so that the test can fail.
                    taken.store(u64::MAX, Ordering::SeqCst);
                    panic!("a letter waits, and the bell is silent");
                }
                mailbox.silence();
                while mailbox.take().is_some() {
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
}
