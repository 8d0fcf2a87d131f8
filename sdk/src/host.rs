//! Owns what the SDK asks of whoever runs a module: the imports of the component, or the engine's
//! context natively. Must not know which of them it is.

use crate::contract::{Clock, Column, Entries, Failure, Found, Header, Versions};

/// Until when the latest version of a key is valid.
pub(crate) const LATEST: i64 = i64::MAX;
/// What the host says of a version that the store's history does not go back to.
pub(crate) const NOT_PUT: i64 = i64::MIN;

/// The state and the services of the task at hand. A call that a component's host refuses traps;
/// natively the refusal comes back as a failure.
pub(crate) trait Host {
    /// A handle of the store, good for the rest of the call.
    fn open(&mut self, store: &str) -> Result<usize, Failure>;
    /// The value and timestamp of each key, in the order asked.
    fn get(&mut self, store: usize, keys: &Column) -> Result<Entries, Failure>;
    /// Written in order; a null value deletes. The headers are those of the entries, by index and in
    /// order, for the flush of a cached store.
    fn put(&mut self, store: usize, entries: &Entries, headers: &[Header]) -> Result<(), Failure>;
    /// At most `limit` entries of `from <= key < to`.
    fn scan(
        &mut self,
        store: usize,
        range: (Option<&[u8]>, Option<&[u8]>),
        reverse: bool,
        limit: u32,
    ) -> Result<Entries, Failure>;
    /// Of a versioned store, the version of each key that was valid at its time.
    fn get_as_of(&mut self, store: usize, keys: &Column, times: &[i64]) -> Result<Versions, Failure>;
    /// Puts versions in order, and says of each until when it is valid: [`LATEST`], or [`NOT_PUT`].
    fn put_versions(&mut self, store: usize, entries: &Entries) -> Result<Vec<i64>, Failure>;
    /// At most `limit` entries of each range, of as many ranges as the answer has room for.
    fn scan_each(&mut self, store: usize, from: &Column, to: &Column, limit: u32) -> Result<Found, Failure>;
    /// What each record with a value gets as headers in the store's changelog.
    fn set_changelog_headers(&mut self, store: usize, headers: &[Header]) -> Result<(), Failure>;
    fn schedule(&mut self, interval_ms: i64, clock: Clock, anchor: Option<i64>) -> Result<u32, Failure>;
    fn cancel(&mut self, schedule: u32);
    fn request_commit(&mut self);
    fn wall_clock_ms(&self) -> i64;
    /// A number kept for the task under a key, see [`Self::set_metadata`].
    fn metadata(&self, key: &str) -> Option<i64>;
    /// Keeps a number beside the task's offsets, never a lower one than before.
    fn set_metadata(&mut self, key: &str, value: i64) -> Result<(), Failure>;
    fn partition_count(&self, topic: &str) -> Option<u32>;
    fn dropped(&mut self, node: &str, reason: &str, count: u32);
}
