//! Owns the last lines that modules wrote, of all tasks of the process. Must not know who writes, nor who reads.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use millrace_engine::record::TaskId;

/// With the longest lines 4 MiB.
const KEPT_LINES: usize = 1000;

/// One that went to the log of the process, too: what is over the limit there is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLine {
    /// Counts the lines of the process, from 1 on.
    pub number: u64,
    pub at: SystemTime,
    pub task: TaskId,
    /// The beginning of the module's digest.
    pub module: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    pub text: String,
}

/// Which lines are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    /// Lines after this number, the first of them.
    pub after: Option<u64>,
    /// Lines before this number, the last of them.
    pub before: Option<u64>,
    pub limit: usize,
}

#[derive(Debug, Default)]
pub struct GuestLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<GuestLine>,
    /// Of the last one.
    number: u64,
}

impl GuestLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, task: TaskId, module: &str, stream: &'static str, text: &str) {
        let (module, text, at) = (module.to_owned(), text.to_owned(), SystemTime::now());
        let mut kept = self.kept();
        kept.number += 1;
        let number = kept.number;
        if kept.lines.len() == KEPT_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(GuestLine { number, at, task, module, stream, text });
    }

    /// In their order. Without `after` the last ones.
    #[must_use]
    pub fn cut(&self, cut: Cut) -> Vec<GuestLine> {
        let kept = self.kept();
        let lines = kept.lines.iter().filter(|line| {
            cut.after.is_none_or(|number| line.number > number) && cut.before.is_none_or(|number| line.number < number)
        });
        if cut.after.is_some() {
            return lines.take(cut.limit).cloned().collect();
        }
        let mut last: Vec<_> = lines.rev().take(cut.limit).cloned().collect();
        last.reverse();
        last
    }

    /// The numbers of the oldest and of the newest line that are kept; `None`: nothing was written.
    #[must_use]
    pub fn ends(&self) -> Option<(u64, u64)> {
        let kept = self.kept();
        Some((kept.lines.front()?.number, kept.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(log: &GuestLog, cut: Cut) -> Vec<u64> {
        log.cut(cut).into_iter().map(|line| line.number).collect()
    }

    #[test]
    fn lines_are_turned_page_by_page_and_the_oldest_go() {
        let log = GuestLog::default();
        assert_eq!((log.ends(), log.cut(Cut { limit: 3, ..Cut::default() })), (None, Vec::new()));
        for number in 1..=KEPT_LINES as u64 + 5 {
            log.add(TaskId { subtopology: 0, partition: 0 }, "m", "stdout", &format!("line {number}"));
        }
        assert_eq!(log.ends(), Some((6, 1005)));
        let limit = 3;
        assert_eq!(numbers(&log, Cut { limit, ..Cut::default() }), [1003, 1004, 1005]);
        assert_eq!(numbers(&log, Cut { before: Some(1003), limit, ..Cut::default() }), [1000, 1001, 1002]);
        assert_eq!(numbers(&log, Cut { after: Some(2), limit, ..Cut::default() }), [6, 7, 8]);
        assert_eq!(numbers(&log, Cut { after: Some(1004), limit, ..Cut::default() }), [1005]);
        assert_eq!(log.cut(Cut { after: Some(5), limit: 1, ..Cut::default() })[0].text, "line 6");
    }
}
