//! Owns what a module writes to stdout and stderr: lines in the log, the last ones kept for fault
//! reports. Must not know why a module failed.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_engine::record::TaskId;
use tokio::io::AsyncWrite;
use tracing::{info, warn};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::status::GuestLog;

/// Longer lines are cut: they are somebody's records, or an attack.
const LINE_BYTES_MAX: usize = 4096;
/// Kept for the report of a fault: a panic message takes two or three.
const KEPT_LINES: usize = 8;
/// Written to the log per task and window; further ones are counted.
const LINES_PER_WINDOW: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// What may be written at once; WASI's own streams take as much.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Who writes, as fields of each line in the log.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) application: String,
    /// And where its lines are kept; `None`: a call that belongs to no task.
    pub(super) task: Option<(TaskId, Arc<GuestLog>)>,
    pub(super) module: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The lines of one task, across its instances.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<State>>);

struct State {
    writer: Writer,
    /// The line being written, of stdout and of stderr.
    open: [Vec<u8>; 2],
    kept: VecDeque<String>,
    window_start: Instant,
    in_window: u32,
    suppressed: u64,
}

impl Lines {
    pub(super) fn new(writer: Writer) -> Self {
        Self(Arc::new(Mutex::new(State {
            writer,
            open: [Vec::new(), Vec::new()],
            kept: VecDeque::new(),
            window_start: Instant::now(),
            in_window: 0,
            suppressed: 0,
        })))
    }

    pub(super) fn stdout(&self) -> LineStream {
        LineStream { lines: self.clone(), stream: Stream::Stdout }
    }

    pub(super) fn stderr(&self) -> LineStream {
        LineStream { lines: self.clone(), stream: Stream::Stderr }
    }

    /// The last lines, oldest first, and none of them again.
    pub(super) fn take_last(&self) -> Vec<String> {
        let mut state = self.state();
        state.end_line(Stream::Stdout);
        state.end_line(Stream::Stderr);
        state.kept.drain(..).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let line = &mut self.open[stream as usize];
            line.extend_from_slice(&text[..text.len().min(LINE_BYTES_MAX - line.len())]);
            if part.ends_with(b"\n") {
                self.end_line(stream);
            }
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = &mut self.open[stream as usize];
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if text.is_empty() {
            return;
        }
        self.log(stream, &text);
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(text);
    }

    fn log(&mut self, stream: Stream, line: &str) {
        let now = Instant::now();
        if now.saturating_duration_since(self.window_start) >= WINDOW {
            self.window_start = now;
            self.in_window = 0;
            if self.suppressed > 0 {
                let Writer { application, module, .. } = &self.writer;
                let task = self.writer.task.as_ref().map(|(id, _)| tracing::field::display(id));
                warn!(
                    application,
                    task,
                    module,
                    lines = self.suppressed,
                    "the module wrote more lines than are logged"
                );
                self.suppressed = 0;
            }
        }
        if self.in_window == LINES_PER_WINDOW {
            self.suppressed += 1;
            return;
        }
        self.in_window += 1;
        let Writer { application, module, task } = &self.writer;
        if let Some((id, log)) = task {
            log.add(*id, module, stream.name(), line);
        }
        let task = task.as_ref().map(|(id, _)| tracing::field::display(id));
        match stream {
            Stream::Stdout => info!(target: "module", application, task, module, stream = "stdout", "{line}"),
            Stream::Stderr => warn!(target: "module", application, task, module, stream = "stderr", "{line}"),
        }
    }
}

/// One of the two streams, as WASI wants it. Writing never waits.
#[derive(Clone)]
pub(super) struct LineStream {
    lines: Lines,
    stream: Stream,
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lines.state().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lines.state().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines::new(Writer { application: "a".to_owned(), task: None, module: "m".to_owned() })
    }

    #[test]
    fn keeps_the_last_lines_of_both_streams() {
        let lines = lines();
        for n in 0..20 {
            lines.state().write(Stream::Stdout, format!("out {n}\npartial").as_bytes());
            lines.state().write(Stream::Stdout, b"\n");
        }
        lines.state().write(Stream::Stderr, b"no end");
        let kept = lines.take_last();
        assert_eq!(kept.len(), KEPT_LINES);
        assert_eq!(kept[kept.len() - 3..], ["out 19", "partial", "no end"]);
        assert!(lines.take_last().is_empty());
    }

    #[test]
    fn cuts_long_lines_and_counts_too_many() {
        let lines = lines();
        for _ in 0..3 {
            lines.state().write(Stream::Stderr, &[b'x'; 3000]);
        }
        assert_eq!(lines.take_last(), ["x".repeat(LINE_BYTES_MAX)]);
        lines.state().write(Stream::Stderr, "line\n".repeat(1000).as_bytes());
        let state = lines.state();
        assert_eq!(u64::from(state.in_window) + state.suppressed, 1001);
        assert_eq!(state.in_window, LINES_PER_WINDOW);
    }
}
