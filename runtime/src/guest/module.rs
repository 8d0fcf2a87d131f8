//! Owns a compiled module: loading, describing, making instances. Must not know tasks beyond what
//! an instance is told of its own.

use std::fmt;
use std::sync::Arc;

use millrace_engine::ports::{Fault, Guest};
use millrace_engine::topology::Topology;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Store};

use super::bindings::{self, TopologyPre};
use super::cache::CodeCache;
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
    /// Compiles a component, unless its code is at hand, and checks that it fits the contract. Nothing of it runs yet.
    pub fn load(bytes: &[u8], settings: Settings, cache: Option<&CodeCache>) -> Result<Self, ModuleError> {
        error::check_preamble(bytes)?;
        let engine = engine().map_err(ModuleError::Host)?;
        let digest = digest(bytes);
        let component = match cache.and_then(|cache| cache.load(&engine, &digest)) {
            Some(component) => component,
            None => {
                let component = compile(&engine, bytes)?;
                cache.inspect(|cache| cache.store(&component, &digest));
                component
            }
        };
        let linker = host::linker(&engine).map_err(|e| ModuleError::Host(format!("{e:#}")))?;
        let pre = linker
            .instantiate_pre(&component)
            .and_then(TopologyPre::new)
            .map_err(|e| error::of_component(&component, &e))?;
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
            task: task.map(|task| (task.id, Arc::clone(&task.log))),
            module: self.0.digest[..SHORT_DIGEST].to_owned(),
        })
    }
}

/// What a component says of itself, whether this host can run it or not.
#[derive(Debug)]
pub struct Inspection {
    pub digest: String,
    pub exports: Vec<String>,
    pub imports: Vec<String>,
}

impl Inspection {
    pub fn of(bytes: &[u8]) -> Result<Self, ModuleError> {
        error::check_preamble(bytes)?;
        let engine = engine().map_err(ModuleError::Host)?;
        let component = compile(&engine, bytes)?;
        let ty = component.component_type();
        let mut exports: Vec<String> = ty.exports(&engine).map(|(name, _)| name.to_owned()).collect();
        let mut imports: Vec<String> = ty.imports(&engine).map(|(name, _)| name.to_owned()).collect();
        exports.sort();
        imports.sort();
        Ok(Self { digest: digest(bytes), exports, imports })
    }

    /// Versions of the contract that it names: one, if it was built properly.
    #[must_use]
    pub fn contracts(&self) -> Vec<&str> {
        let names = self.exports.iter().chain(&self.imports).map(String::as_str);
        let mut versions: Vec<&str> = names.filter_map(error::contract_version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

/// SHA-256 in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, ModuleError> {
    Component::from_binary(engine, bytes).map_err(|e| ModuleError::Damaged(format!("{e:#}")))
}

/// From now on the call's time counts.
pub(super) fn begin_call(store: &mut Store<Host>, limits: &Limits) {
    store.set_epoch_deadline(ticks(limits.call_timeout));
    store.data_mut().begin_call(limits);
}
