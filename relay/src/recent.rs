//! Values that many have alike, kept once. Phones of one kind say the same in their descriptions, call after call; what is
//! remembered of it is shared by all whose words were heard not long ago, and compared, so that nobody pays for being rare.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;

/// So many different values are compared with.
const DIFFERENT: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Recent<T: ?Sized>(VecDeque<Arc<T>>);

impl<T: ?Sized> Default for Recent<T> {
    fn default() -> Self {
        Recent(VecDeque::new())
    }
}

impl<T: ?Sized + PartialEq> Recent<T> {
    /// This value: the one there is, or itself.
    pub(crate) fn share(&mut self, value: impl Into<Arc<T>> + Borrow<T>) -> Arc<T> {
        if let Some(at) = self.0.iter().position(|known| **known == *value.borrow()) {
            // What is said often stays known.
            self.0.swap(0, at);
            return self.0[0].clone();
        }
        let value = value.into();
        self.0.truncate(DIFFERENT - 1);
        self.0.push_front(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_a_rare_one_does_not_drive_out_a_common_one() {
        let mut recent = Recent::<[usize]>::default();
        let common = recent.share(vec![0]);
        for rare in 1..100 {
            assert_eq!(*recent.share(vec![rare]), [rare]);
            assert!(Arc::ptr_eq(&recent.share(vec![0]), &common), "after {rare}");
        }
        assert_eq!(recent.0.len(), DIFFERENT);
        assert_eq!(Arc::strong_count(&common), 2);
    }
}
