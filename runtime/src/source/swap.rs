//! How the tasks of this member go on with another version of the module: in place where they can, made again on their
//! stores where they can't. The group does not hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millrace_engine::ports::{Error, Fault};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::task::Successor;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Advance, Placement, Source};
use crate::kafka::{ClientLog, create_with, number};
use crate::worker::{Order, Swapped};

/// How long to wait for one answer about a changelog: the group is not polled meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where changelogs begin and end.
type Bounds = BTreeMap<TopicPartition, (Offset, Offset)>;

struct Unanswered;

fn bounds(asker: &BaseConsumer<ClientLog>, changelogs: Vec<TopicPartition>) -> Result<Bounds, Unanswered> {
    let ask = |changelog: TopicPartition| match asker.fetch_watermarks(
        &changelog.topic,
        number(&changelog),
        ANSWER_TIMEOUT,
    ) {
        Ok((begin, end)) => Ok((changelog, (Offset(begin), Offset(end)))),
        Err(error) => {
            tracing::warn!(%changelog, %error, "ask where a changelog ends; the task is made again");
            Err(Unanswered)
        }
    };
    changelogs.into_iter().map(ask).collect()
}

/// Swaps that are under way, and what is to be swapped later.
#[derive(Default)]
pub(super) struct Swaps {
    /// Orders to workers that are not carried out yet.
    ordered: usize,
    so_far: Swapped,
    /// Tasks that may have been made of a version before: they were being restored.
    stale: BTreeSet<TaskId>,
    /// Tasks that the current version has failed on. They wait for another one.
    condemned: BTreeSet<TaskId>,
}

impl Source {
    /// Takes up the next version if there is one, as soon as it is known which tasks are at hand.
    pub(super) fn take_version(&mut self) -> Result<(), Error> {
        if !self.assigned || self.swaps.ordered > 0 {
            return Ok(());
        }
        let Some(Advance { partitioning, tasks }) = self.factory.advance()? else { return Ok(()) };
        let concerns = |id: &TaskId| tasks.as_ref().is_none_or(|tasks| tasks.contains(id));
        if tasks.is_none() {
            self.settings.partitioning = partitioning;
        }
        let restoring = self.placements.iter().filter(|(_, placement)| **placement == Placement::Restoring);
        self.swaps.stale.extend(restoring.map(|(id, _)| *id));
        let condemned = std::mem::take(&mut self.swaps.condemned);
        for number in 0..self.workers.len() {
            let here = |(id, placement): (&TaskId, &Placement)| {
                (*placement == Placement::At(number) && concerns(id) && !condemned.contains(id)).then_some(*id)
            };
            let tasks: Vec<TaskId> = self.placements.iter().filter_map(here).collect();
            self.order_swap(number, tasks.into_iter().map(|id| (id, Bounds::new())))?;
        }
        self.restorer.renew_standbys();
        self.reopen(&condemned.into_iter().collect::<Vec<_>>())
    }

    /// A task that was made of a version before is now at this worker.
    pub(super) fn swap_if_stale(&mut self, id: TaskId, worker: usize) -> Result<(), Error> {
        if self.swaps.stale.remove(&id) { self.order_swap(worker, [(id, Bounds::new())]) } else { Ok(()) }
    }

    fn order_swap(&mut self, worker: usize, tasks: impl IntoIterator<Item = (TaskId, Bounds)>) -> Result<(), Error> {
        let inputs = |id| self.at_hand.tasks.get(&id).map_or(&[][..], Vec::as_slice);
        let successor = |(id, changelogs)| Ok(Successor { changelogs, ..self.factory.successor(id, inputs(id))? });
        let successors: Vec<Successor> = tasks.into_iter().map(successor).collect::<Result<_, Error>>()?;
        self.workers[worker].order(Order::Swap { successors });
        self.swaps.ordered += 1;
        Ok(())
    }

    /// A worker is through with its part.
    pub(super) fn swapped(&mut self, swapped: Swapped) -> Result<(), Error> {
        let Swapped { orders, pause, tasks, asks, mut reopen, refused } = swapped;
        self.swaps.ordered = self.swaps.ordered.saturating_sub(orders);
        let so_far = &mut self.swaps.so_far;
        so_far.pause = so_far.pause.max(pause);
        so_far.tasks += tasks;
        so_far.refused = so_far.refused.take().or(refused);
        reopen.extend(self.answer(asks)?);
        self.swaps.so_far.reopen.extend(&reopen);
        if self.swaps.ordered == 0 {
            let all = std::mem::take(&mut self.swaps.so_far);
            self.factory.swapped(all);
        }
        self.reopen(&reopen)
    }

    /// Swaps tasks that are to get another store, now that they can be told where its changelog ends. Gives back those that
    /// can't be told, and are to be made again.
    fn answer(&mut self, asks: Vec<(TaskId, Vec<TopicPartition>)>) -> Result<Vec<TaskId>, Error> {
        if asks.is_empty() || !self.assigned {
            return Ok(asks.into_iter().map(|(id, _)| id).collect());
        }
        let began = Instant::now();
        let (mut told, mut untold) = (BTreeMap::<usize, Vec<_>>::new(), Vec::new());
        let asker = create_with(&self.settings.clients.watermarks(), ClientLog, "client that asks for watermarks")?;
        for (id, changelogs) in asks {
            let Some(Placement::At(worker)) = self.placements.get(&id) else { continue };
            // One that did not answer would keep the source for each of them.
            let bounds = if untold.is_empty() { bounds(&asker, changelogs) } else { Err(Unanswered) };
            match bounds {
                Ok(bounds) => told.entry(*worker).or_default().push((id, bounds)),
                Err(Unanswered) => untold.push(id),
            }
        }
        let ms = began.elapsed().as_millis();
        tracing::debug!(tasks = told.values().map(Vec::len).sum::<usize>(), ms, "asked where changelogs end");
        for (worker, tasks) in told {
            self.order_swap(worker, tasks)?;
        }
        Ok(untold)
    }

    /// The module failed on a record of the task, and the policy is to stop. If the version is to be taken back for
    /// that, the task waits for the one that comes in its place.
    pub(super) fn condemn(&mut self, task: TaskId, fault: Fault) -> Result<(), Error> {
        if !self.factory.condemn(task, &fault) {
            return Err(Error::Guest(fault));
        }
        tracing::error!(%task, %fault, "the new version of the module fails: it is rolled back");
        self.swaps.condemned.insert(task);
        Ok(())
    }

    /// Makes tasks again, of the current version, on the state that they have.
    fn reopen(&mut self, tasks: &[TaskId]) -> Result<(), Error> {
        let here = tasks.iter().filter_map(|id| {
            self.placements.get(id)?;
            Some((*id, self.at_hand.tasks.get(id)?.clone()))
        });
        let here: Vec<(TaskId, Vec<usize>)> = here.collect();
        let tasks: Vec<TaskId> = here.iter().map(|(id, _)| *id).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        self.close(&tasks, true);
        if !self.assigned {
            // The next assignment makes them.
            return Ok(());
        }
        self.at_hand.tasks.extend(here);
        self.restore_again(&tasks, None)
    }
}
