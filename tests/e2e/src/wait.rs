//! Waiting for what can only be asked for, with a deadline that names what was waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// For anything that takes seconds on an idle machine; a busy one may need ten times that.
pub const LONG: Duration = Duration::from_secs(90);

/// Asks again and again until the answer is `Some`.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        // Often enough not to add to the time of a test, rarely enough not to load the broker that is being asked.
        thread::park_timeout(Duration::from_millis(50));
    }
}
