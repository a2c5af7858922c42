//! Work that takes the processor's time rather than anybody's answer: signing, agreeing on keys. A lane that did it would keep
//! every packet of every call waiting, so a node packs it up and asks for it to be done ([`super::Question::Work`]).

use std::any::Any;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// What is to be done: it holds all it needs, and afterwards what came of it.
pub trait Job: Any + Send + Debug {
    /// Does it.
    fn run(&mut self);
}

/// A job on its way to whoever does it, and back. A clone is the same job: it is in one place at a time, so nobody ever waits
/// for the lock.
#[derive(Clone, Debug)]
pub struct Work(Arc<Mutex<Option<Box<dyn Job>>>>);

impl Work {
    /// Packs a job up.
    pub fn new(job: Box<dyn Job>) -> Work {
        Work(Arc::new(Mutex::new(Some(job))))
    }

    /// Does it. A job that panics is gone.
    pub fn run(&self) {
        let job = self.lift();
        if let Some(mut job) = job {
            job.run();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        }
    }

    /// Unpacks it, as what it was; `None`: it is another's, or gone.
    pub fn unpack<J: Job>(&self) -> Option<Box<J>> {
        let job: Box<dyn Any> = self.lift()?;
        job.downcast().ok()
    }

    fn lift(&self) -> Option<Box<dyn Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PartialEq for Work {
    fn eq(&self, other: &Work) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Work {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Doubled(u32);

    impl Job for Doubled {
        fn run(&mut self) {
            assert!(self.0 < 100, "too much");
            self.0 *= 2;
        }
    }

    #[test]
    fn a_job_comes_back_with_what_came_of_it() {
        let work = Work::new(Box::new(Doubled(21)));
        work.clone().run();
        assert_eq!(work.unpack::<Doubled>().map(|job| job.0), Some(42));
        assert!(work.unpack::<Doubled>().is_none(), "it was taken");
    }

    #[test]
    fn a_job_that_panics_is_gone() {
        let work = Work::new(Box::new(Doubled(1000)));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run())).is_err());
        assert!(work.unpack::<Doubled>().is_none());
    }
}
