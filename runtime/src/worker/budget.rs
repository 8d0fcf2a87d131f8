//! How many bytes of fetched records may wait for a worker: what keeps a slow worker from
//! filling the memory with what a fast broker delivers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub struct Budget {
    limit: usize,
    waiting: Mutex<Waiting>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// On their way to the worker.
    sent: usize,
    /// In the buffers of its tasks, as it said last.
    buffered: usize,
}

impl Budget {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default(), room: Condvar::new() }
    }

    /// Counts records that were sent to the worker.
    pub fn take(&self, bytes: usize) {
        self.lock().sent += bytes;
    }

    /// Of what was sent, the worker has received so much, and all its tasks together buffer so much. It
    /// says what there is, not what has changed, so nothing stays counted that a failed task took with it.
    pub fn settle(&self, received: usize, buffered: usize) {
        let mut waiting = self.lock();
        waiting.sent = waiting.sent.saturating_sub(received);
        waiting.buffered = buffered;
        drop(waiting);
        self.room.notify_one();
    }

    /// Whether there is room, after waiting for it for at most `timeout`.
    #[must_use]
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |waiting: &mut Waiting| waiting.sent + waiting.buffered >= self.limit;
        let (mut waiting, _) =
            self.room.wait_timeout_while(self.lock(), timeout, full).unwrap_or_else(PoisonError::into_inner);
        !full(&mut waiting)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
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
            scope.spawn(|| budget.settle(9, 0));
            assert!(budget.wait_for_room(Duration::from_secs(60)));
        });
    }

    #[test]
    fn what_is_buffered_counts_until_it_is_not_there_any_more() {
        let budget = Budget::new(10);
        budget.take(12);
        budget.settle(12, 12);
        assert!(!budget.wait_for_room(Duration::ZERO), "received, but not processed");
        budget.settle(0, 0);
        assert!(budget.wait_for_room(Duration::ZERO), "processed, or gone with its task");
    }
}
