//! Owns how a task becomes a standby: a copy that follows the changelogs of a task while that runs on another instance.
//! Must not know who decides where there are standbys, nor how changelogs are read.
//!
//! A standby is a restore without an end. Its stores go on from the positions they have, and what they take is written
//! with the new position, so that a crash repeats and skips nothing. When the task is to run here, it is restored as any
//! other ([`Task::restore`], with the same task, so that stores in memory keep what they have): only what it has not
//! read yet is left.
//!
//! **It forgets the stored input positions**, before it takes the first record. They say that the state is exactly that
//! at these offsets, and from now on it is what the changelogs say. Were they kept, then under at-least-once a standby
//! could be promoted while no input is committed beyond them (who ran the task had begun at an older offset, and did not
//! get as far). That reads as "nobody else had the task", inputs would go on at the stored offsets, and what the other
//! one has not processed up to there would be lost. Without them the plan says what holds: the state is that of
//! the changelogs, inputs go on where the group says.
//!
//! **Who ran the task before** has a database that ends in a whole commit, and follows from the position of that one.
//!
//! - Exactly-once: the position is after the last record of a committed transaction. What is beyond is read with
//!   `read_committed`: later transactions, or nothing of them. What this instance had under way was aborted.
//! - At-least-once: up to the position the changelog says what the database has. What is beyond is of other
//!   instances, or of this one, which wrote it to the changelog and did not come to write it here. The other
//!   instance that runs the task now was restored from the same changelog, or has the state without that tail and
//!   repairs it, by writing each key of it again. Either way a copy of the changelog is a copy of its state.
//!
//! A standby under at-least-once sees all that is written, also what its writer will write again after a crash:
//! as any restore from a changelog does.

use crate::ports::Error;
use crate::record::Offset;
use crate::restore::{Range, position};
use crate::task::{Chunk, Phase, Task};

impl Task {
    /// Becomes a standby: [`Phase::Standby`]. What was uncommitted is dropped. `changelogs` says of each store where its
    /// changelog begins and ends, as in [`Facts`]. From then on [`Task::replays`] names all changelogs and what is to
    /// be read of them next, and [`Task::replay`] takes it.
    ///
    /// A store without a changelog is left as it is. If this fails the task is to be dropped.
    ///
    /// [`Facts`]: crate::restore::Facts
    pub fn follow(&mut self, changelogs: &[Option<(Offset, Offset)>]) -> Result<(), Error> {
        self.begin(Phase::Standby)?;
        let stored = self.stored_positions()?;
        self.context.overlay().database()?.forget_inputs()?;
        let spec = self.spec.clone();
        for (store, known) in spec.stores.iter().enumerate() {
            let Some(bounds) = changelogs.get(store).copied().flatten() else { continue };
            if let Some(next) = position(&stored, known, bounds) {
                self.restoration.ranges.push(Range { store, next, to: None, repair: false });
                continue;
            }
            self.context.overlay().database()?.clear(store)?;
            self.restoration.ranges.push(Range { store, next: bounds.0, to: None, repair: false });
            self.replay(store, &Chunk::default(), bounds.0)?;
        }
        Ok(())
    }
}
