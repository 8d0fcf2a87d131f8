//! What the source tells the status of the process: where tasks are, and how far the partitions go that they read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_engine::record::TaskId;

use super::{Placement, Source};
use crate::kafka::last_seen_end;
use crate::status::{Stage, State};

/// How often it is told where partitions end.
const ENDS_INTERVAL: Duration = Duration::from_secs(1);

impl Source {
    /// To be called when a placement has changed.
    pub(super) fn tell_placements(&self) {
        let stage = |placement: &Placement| match placement {
            Placement::Restoring => Stage::Restoring,
            Placement::At(worker) if self.assigned => Stage::Running(*worker),
            Placement::At(_) => Stage::Suspended,
        };
        let active = self.placements.iter().map(|(id, placement)| (*id, stage(placement)));
        let standbys = self.standbys.iter().map(|id| (*id, Stage::Standby));
        let stages: BTreeMap<TaskId, Stage> = standbys.chain(active).collect();
        let restoring = self.placements.values().any(|placement| *placement == Placement::Restoring);
        let state = if self.assigned && !restoring { State::Running } else { State::Rebalancing };
        self.settings.status.place(state, &stages);
    }

    /// Tells of each partition where it ends, now and then. Nobody is asked: that is what came with its records.
    pub(super) fn tell_ends(&mut self) {
        if self.ends_told_at.elapsed() < ENDS_INTERVAL {
            return;
        }
        self.ends_told_at = Instant::now();
        for id in self.placements.keys() {
            let status = self.settings.status.task(*id);
            for partition in self.routes.of_task(*id) {
                if let Some(end) = last_seen_end(&self.consumer, partition) {
                    status.end(partition, end);
                }
            }
        }
    }
}
