//! What happens when the group gives and takes partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use millrace_engine::assignment::{Assignment, AssignmentError, spread};
use millrace_engine::ports::{Committed, Error};
use millrace_engine::record::{Offset, TaskId, TopicPartition};
use millrace_engine::topology::OffsetReset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::janitor::Holdings;
use super::reach::Reaches;
use super::restore::{Request, Restored};
use super::{Placement, SUSPEND_TIMEOUT, Source};
use crate::kafka::{Rebalance, classify, classify_question, from_list, is_incremental, number, to_list};
use crate::worker::{Handle, Order};

/// What the group remembers of the partitions of a member.
pub(super) type CommittedOffsets = BTreeMap<TopicPartition, Committed>;

/// Where the consumer was told to begin.
pub(super) type Offsets = BTreeMap<TopicPartition, Offset>;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How often something is asked in all, and how long nobody is asked in between.
const ATTEMPTS: usize = 5;
const ATTEMPT_WAIT: Duration = Duration::from_millis(200);

impl Source {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) -> Result<(), Error> {
        let began = *self.rebalancing.get_or_insert_with(Instant::now);
        let incremental = is_incremental(&self.consumer);
        let ends = incremental || matches!(rebalance, Rebalance::Assigned(_));
        match rebalance {
            Rebalance::Revoked { partitions, lost } if incremental => self.taken(&partitions, lost),
            Rebalance::Revoked { lost, .. } => self.revoked(lost),
            Rebalance::Assigned(partitions) => self.assigned(&partitions),
        }?;
        if ends {
            self.rebalancing = None;
            let attributes =
                [("millrace.partitions", self.partitions.len()), ("millrace.tasks", self.placements.len())];
            self.settings.status.traces.ended("rebalance", began.elapsed(), attributes);
        }
        Ok(())
    }

    fn forget_partitions(&mut self) {
        self.assigned = false;
        self.routes.clear();
        self.reaches = Reaches::default();
        self.partitions.clear();
        self.full.clear();
    }

    /// Others may own the tasks already.
    pub(super) fn drop_all(&mut self) {
        self.forget_partitions();
        let all: Vec<TaskId> = self.placements.keys().copied().collect();
        self.close(&all, false);
    }

    /// Some partitions are taken away (the protocol is incremental). Their tasks commit and are closed, the others don't
    /// notice.
    fn taken(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Error> {
        let readers: BTreeSet<TaskId> =
            partitions.iter().filter_map(|partition| Some(self.reader_of(partition)?.0)).collect();
        let tasks: Vec<TaskId> = readers.into_iter().filter(|task| self.placements.contains_key(task)).collect();
        tracing::info!(lost, partitions = partitions.len(), tasks = tasks.len(), "partitions revoked");
        self.close(&tasks, !lost);
        for partition in partitions {
            self.partitions.remove(partition);
            self.full.remove(partition);
        }
        let all: Vec<TopicPartition> = self.partitions.iter().cloned().collect();
        self.route(&all);
        self.tell_holdings();
        self.unassign_the_rest().map_err(|error| classify("give up partitions", &error))
    }

    /// The group may take what was never read, because taking it up has failed.
    fn unassign_the_rest(&self) -> KafkaResult<()> {
        let mut rest = from_list(&self.consumer.assignment()?);
        rest.retain(|partition| !self.partitions.contains(partition));
        self.consumer.incremental_unassign(&to_list(&rest))
    }

    /// All partitions are taken away. Tasks commit while the group waits for us, and stay open in
    /// case they come back; what others may already own is dropped uncommitted.
    fn revoked(&mut self, lost: bool) -> Result<(), Error> {
        tracing::info!(lost, tasks = self.placements.len(), "partitions revoked");
        if lost {
            self.drop_all();
        } else {
            self.forget_partitions();
            self.tell_placements();
            let suspended = self.ask_workers(|done| Order::Suspend { done });
            if suspended.len() < self.workers.len() {
                self.workers.iter().for_each(Handle::end_lease);
            }
        }
        self.consumer.unassign().map_err(|error| classify("give up partitions", &error))
    }

    /// Tasks that came back go on, others are closed, new ones are restored. Their partitions are
    /// fetched from where the group says, paused until the task is restored.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.partitions.extend(partitions.iter().cloned());
        let all: Vec<TopicPartition> = self.partitions.iter().cloned().collect();
        let assignment = self.assignment(&all)?;
        let change = assignment.change_from(&self.at_hand);
        tracing::info!(
            partitions = all.len(),
            kept = change.keep.len(),
            closed = change.close.len(),
            started = change.start.len(),
            tasks = ?assignment.tasks.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "partitions assigned"
        );
        self.settings.status.rebalanced();
        self.close(&change.close.iter().copied().collect::<Vec<_>>(), false);
        self.at_hand = assignment;
        self.placements.extend(change.start.iter().map(|id| (*id, Placement::Restoring)));
        // The restore of a task takes its standby over.
        self.standbys.retain(|id| !change.start.contains(id));
        self.route(&all);
        // A task that starts may have partitions that were there before.
        let started = change.start.iter().flat_map(|id| self.routes.of_task(*id));
        let before: Vec<TopicPartition> = started.filter(|at| !partitions.contains(at)).cloned().collect();
        let mut committed = self.committed(&[partitions, &before].concat())?;
        self.resolve(&before, &mut committed)?;
        let fetched_from = self.fetch(partitions, &committed)?;
        fetched_from.iter().for_each(|(partition, offset)| self.reaches.begin(partition, *offset));
        self.restorer
            .restore(change.start.iter().map(|id| self.request(*id, &committed, &fetched_from, false)).collect());
        for worker in &self.workers {
            worker.order(Order::Resume);
        }
        self.assigned = true;
        self.tell_placements();
        self.tell_if_running();
        self.tell_holdings();
        // A static member that comes back gets what it had, whatever it asks for. Once it is there it is listened to.
        if std::mem::take(&mut self.settings.other_inputs) && !(self.settings.patterns && self.has_of_all(&all)) {
            self.subscribe()?;
        }
        Ok(())
    }

    /// Whether each topic that is asked for is among the partitions.
    fn has_of_all(&self, partitions: &[TopicPartition]) -> bool {
        let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
        self.settings.partitioning.subscription().all(|input| topics.contains(&*input.full_name))
    }

    fn assignment(&self, all: &[TopicPartition]) -> Result<Assignment, Error> {
        let partitioning = &self.settings.partitioning;
        let fatal = |error: AssignmentError| self.unless_of_patterns(error.to_string());
        if !is_incremental(&self.consumer) {
            return Assignment::of(partitioning, all).map_err(fatal);
        }
        let (assignment, lacking) = Assignment::so_far(partitioning, all).map_err(fatal)?;
        for lacking in lacking {
            tracing::info!(%lacking, "waiting for the rest of a task's partitions");
        }
        Ok(assignment)
    }

    /// This member runs other tasks than before, and may be the one to keep standbys of what it ran.
    fn tell_holdings(&self) {
        self.janitor.tell(self.holdings());
        if let Some(members) = &self.members {
            members.ask();
        }
    }

    pub(super) fn holdings(&self) -> Holdings {
        let topics = self.settings.partitioning.subscription();
        let internal: BTreeSet<_> = topics.filter(|input| input.repartition).map(|input| &input.full_name).collect();
        let repartitions = self.routes.partitions().filter(|partition| internal.contains(&partition.topic));
        let tasks = self.at_hand.tasks.keys().chain(&self.standbys);
        Holdings { tasks: tasks.copied().collect(), repartitions: repartitions.cloned().collect() }
    }

    /// Sets up where the records of these partitions go.
    fn route(&mut self, partitions: &[TopicPartition]) {
        self.routes.clear();
        let mut inputs: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            if let Some((task, _)) = self.reader_of(partition) {
                self.routes.add(partition.clone(), task);
                inputs.entry(task).or_default().push(partition.clone());
            }
        }
        self.reaches.keep(inputs);
    }

    /// Assigns the partitions to the consumer, those paused that belong to tasks which can't take records yet.
    fn fetch(&self, partitions: &[TopicPartition], committed: &CommittedOffsets) -> Result<Offsets, Error> {
        let mut fetched_from = Offsets::new();
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            let Some((_, reset)) = self.reader_of(partition) else { continue };
            let offset = match committed.get(partition) {
                Some(committed) => committed.offset,
                None => self.first_offset(partition, reset)?,
            };
            fetched_from.insert(partition.clone(), offset);
            list.add_partition_offset(&partition.topic, number(partition), rdkafka::Offset::Offset(offset.0))
                .map_err(|error| classify("name the partitions to read", &error))?;
        }
        let incremental = is_incremental(&self.consumer);
        let assigned = if incremental { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
        assigned.map_err(|error| classify("read the assigned partitions", &error))?;
        let not_yet = self.partitions.iter().filter(|partition| {
            let placement = self.reader_of(partition).and_then(|(task, _)| self.placements.get(&task));
            !matches!(placement, Some(Placement::At(_)))
        });
        let not_yet = to_list(not_yet);
        self.consumer.pause(&not_yet).map_err(|error| classify("pause partitions of restoring tasks", &error))?;
        if self.held {
            self.hold()?;
        }
        Ok(fetched_from)
    }

    /// Where to begin with a partition of which nothing is committed. It is asked for at once, so that
    /// the task has a position from its first record on.
    fn first_offset(&self, partition: &TopicPartition, reset: OffsetReset) -> Result<Offset, Error> {
        if reset == OffsetReset::None {
            return Err(Error::Fatal(format!(
                "nothing is committed for {partition}, and auto.offset.reset is none: set it to earliest or latest, or \
                 commit an offset for group {} with Kafka's tools",
                self.settings.application_id
            )));
        }
        let (begin, end) = patiently(|| {
            let answer = self.consumer.fetch_watermarks(&partition.topic, number(partition), REQUEST_TIMEOUT);
            answer.map_err(|error| classify_question(&format!("ask where {partition} begins and ends"), &error))
        })?;
        Ok(Offset(if reset == OffsetReset::Latest { end } else { begin }))
    }

    /// The task that reads a partition, and where it starts when nothing was committed.
    pub(super) fn reader_of(&self, partition: &TopicPartition) -> Option<(TaskId, OffsetReset)> {
        self.settings.partitioning.subtopologies().iter().find_map(|subtopology| {
            let input = subtopology.inputs.iter().find(|input| input.full_name == partition.topic)?;
            let task = TaskId { subtopology: subtopology.subtopology, partition: partition.partition };
            // What another subtopology wrote for this one is never skipped.
            let reset = if input.repartition { Some(OffsetReset::Earliest) } else { input.offset_reset };
            Some((task, reset.unwrap_or(self.settings.auto_offset_reset)))
        })
    }

    /// What the group committed for these partitions. The coordinator may be away for a while.
    fn committed(&self, partitions: &[TopicPartition]) -> Result<CommittedOffsets, Error> {
        let list = patiently(|| {
            let answer = self.consumer.committed_offsets(to_list(partitions), REQUEST_TIMEOUT);
            answer.map_err(|error| classify("ask the group for committed offsets", &error))
        })?;
        let mut committed = CommittedOffsets::new();
        for (partition, element) in partitions.iter().zip(list.elements()) {
            let doing = || format!("ask the group for the committed offset of {partition}");
            element.error().map_err(|error| classify(&doing(), &error))?;
            if let rdkafka::Offset::Offset(offset) = element.offset() {
                let metadata = element.metadata().to_owned();
                committed.insert(partition.clone(), Committed { offset: Offset(offset), metadata });
            }
        }
        Ok(committed)
    }

    fn request(&self, id: TaskId, committed: &CommittedOffsets, fetched_from: &Offsets, rebuild: bool) -> Request {
        let own = || self.routes.of_task(id);
        Request {
            id,
            inputs: self.at_hand.tasks.get(&id).cloned().unwrap_or_default(),
            committed: own().filter_map(|at| Some((at.clone(), committed.get(at)?.clone()))).collect(),
            fetched_from: own().filter_map(|at| Some((at.clone(), *fetched_from.get(at)?))).collect(),
            rebuild,
        }
    }

    /// Restores tasks again whose partitions are at hand, the corrupt one from nothing.
    pub(super) fn restore_again(&mut self, tasks: &[TaskId], corrupt: Option<TaskId>) -> Result<(), Error> {
        let partitions: Vec<TopicPartition> = tasks.iter().flat_map(|id| self.routes.of_task(*id)).cloned().collect();
        self.consumer
            .pause(&to_list(&partitions))
            .map_err(|error| classify("pause the partitions of a task", &error))?;
        let mut committed = self.committed(&partitions)?;
        self.resolve(&partitions, &mut committed)?;
        self.placements.extend(tasks.iter().map(|id| (*id, Placement::Restoring)));
        // The consumer is past what the tasks will need again, so it is told where to go whatever that is.
        let request = |id: &TaskId| self.request(*id, &committed, &Offsets::new(), corrupt == Some(*id));
        self.restorer.restore(tasks.iter().map(request).collect());
        self.tell_placements();
        Ok(())
    }

    /// Finds where to begin with those of which nothing is committed.
    fn resolve(&self, partitions: &[TopicPartition], committed: &mut CommittedOffsets) -> Result<(), Error> {
        for partition in partitions {
            if let (false, Some((_, reset))) = (committed.contains_key(partition), self.reader_of(partition)) {
                let offset = self.first_offset(partition, reset)?;
                committed.insert(partition.clone(), Committed { offset, metadata: String::new() });
            }
        }
        Ok(())
    }

    /// Hands a restored task to a worker and goes on reading its partitions.
    pub(super) fn adopt(&mut self, restored: Restored) -> Result<(), Error> {
        let id = restored.task.id();
        if self.placements.get(&id) != Some(&Placement::Restoring) {
            return Ok(());
        }
        let current = self.placements.iter().filter_map(|(id, placement)| match placement {
            Placement::At(worker) => Some((*id, *worker)),
            Placement::Restoring => None,
        });
        let workers = NonZeroUsize::new(self.workers.len()).unwrap_or(NonZeroUsize::MIN);
        let worker = spread(&[id].into(), workers, &current.collect()).get(&id).copied().unwrap_or_default();
        for (partition, offset) in &restored.seeks {
            self.consumer
                .seek(&partition.topic, number(partition), rdkafka::Offset::Offset(offset.0), REQUEST_TIMEOUT)
                .map_err(|error| classify(&format!("go to offset {offset} of {partition}"), &error))?;
            self.reaches.begin(partition, *offset);
        }
        let partitions: Vec<TopicPartition> = self.routes.of_task(id).cloned().collect();
        self.full.retain(|partition| !partitions.contains(partition));
        self.workers[worker].order(Order::Adopt(restored.task));
        self.placements.insert(id, Placement::At(worker));
        self.reaches.forget_told(id);
        self.swap_if_stale(id, worker)?;
        if !self.held {
            self.resume(partitions).map_err(|error| classify("read on after a restore", &error))?;
        }
        tracing::info!(task = %id, worker, running = self.running(), of = self.placements.len(), "task running");
        self.tell_placements();
        self.tell_if_running();
        Ok(())
    }

    fn running(&self) -> usize {
        self.placements.values().filter(|placement| **placement != Placement::Restoring).count()
    }

    /// Nothing is left to restore, be it because there was nothing to begin with.
    fn tell_if_running(&self) {
        let running = self.running();
        if running == self.placements.len() {
            tracing::info!(tasks = running, "state=RUNNING");
        }
    }

    /// Drops tasks wherever they are, after a commit if wanted, and waits until their stores are closed: the next thing
    /// may be to open them again.
    pub(super) fn close(&mut self, tasks: &[TaskId], commit: bool) {
        let (done, closed) = channel();
        let mut asked = Vec::new();
        for (number, worker) in self.workers.iter().enumerate() {
            let here = tasks.iter().filter(|id| self.placements.get(id) == Some(&Placement::At(number)));
            let tasks: Vec<TaskId> = here.copied().collect();
            if !tasks.is_empty() {
                worker.order(Order::Close { tasks, commit, done: done.clone() });
                asked.push(worker);
            }
        }
        let restoring = tasks.iter().filter(|id| self.placements.get(id) == Some(&Placement::Restoring));
        self.restorer.cancel(restoring.copied().collect());
        // What was restored just before that is not to be taken for a later restore.
        self.restored.extend(std::iter::from_fn(|| self.restorer.take_restored()));
        self.restored.retain(|restored| !tasks.contains(&restored.task.id()));
        let answered = asked.iter().take_while(|_| closed.recv_timeout(SUSPEND_TIMEOUT).is_ok()).count();
        if answered < asked.len() {
            tracing::error!("a worker did not close its tasks in time");
            asked.iter().for_each(|worker| worker.end_lease());
        }
        if commit {
            // Goes on with the tasks it keeps, also if its lease had to be ended.
            asked.iter().for_each(|worker| worker.order(Order::Resume));
        }
        for id in tasks {
            self.placements.remove(id);
            self.at_hand.tasks.remove(id);
        }
        self.tell_placements();
    }
}

/// Asks again what passes by itself: a topic that was just created may have no leader yet, and coordinators move.
fn patiently<T>(ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match ask() {
            Err(Error::Retry(reason)) => tracing::warn!(reason, "will try again"),
            answered => return answered,
        }
        std::thread::sleep(ATTEMPT_WAIT);
    }
    ask()
}
