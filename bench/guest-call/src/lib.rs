//! One task of the reference topology, called through the contract or natively: what is between the two is what a module
//! costs. Run by `./mill bench guest-call` and `./mill test guest-call`.
//!
//! Both sides are a [`Task`] of the engine over a database in memory, fed the same chunks, with every update forwarded
//! to a log that drops it. They differ in the [`Guest`] alone. On one side it is the compiled component in wasmtime, as
//! the host runs it; on the other the same SDK and the same topology, compiled for the machine and called by the same
//! task directly.

mod task;
pub mod cases;
pub mod instructions;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use millrace_engine::ports::Guest;
use millrace_engine::record::TaskId;
use millrace_engine::task::TaskSpec;
use millrace_engine::topology::{Partitioning, Plan};
use millrace_runtime::guest::{Limits, Module, Settings, TaskInfo};

pub use task::Calls;

/// The reference topology itself, compiled into this crate.
#[path = "../../../guest-wordcount/src/lib.rs"]
mod wordcount;

const APPLICATION: &str = "guest-call";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Native,
    Contract,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Contract => "contract",
        })
    }
}

/// Makes the tasks that are compared.
pub struct Bench {
    module: Module,
    spec: TaskSpec,
}

impl Bench {
    /// Compiles the module, which is the reference topology as a component.
    pub fn new(module: &[u8]) -> Result<Self> {
        // The defaults of the configuration.
        let limits = Limits {
            memory_bytes: 256 << 20,
            call_timeout: Duration::from_secs(5),
            output_bytes: 64 << 20,
            state_bytes: 64 << 20,
        };
        let settings = Settings { application_id: APPLICATION.to_owned(), environment: Vec::new(), limits };
        let module = Module::load(module, settings, None).context("load the module")?;
        let plan = Plan::new(APPLICATION, module.describe().context("describe the module")?)?;
        let counts = plan.external_topics().into_iter().map(|topic| (topic.to_owned(), 1)).collect();
        let partitioning = Partitioning::new(&plan, &counts)?;
        let id = TaskId { subtopology: 0, partition: 0 };
        let spec = partitioning.task_spec(&plan, id, &[0], false).context("the topology has one task")?;
        Ok(Self { module, spec })
    }

    /// A task whose store has all keys, to be called with so many records at a time.
    pub fn calls(&self, side: Side, batch: usize) -> Result<Calls> {
        Calls::new(&self.spec, self.guest(side)?, batch).with_context(|| format!("{side}, {batch} records a call"))
    }

    fn guest(&self, side: Side) -> Result<Box<dyn Guest>> {
        let spec = &self.spec;
        match side {
            Side::Contract => {
                let topics = spec.inputs.iter().map(|input| input.name.clone()).collect();
                Ok(self.module.instantiate(TaskInfo {
                    id: spec.id,
                    topics,
                    caching: spec.caching,
                    usage: std::sync::Arc::default(),
                    log: std::sync::Arc::default(),
                }))
            }
            Side::Native => {
                let topology = millrace::module::Declares::declare(&wordcount::topology);
                let topology = topology.map_err(|error| anyhow!("{error}"))?;
                Ok(millrace::module::native(topology, spec))
            }
        }
    }
}
