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
        let records = input.topics[row..].iter().zip(&input.records.timestamps[row..]);
        let count = records.map(is_near).take_while(|near| *near).count();
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
        let (mut held, mut kept) = (Vec::new(), Vec::new());
        for (side, chunk) in sides.into_iter().enumerate() {
            let source = junction.sources[side];
            let Kind::Source { logic, .. } = &nodes[source].kind else { unreachable!("only sources read topics") };
            (run.node, run.batched) = (source, self.batched[source]);
            run.held = Some((junction.retains[side], Vec::new()));
            logic.read(chunk, run)?;
            held.push(run.held.take().map(|(_, rows)| rows).unwrap_or_default());
        }
        for (&node, rows) in junction.retains.iter().zip(&held) {
            run.node = node;
            kept.push(retaining(node).retain(rows, run)?);
        }
        run.node = junction.joins[1];
        let second = meeting(run.node).meet(&held[1], &kept[0], run)?;
        run.node = junction.joins[0];
        let first = meeting(run.node).meet(&held[0], &kept[1], run)?;
        meeting(run.node).forward([first, second], run)
    }
}
