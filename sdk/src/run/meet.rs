//! Owns the way of records of two sources that meet many at a time at a junction. Must not know how they are joined.

use super::plan::Junction;
use super::{Chunk, Instance, Run};
use crate::contract::{Failure, Input};
use crate::topology::Kind;

impl Instance {
    pub(super) fn is_second(&self, junction: &Junction, input: &Input, row: usize) -> bool {
        self.sources.get(input.topics[row] as usize) == Some(&junction.sources[1])
    }

    /// How many records from a row on, of both sources of a junction, may meet at once; 0: only one source has any there.
    pub(super) fn meeting(&self, junction: &Junction, input: &Input, row: usize) -> usize {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let is_near = |(topic, &time): (&u32, &i64)| {
            (first, last) = (first.min(time), last.max(time));
            let source = self.sources.get(*topic as usize);
            source.is_some_and(|source| junction.sources.contains(source))
                && last.saturating_sub(first) < junction.span_ms
        };
        let count =
            input.topics[row..].iter().zip(&input.records.timestamps[row..]).map(is_near).take_while(|near| *near);
        let count = count.count();
        let second = self.is_second(junction, input, row);
        let both = (row..row + count).any(|row| self.is_second(junction, input, row) != second);
        if both { count } else { 0 }
    }

    /// Has records of both sides go as far as the join, and meet there.
    pub(super) fn meet(&self, junction: &Junction, sides: [Chunk; 2], run: &mut Run<'_>) -> Result<(), Failure> {
        let nodes = &self.topology.nodes;
        let inner = |node: usize| match &nodes[node].kind {
            Kind::Inner { logic, .. } => logic,
            _ => unreachable!("a join and what is before it are processors"),
        };
        let retaining = |node: usize| inner(node).as_retaining().expect("a junction has nodes that retain");
        let meeting = |node: usize| inner(node).as_meeting().expect("a junction has nodes at which records meet");
        let mut held = [Vec::new(), Vec::new()];
        for (chunk, (&node, (&retain, held))) in
            sides.into_iter().zip(junction.sources.iter().zip(junction.retains.iter().zip(&mut held)))
        {
            let Kind::Source { logic, .. } = &nodes[node].kind else { unreachable!("only sources read topics") };
            (run.node, run.batched) = (node, self.batched[node]);
            run.held = Some((retain, Vec::new()));
            logic.read(chunk, run)?;
            *held = run.held.take().map(|(_, rows)| rows).unwrap_or_default();
        }
        let [first, second] = &held;
        run.node = junction.retains[0];
        let first_kept = retaining(run.node).retain(first, run)?;
        run.node = junction.retains[1];
        let second_kept = retaining(run.node).retain(second, run)?;
        run.node = junction.joins[1];
        let second = meeting(run.node).meet(second, &first_kept, run)?;
        run.node = junction.joins[0];
        let first = meeting(run.node).meet(first, &second_kept, run)?;
        meeting(run.node).forward([first, second], run)
    }
}
