//! Databases that are opened before anybody asks for them. One that a killed process left reads its write-ahead log again,
//! which takes as long as finding the brokers and joining the group: so it is done meanwhile. Must not know how a database
//! is opened.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;
use millrace_engine::task::StoreSpec;

/// Tasks that are opened at the same time. Each fills memory from its log before it can be written out.
const OPENED_AT_ONCE: usize = 4;

/// What is being opened of the databases `D`, and what is open and not asked for yet. Dropping it closes those.
pub(super) struct Ahead<D> {
    slots: Slots<D>,
    threads: Vec<JoinHandle<()>>,
}

type Slots<D> = Arc<Mutex<BTreeMap<TaskId, Slot<D>>>>;

struct Slot<D> {
    stores: Vec<StoreSpec>,
    /// `None`: nobody has begun yet.
    opening: Option<Receiver<Result<D, Error>>>,
}

impl<D: Send + 'static> Ahead<D> {
    pub(super) fn none() -> Self {
        Self { slots: Slots::default(), threads: Vec::new() }
    }

    /// Begins to open these, a few at a time.
    pub(super) fn begin(
        &mut self,
        tasks: Vec<(TaskId, Vec<StoreSpec>)>,
        open: impl Fn(TaskId, &[StoreSpec]) -> Result<D, Error> + Clone + Send + 'static,
    ) -> io::Result<()> {
        let count = tasks.len().min(OPENED_AT_ONCE);
        lock(&self.slots).extend(tasks.into_iter().map(|(task, stores)| (task, Slot { stores, opening: None })));
        for _ in 0..count {
            let (slots, open) = (Arc::clone(&self.slots), open.clone());
            let work = move || {
                while let Some((task, stores, done)) = next(&slots) {
                    // Who is not interested any more has it closed.
                    let _ = done.send(open(task, &stores));
                }
            };
            self.threads.push(thread::Builder::new().name("open-ahead".to_owned()).spawn(work)?);
        }
        Ok(())
    }

    /// The database of a task, if it is open with these stores, or soon will be. What could not be opened is left to be opened
    /// by who asks, and finds out why.
    pub(super) fn take(&self, task: TaskId, stores: &[StoreSpec]) -> Option<D> {
        let slot = lock(&self.slots).remove(&task)?;
        let opened = slot.opening?.recv().ok()?;
        // Closed before it is opened again.
        opened.ok().filter(|_| slot.stores == stores)
    }

    /// Closes those of other tasks.
    pub(super) fn keep(&self, wanted: impl Fn(&TaskId) -> bool) {
        let gone: Vec<Slot<D>> =
            lock(&self.slots).extract_if(.., |task, _| !wanted(task)).map(|(_, slot)| slot).collect();
        for opening in gone.into_iter().filter_map(|slot| slot.opening) {
            drop(opening.recv());
        }
    }
}

impl<D> Drop for Ahead<D> {
    fn drop(&mut self) {
        lock(&self.slots).clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that opens databases panicked; its message is above");
            }
        }
    }
}

type Begun<D> = (TaskId, Vec<StoreSpec>, std::sync::mpsc::Sender<Result<D, Error>>);

fn next<D>(slots: &Slots<D>) -> Option<Begun<D>> {
    let mut slots = lock(slots);
    let (task, slot) = slots.iter_mut().find(|(_, slot)| slot.opening.is_none())?;
    let (done, opening) = channel();
    slot.opening = Some(opening);
    Some((*task, slot.stores.clone(), done))
}

fn lock<D>(slots: &Slots<D>) -> MutexGuard<'_, BTreeMap<TaskId, Slot<D>>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn task(partition: u32) -> TaskId {
        TaskId { subtopology: 0, partition }
    }

    fn stores(name: &str) -> Vec<StoreSpec> {
        vec![StoreSpec { name: name.to_owned(), cached: true, persistent: true, changelog: None, expiry: None }]
    }

    /// Opens six tasks, the second of which is damaged; counts those that are open.
    fn six() -> (Ahead<Arc<()>>, Arc<()>) {
        let (mut ahead, open) = (Ahead::none(), Arc::new(()));
        let tasks = (0..6).map(|partition| (task(partition), stores("counts"))).collect();
        let opened = Arc::clone(&open);
        let damaged = || Err(Error::Fatal("damaged".to_owned()));
        let make = move |id, _: &[StoreSpec]| if id == task(1) { damaged() } else { Ok(Arc::clone(&opened)) };
        ahead.begin(tasks, make).expect("threads");
        (ahead, open)
    }

    #[test]
    fn each_is_had_once_but_for_what_cannot_be_opened() {
        let (ahead, _) = six();
        // Whoever asks before a thread has begun opens it.
        let had = |partition| match ahead.take(task(partition), &stores("counts")) {
            Some(_) => true,
            None => lock(&ahead.slots).contains_key(&task(partition)),
        };
        assert!(!had(1));
        assert!(!had(6));
        while lock(&ahead.slots).values().any(|slot| slot.opening.is_none()) {
            thread::yield_now();
        }
        assert!(had(5));
        assert!(!had(5));
    }

    #[test]
    fn one_with_other_stores_is_closed_before_it_is_opened_again() {
        let (mut ahead, open) = (Ahead::none(), Arc::new(AtomicUsize::new(0)));
        struct Open(Arc<AtomicUsize>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let opened = Arc::clone(&open);
        let make = move |_, _: &[StoreSpec]| {
            opened.fetch_add(1, Ordering::SeqCst);
            Ok(Open(Arc::clone(&opened)))
        };
        ahead.begin(vec![(task(0), stores("counts"))], make).expect("threads");
        assert!(ahead.take(task(0), &stores("others")).is_none());
        assert_eq!(open.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn those_of_others_are_closed() {
        let (ahead, open) = six();
        ahead.keep(|id| *id == task(0));
        assert_eq!(lock(&ahead.slots).keys().copied().collect::<Vec<_>>(), [task(0)]);
        drop(ahead);
        assert_eq!(Arc::strong_count(&open), 1);
    }
}
