//! Which tasks this member keeps standbys of: asks who is in the group, on a thread of its own, and chooses. Must not
//! know how a standby is kept.
//!
//! A member notices nothing of most of what changes in its group (under a sticky assignor, say, or when a standby's
//! owner is another one now), so it asks again and again. Between two answers its standbys stay what they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_engine::assignment::{Member, standbys};
use millrace_engine::ports::Error;
use millrace_engine::record::TaskId;

use super::Source;
use crate::kafka::{GroupMember, Membership, member_id, members};

/// How late a change of the group may be noticed that did not change what this member runs.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same while the group is being rebalanced.
const UNSETTLED_INTERVAL: Duration = Duration::from_millis(500);
/// Also how long a stop may have to wait for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The group as it was a moment ago.
pub(super) struct Group {
    /// Which of the members this one is.
    own: String,
    members: Vec<GroupMember>,
}

pub(super) struct Members {
    ask: Sender<()>,
    answers: Receiver<Group>,
    thread: JoinHandle<()>,
}

impl Members {
    pub(super) fn start(
        membership: Arc<Membership>,
        group: String,
        instance_id: Option<String>,
    ) -> std::io::Result<Self> {
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        let work = move || {
            // Nobody is a member of anything before the first assignment.
            let mut next = asked.recv().map_err(|_| RecvTimeoutError::Disconnected);
            while next != Err(RecvTimeoutError::Disconnected) {
                let consumer = membership.consumer();
                let own = instance_id.clone().or_else(|| member_id(&consumer));
                let found = members(&consumer, &group, REQUEST_TIMEOUT);
                let wait = if let Ok(None) = found { UNSETTLED_INTERVAL } else { INTERVAL };
                match (own, found) {
                    // If nobody takes it, the process is ending.
                    (Some(own), Ok(Some(members))) => drop(answer.send(Group { own, members })),
                    (None, _) | (_, Ok(None)) => {}
                    (_, Err(Error::Retry(reason))) => tracing::debug!(reason, "standbys stay what they are"),
                    (_, Err(error)) => tracing::warn!("standbys stay what they are: {error}"),
                }
                next = asked.recv_timeout(wait);
            }
        };
        let thread = std::thread::Builder::new().name("members".to_owned()).spawn(work)?;
        Ok(Self { ask, answers, thread })
    }

    /// What this member runs has changed.
    pub(super) fn ask(&self) {
        if self.ask.send(()).is_err() {
            tracing::error!("the thread that asks for the members of the group ended unasked");
        }
    }

    /// The latest answer, if there is one that was not taken yet.
    fn take(&self) -> Option<Group> {
        self.answers.try_iter().last()
    }

    pub(super) fn stop(self) {
        drop(self.ask);
        if self.thread.join().is_err() {
            tracing::error!("the thread that asks for the members of the group panicked; its message is above");
        }
    }
}

impl Source {
    /// Keeps the standbys that this member is to have as the group is now.
    pub(super) fn choose_standbys(&mut self) {
        let Some(group) = self.members.as_ref().and_then(Members::take) else { return };
        // In the middle of a rebalance the answer is about the group as it was before.
        if !self.assigned {
            return;
        }
        let members: Vec<Member> = group.members.into_iter().map(|member| self.member(member)).collect();
        let mut chosen = standbys(&self.settings.partitioning, &members, &group.own, self.settings.standby_replicas);
        chosen.retain(|task| !self.placements.contains_key(task));
        if chosen == self.standbys {
            return;
        }
        let names = chosen.iter().map(ToString::to_string).collect::<Vec<_>>();
        tracing::info!(members = members.len(), tasks = ?names, "keeping standbys");
        self.restorer.keep_standbys(chosen.iter().map(|task| (*task, self.all_inputs(*task))).collect());
        self.standbys = chosen;
        self.tell_placements();
        self.janitor.tell(self.holdings());
    }

    /// Whoever runs a task with state has all inputs of it.
    fn all_inputs(&self, task: TaskId) -> Vec<usize> {
        let mut subtopologies = self.settings.partitioning.subtopologies().iter();
        let of_task = subtopologies.find(|subtopology| subtopology.subtopology == task.subtopology);
        (0..of_task.map_or(0, |subtopology| subtopology.inputs.len())).collect()
    }

    fn member(&self, member: GroupMember) -> Member {
        let tasks: BTreeSet<TaskId> = member.partitions.iter().filter_map(|at| Some(self.reader_of(at)?.0)).collect();
        Member { name: member.name, tasks }
    }
}
