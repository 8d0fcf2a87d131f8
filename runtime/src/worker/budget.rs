//! How many bytes of fetched records may wait for a worker: what keeps a slow worker from
//! filling the memory with what a fast broker delivers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub struct Budget {
    limit: usize,
    waiting: Mutex<usize>,
    room: Condvar,
}

impl Budget {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::new(0), room: Condvar::new() }
    }

    /// Counts records that were handed to the worker.
    pub fn take(&self, bytes: usize) {
        *self.lock() += bytes;
    }

    /// Counts records that the worker is done with.
    pub fn give_back(&self, bytes: usize) {
        let mut waiting = self.lock();
        *waiting = waiting.saturating_sub(bytes);
        drop(waiting);
        self.room.notify_one();
    }

    /// Whether there is room, after waiting for it for at most `timeout`.
    #[must_use]
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let waiting = self.lock();
        let (waiting, _) = self
            .room
            .wait_timeout_while(waiting, timeout, |waiting| *waiting >= self.limit)
            .unwrap_or_else(PoisonError::into_inner);
        *waiting < self.limit
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_has_room_again_when_given_back() {
        let budget = Budget::new(10);
        budget.take(9);
        assert!(budget.wait_for_room(Duration::ZERO), "below the limit there is room");
        budget.take(9);
        assert!(!budget.wait_for_room(Duration::ZERO), "past the limit there is none");
        std::thread::scope(|scope| {
            scope.spawn(|| budget.give_back(9));
            assert!(budget.wait_for_room(Duration::from_secs(60)));
        });
    }
}
