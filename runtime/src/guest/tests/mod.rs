//! Tests of the guest adapter against a real wasmtime and real components.

mod load;
mod calls;
mod faults;
mod many;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use millrace_engine::context::{CallLimits, Context};
use millrace_engine::memory::Memory;
use millrace_engine::ports::{Fault, FaultKind, Guest};
use millrace_engine::record::{Batch, Column, Input, Output, TaskId};
use millrace_engine::task::{Settings as TaskSettings, StoreSpec, Task, TaskSpec};

use super::{Limits, Module, ModuleError, Settings, TaskInfo};

/// The component of a package of this workspace, built if it is missing or older than its sources.
fn component(package: &str) -> Arc<[u8]> {
    static BUILT: Mutex<BTreeMap<String, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = built.entry(package.to_owned()).or_insert_with(|| {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--profile", "module", "--target", "wasm32-wasip2", "--message-format=json", "-p", package])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "build {package}: {}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let files = messages.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
        let wasm = files.filter_map(|file| file.as_str().map(str::to_owned)).filter(|file| file.ends_with(".wasm"));
        std::fs::read(wasm.reduce(|_, last| last).expect("the package is a component")).unwrap().into()
    });
    bytes.clone()
}

fn hostile() -> Arc<[u8]> {
    component("guest-hostile")
}

/// Small, so that attacks meet them soon; the time is that of an idle machine many times over.
const LIMITS: Limits = Limits {
    memory_bytes: 32 << 20,
    call_timeout: Duration::from_millis(1_000),
    output_bytes: 4 << 20,
    state_bytes: 1 << 20,
};

fn settings(environment: &[(&str, &str)]) -> Settings {
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Settings { application_id: "hostile-app".to_owned(), environment, limits: LIMITS }
}

fn module(environment: &[(&str, &str)]) -> Module {
    static PLAIN: OnceLock<Module> = OnceLock::new();
    let load = || Module::load(&hostile(), settings(environment), None).unwrap();
    if environment.is_empty() { PLAIN.get_or_init(load).clone() } else { load() }
}

fn task(partition: u32) -> TaskInfo {
    TaskInfo {
        id: TaskId { subtopology: 0, partition },
        topics: vec!["in".to_owned()],
        caching: false,
        usage: Arc::default(),
        log: Arc::default(),
    }
}

/// What a task with one store lends to its instance. The task is gone; its context is whole.
fn context_with(store: &str) -> Context {
    let spec = TaskSpec {
        id: task(1).id,
        application_id: "hostile-app".to_owned(),
        inputs: Vec::new(),
        stores: vec![StoreSpec {
            name: store.to_owned(),
            cached: false,
            persistent: false,
            changelog: None,
            expiry: None,
        }],
        outputs: BTreeMap::new(),
        dynamic_sinks: false,
        partition_counts: Arc::new(BTreeMap::from([("in".to_owned(), 4)])),
        caching: false,
    };
    let call = CallLimits { state_bytes: LIMITS.state_bytes, answer_bytes: LIMITS.state_bytes };
    let settings = TaskSettings { call, ..TaskSettings::default() };
    let database = Box::new(Memory::new([store.to_owned()]));
    let guest = module(&[]).instantiate(task(1));
    let mut lender = Task::new(Arc::new(spec), Arc::new(settings), guest, database);
    std::mem::take(lender.state())
}

fn context() -> Context {
    context_with("store")
}

/// An instance that is ready to process, and its context.
fn ready(environment: &[(&str, &str)]) -> (Box<dyn Guest>, Context) {
    let mut guest = module(environment).instantiate(task(1));
    let mut context = context();
    guest.reset(&mut context).unwrap();
    (guest, context)
}

/// Records of one topic with these values.
fn input(values: &[&str]) -> Input {
    let count = values.len();
    Input {
        topics: vec![0; count],
        offsets: (0..count).map(|n| i64::try_from(n).unwrap()).collect(),
        records: Batch {
            keys: values.iter().map(|_| None).collect(),
            values: values.iter().map(|value| Some(value.as_bytes())).collect::<Column>(),
            timestamps: vec![0; count],
            headers: Vec::new(),
        },
    }
}

fn process(guest: &mut Box<dyn Guest>, context: &mut Context, values: &[&str]) -> Result<Vec<Output>, Fault> {
    let mut lent = input(values);
    let outputs = guest.process(&mut lent, context);
    assert_eq!(lent, input(values), "the input comes back as it was");
    outputs
}

/// The value of each record of the outputs.
fn said(outputs: &[Output]) -> Vec<String> {
    let values = outputs.iter().flat_map(|output| output.records.values.iter());
    values.map(|value| String::from_utf8_lossy(value.unwrap()).into_owned()).collect()
}
