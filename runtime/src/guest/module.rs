//! Owns a compiled module: loading, describing, making instances. Must not know tasks beyond what
//! an instance is told of its own.

use std::fmt;
use std::sync::Arc;

use millrace_engine::ports::{Fault, Guest};
use millrace_engine::topology::Topology;
use sha2::{Digest, Sha256};
use wasmtime::Store;
use wasmtime::component::Component;

use super::bindings::{self, TopologyPre};
use super::engine::{engine, ticks};
use super::error::{self, ModuleError};
use super::fault;
use super::host::{self, Host};
use super::instance::{Instance, TaskInfo};
use super::limits::{Limits, Meter};
use super::lines::{Lines, Writer};

/// Digits of the digest that stand in log lines.
const SHORT_DIGEST: usize = 12;

/// What the configuration says of a module.
#[derive(Clone)]
pub struct Settings {
    pub application_id: String,
    /// The variables that the module may read.
    pub environment: Vec<(String, String)>,
    pub limits: Limits,
}

/// A compiled module, shared by all tasks; cloning shares it.
#[derive(Clone)]
pub struct Module(Arc<Compiled>);

struct Compiled {
    pre: TopologyPre<Host>,
    digest: String,
    settings: Settings,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("digest", &self.0.digest).finish_non_exhaustive()
    }
}

impl Module {
    /// Compiles a component and checks that it fits the contract. Nothing of it runs yet.
    pub fn load(bytes: &[u8], settings: Settings) -> Result<Self, ModuleError> {
        error::check_preamble(bytes)?;
        let engine = engine().map_err(ModuleError::Host)?;
        let component = Component::from_binary(&engine, bytes).map_err(|e| ModuleError::Damaged(format!("{e:#}")))?;
        let linker = host::linker(&engine).map_err(|e| ModuleError::Host(format!("{e:#}")))?;
        let pre = linker
            .instantiate_pre(&component)
            .and_then(TopologyPre::new)
            .map_err(|e| error::of_component(&component, &e))?;
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(Arc::new(Compiled { pre, digest, settings })))
    }

    /// SHA-256 of the component, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The graph, from an instance made for that and thrown away.
    pub fn describe(&self) -> Result<Topology, ModuleError> {
        let lines = self.lines(None);
        let limits = self.limits();
        let call = |error: wasmtime::Error| {
            let fault = fault::of_trap(&error, "describe", limits);
            ModuleError::Faulty(Fault { lines: lines.take_last(), ..fault })
        };
        let mut store = self.store(&lines);
        let module = self.0.pre.instantiate(&mut store).map_err(call)?;
        match module.millrace_streams_module().call_describe(&mut store).map_err(call)? {
            Ok(topology) => Ok(topology.into()),
            Err(message) => Err(ModuleError::Undescribed(message)),
        }
    }

    /// An instance for a task. It has to be [`Guest::reset`] before it processes.
    #[must_use]
    pub fn instantiate(&self, task: TaskInfo) -> Box<dyn Guest> {
        let lines = self.lines(Some(&task));
        Box::new(Instance::new(self.clone(), task, lines))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.settings.limits
    }

    pub(super) fn application_id(&self) -> &str {
        &self.0.settings.application_id
    }

    /// A wasmtime store under limits, in which a call may be made right away.
    pub(super) fn store(&self, lines: &Lines) -> Store<Host> {
        let limits = self.limits();
        let host = Host::new(&self.0.settings.environment, lines, Meter::new(limits));
        let mut store = Store::new(self.0.pre.engine(), host);
        store.limiter(|host| &mut host.meter);
        store.set_hostcall_fuel(limits.copied_bytes());
        store.epoch_deadline_trap();
        begin_call(&mut store, limits);
        store
    }

    pub(super) fn instance(&self, store: &mut Store<Host>) -> wasmtime::Result<bindings::Topology> {
        self.0.pre.instantiate(store)
    }

    fn lines(&self, task: Option<&TaskInfo>) -> Lines {
        Lines::new(Writer {
            application: self.application_id().to_owned(),
            task: task.map(|task| task.id),
            module: self.0.digest[..SHORT_DIGEST].to_owned(),
        })
    }
}

/// From now on the call's time counts.
pub(super) fn begin_call(store: &mut Store<Host>, limits: &Limits) {
    store.set_epoch_deadline(ticks(limits.call_timeout));
    store.data_mut().begin_call(limits);
}
