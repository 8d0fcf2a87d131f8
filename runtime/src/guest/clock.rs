//! Owns the monotonic clock a module sees: WASI's, but nothing can be waited for longer than the
//! call at hand may take. Must not know what the call is.
//!
//! The epoch deadline stops wasm code, not a host call that waits on behalf of it: without this a
//! module that sleeps would hold its thread up for as long as it likes.

use std::time::Instant;

use wasmtime::Result;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::clocks::WasiClocksCtxView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;

pub(super) struct BoundedClock;

impl HasData for BoundedClock {
    type Data<'a> = BoundedClockView<'a>;
}

pub(super) struct BoundedClockView<'a> {
    pub(super) clocks: WasiClocksCtxView<'a>,
    /// When the call at hand has to be over.
    pub(super) deadline: Instant,
    /// Set when the module asked to wait for longer than that.
    pub(super) is_cut_short: &'a mut bool,
}

impl monotonic_clock::Host for BoundedClockView<'_> {
    fn now(&mut self) -> Result<monotonic_clock::Instant> {
        self.clocks.now()
    }

    fn resolution(&mut self) -> Result<monotonic_clock::Duration> {
        self.clocks.resolution()
    }

    fn subscribe_instant(&mut self, when: monotonic_clock::Instant) -> Result<Resource<DynPollable>> {
        let now = self.clocks.now()?;
        self.subscribe_duration(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, duration: monotonic_clock::Duration) -> Result<Resource<DynPollable>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        *self.is_cut_short |= duration > left;
        self.clocks.subscribe_duration(duration.min(left))
    }
}
