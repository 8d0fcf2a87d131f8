//! Records that keep coming in while something is done to the deployment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use millrace_e2e::counts;
use millrace_e2e::kafka::Kafka;

/// Of each turn; ten turns a second and less.
const TURN: counts::Load = counts::Load { records: 500, keys: 2_000, value_size: 20, seed: 0 };

pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    #[must_use]
    pub fn start(kafka: &Kafka, topic: &str) -> Self {
        let (kafka, topic) = (kafka.clone(), topic.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for seed in 0.. {
                counts::Load { seed, ..TURN }.write(&kafka, &topic)?;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                thread::park_timeout(Duration::from_millis(100));
            }
            Ok(())
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; everything it wrote was acknowledged then.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("it was stopped before"))?;
        thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
