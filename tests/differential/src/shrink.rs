//! Owns making a failing case smaller: all cases with one piece less are tried in one go, the first
//! that still differs is kept, until none is left. Must not know how a case is run.

use crate::case::{Case, Operator, Step, StepId};

/// At most this many rounds, because each starts a JVM.
const ROUNDS: usize = 60;

/// `first_failing` answers the position of the first case that is valid and still differs.
pub fn shrink(case: &Case, mut first_failing: impl FnMut(&[Case]) -> Option<usize>) -> Case {
    let mut smallest = case.clone();
    for _ in 0..ROUNDS {
        let mut smaller = candidates(&smallest);
        let Some(found) = first_failing(&smaller) else { break };
        smallest = smaller.swap_remove(found);
    }
    smallest
}

/// Big cuts first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    let count = case.events.len();
    for size in [count / 2, count / 4, 1] {
        let starts = (0..count).step_by(size.max(1)).filter(|_| size > 0 && (size > 1 || count < 40));
        cases.extend(starts.map(|start| {
            let kept = case.events.iter().enumerate().filter(|(index, _)| !(start..start + size).contains(index));
            Case { events: kept.map(|(_, event)| event.clone()).collect(), ..case.clone() }
        }));
    }
    for step in 0..case.steps.len() {
        cases.extend(without(case, step));
        cases.extend(bypassing(case, step));
    }
    for (index, smaller) in cases.iter_mut().enumerate() {
        smaller.name =
            format!("{}-{index}", case.name.split("-smaller").next().unwrap_or_default().to_owned() + "-smaller");
    }
    cases
}

/// The step and all that builds on it left out.
fn without(case: &Case, step: StepId) -> Option<Case> {
    let mut gone = vec![false; case.steps.len()];
    for (id, other) in case.steps.iter().enumerate() {
        gone[id] = id == step || other.operator.inputs().iter().any(|&input| gone[input]);
    }
    keep(case, &gone, |id| id)
}

/// What builds on the step put on the step's own input; Kafka Streams says whether that is a case.
fn bypassing(case: &Case, step: StepId) -> Option<Case> {
    let input = *case.steps[step].operator.inputs().first()?;
    let mut gone = vec![false; case.steps.len()];
    gone[step] = true;
    keep(case, &gone, |id| if id == step { input } else { id })
}

fn keep(case: &Case, gone: &[bool], redirect: impl Fn(StepId) -> StepId) -> Option<Case> {
    let renumbered = |id: StepId| (0..redirect(id)).filter(|&before| !gone[before]).count();
    let steps: Vec<Step> =
        case.steps.iter().zip(gone).filter(|(_, gone)| !**gone).map(|(step, _)| step.clone()).collect();
    if steps.is_empty() {
        return None;
    }
    let mut smaller = Case { steps, ..case.clone() };
    for step in &mut smaller.steps {
        step.operator.inputs_mut().into_iter().for_each(|input| *input = renumbered(*input));
    }
    let read: Vec<String> = smaller.steps.iter().flat_map(|step| topics_read(&step.operator)).collect();
    smaller.events.retain(|event| match event {
        crate::case::Event::Record(record) => read.contains(&record.topic),
        crate::case::Event::AdvanceWallClock { .. } => true,
    });
    Some(smaller)
}

fn topics_read(operator: &Operator) -> Vec<String> {
    match operator {
        Operator::Stream { topics, .. } => topics.clone(),
        Operator::Table { topic, .. } | Operator::GlobalTable { topic, .. } => vec![topic.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate;

    fn has_flat_map(case: &Case) -> bool {
        case.steps.iter().any(|step| matches!(step.operator, Operator::FlatMap { .. }))
    }

    #[test]
    fn what_does_not_matter_is_dropped() {
        let case = (0..).map(generate::case).find(has_flat_map).expect("the generator makes every operator");
        let small = shrink(&case, |cases| cases.iter().position(has_flat_map));
        assert_eq!((small.steps.len(), small.events.len()), (2, 0), "a source and the operator: {small:?}");
        let small = shrink(&case, |cases| cases.iter().position(|case| case.events.len() > 2));
        assert_eq!(small.events.len(), 3, "{small:?}");
    }
}
