//! Owns the host's side of a call: the functions a module may import, forwarded to the context
//! that the task lends. Must not decide what they do.

use std::time::Instant;

use millrace_engine::context::{self as engine, Context, Misuse};
use millrace_engine::ports::StoreIndex;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Engine, Result};
use wasmtime_wasi::clocks::WasiClocksCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::Topology;
use super::bindings::millrace::streams::{context, graph, records, state};
use super::clock::{BoundedClock, BoundedClockView};
use super::convert;
use super::limits::{Limits, Meter};
use super::lines::Lines;

/// Handles a module may hold at a time: stores it opened, streams, things to wait for.
const HANDLES_MAX: usize = 1024;
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What is behind a store handle of the module.
#[allow(unreachable_pub, reason = "the bindings re-export it")]
pub struct OpenStore(StoreIndex);

/// The data of a wasmtime store.
pub(super) struct Host {
    /// The task's while it is in a call, an empty one between calls.
    pub(super) context: Context,
    pub(super) meter: Meter,
    /// When the call at hand has to be over.
    deadline: Instant,
    /// The call asked to wait for longer than it may take, so what it does after waiting is wrong.
    is_cut_short: bool,
    wasi: WasiCtx,
    handles: ResourceTable,
}

impl Host {
    /// A module gets clocks and random numbers, the variables of `environment`, and lines to write:
    /// no files, no network, no arguments, no stdin.
    pub(super) fn new(environment: &[(String, String)], lines: &Lines, meter: Meter) -> Self {
        let mut wasi = WasiCtx::builder();
        wasi.envs(environment);
        wasi.stdout(lines.stdout());
        wasi.stderr(lines.stderr());
        wasi.allow_tcp(false);
        wasi.allow_udp(false);
        wasi.allow_ip_name_lookup(false);
        wasi.max_random_size(RANDOM_BYTES_MAX);
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(HANDLES_MAX);
        let (context, deadline, wasi) = (Context::default(), Instant::now(), wasi.build());
        Self { context, meter, deadline, is_cut_short: false, wasi, handles }
    }

    /// From now on a call's time counts.
    pub(super) fn begin_call(&mut self, limits: &Limits) {
        self.deadline = Instant::now() + limits.call_timeout;
        self.is_cut_short = false;
    }

    /// Whether the call that has just returned did so only because its wait was cut short.
    pub(super) fn has_overslept(&self) -> bool {
        self.is_cut_short && Instant::now() >= self.deadline
    }
}

/// Everything a module can import.
pub(super) fn linker(engine: &Engine) -> Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::bindings::clocks::monotonic_clock::add_to_linker::<Host, BoundedClock>(&mut linker, |host| {
        let Host { deadline, is_cut_short, wasi, handles, .. } = host;
        let clocks = WasiClocksCtxView { ctx: wasi.clocks(), table: handles };
        BoundedClockView { clocks, deadline: *deadline, is_cut_short }
    })?;
    linker.allow_shadowing(false);
    Topology::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}

/// A host call the module was not entitled to make.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misused(pub(super) String);

impl From<Misuse> for Misused {
    fn from(misuse: Misuse) -> Self {
        Self(misuse.0)
    }
}

fn allowed<T>(result: std::result::Result<T, Misuse>) -> Result<T> {
    result.map_err(|misuse| Misused::from(misuse).into())
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.handles }
    }
}

impl records::Host for Host {}
impl graph::Host for Host {}
impl state::Host for Host {}

impl state::HostStore for Host {
    fn open(&mut self, name: String) -> Result<std::result::Result<Resource<OpenStore>, String>> {
        match self.context.store(&name) {
            Some(index) => Ok(Ok(self.handles.push(OpenStore(index))?)),
            None => Ok(Err(format!("the running subtopology has no store `{name}`"))),
        }
    }

    fn get(&mut self, store: Resource<OpenStore>, keys: records::Column) -> Result<state::Entries> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.get(index, &keys.into())).map(Into::into)
    }

    fn put(&mut self, store: Resource<OpenStore>, entries: state::Entries) -> Result<()> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.put(index, &entries.into()))
    }

    fn put_with_headers(
        &mut self,
        store: Resource<OpenStore>,
        entries: state::Entries,
        headers: Vec<records::Header>,
    ) -> Result<()> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.put_with_headers(index, &entries.into(), &convert::all(headers)))
    }

    fn scan(
        &mut self,
        store: Resource<OpenStore>,
        from: Option<Vec<u8>>,
        to: Option<Vec<u8>>,
        reverse: bool,
        limit: u32,
    ) -> Result<state::Entries> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.scan(index, (from.as_deref(), to.as_deref()), reverse, limit)).map(Into::into)
    }

    fn get_as_of(
        &mut self,
        store: Resource<OpenStore>,
        keys: records::Column,
        times: Vec<i64>,
    ) -> Result<state::Versions> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.get_as_of(index, &keys.into(), &times)).map(Into::into)
    }

    fn put_versions(&mut self, store: Resource<OpenStore>, entries: state::Entries) -> Result<Vec<i64>> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.put_versions(index, &entries.into()))
    }

    fn scan_each(
        &mut self,
        store: Resource<OpenStore>,
        from: records::Column,
        to: records::Column,
        limit: u32,
    ) -> Result<state::Found> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.scan_each(index, &from.into(), &to.into(), limit)).map(Into::into)
    }

    fn set_changelog_headers(&mut self, store: Resource<OpenStore>, headers: Vec<records::Header>) -> Result<()> {
        let index = self.handles.get(&store)?.0;
        allowed(self.context.set_changelog_headers(index, &convert::all(headers)))
    }

    fn drop(&mut self, store: Resource<OpenStore>) -> Result<()> {
        self.handles.delete(store)?;
        Ok(())
    }
}

impl context::Host for Host {
    fn schedule(&mut self, interval_ms: i64, clock: context::Clock, anchor: Option<i64>) -> Result<u32> {
        let clock = match clock {
            context::Clock::StreamTime => engine::Clock::StreamTime,
            context::Clock::WallClock => engine::Clock::WallClock,
        };
        allowed(self.context.schedule(interval_ms, clock, anchor))
    }

    fn cancel(&mut self, schedule: u32) -> Result<()> {
        self.context.cancel(schedule);
        Ok(())
    }

    fn request_commit(&mut self) -> Result<()> {
        self.context.request_commit();
        Ok(())
    }

    fn wall_clock_ms(&mut self) -> Result<i64> {
        Ok(self.context.wall_clock_ms())
    }

    fn metadata(&mut self, key: String) -> Result<Option<i64>> {
        Ok(self.context.metadata(&key))
    }

    fn set_metadata(&mut self, key: String, value: i64) -> Result<()> {
        allowed(self.context.set_metadata(&key, value))
    }

    fn partition_count(&mut self, topic: String) -> Result<Option<u32>> {
        Ok(self.context.partition_count(&topic))
    }

    fn dropped(&mut self, node: String, reason: String, count: u32) -> Result<()> {
        self.context.dropped(&node, &reason, count);
        Ok(())
    }
}
