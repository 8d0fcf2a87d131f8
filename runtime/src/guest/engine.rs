//! Owns the process's wasmtime engine and the thread that lets time pass for it. Must not know
//! modules.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel, WasmBacktraceDetails};

/// How finely the time of a call is measured. A hundred wake-ups a second cost nothing, and call
/// limits are seconds.
const TICK: Duration = Duration::from_millis(10);

/// Wasm code and the host functions it calls share the stack of the thread, 2 MiB unless asked
/// otherwise; this is the part of the wasm code.
const STACK_BYTES: usize = 512 << 10;

static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();

/// One engine for all modules of the process: nothing in it depends on the configuration, and a
/// module swapped in while another runs shares the ticker.
pub(super) fn engine() -> Result<Engine, String> {
    ENGINE.get_or_init(|| start().map_err(|error| format!("{error:#}"))).clone()
}

/// The epochs that pass in `time`, and one more, because the first may end right away.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).saturating_add(1)
}

fn start() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES);
    // With 4 GiB of addresses reserved for a memory, loads and stores need no bounds checks, and
    // the memory never moves. Reserved is not used: 512 instances reserve 2 TiB of the 128 TiB a
    // process has, and only pages that were written take memory.
    config.memory_reservation(4 << 30);
    config.memory_guard_size(32 << 20);
    config.memory_may_move(false);
    // Guards before a memory protect from bugs of the compiler at the price of more mappings each.
    config.guard_before_linear_memory(false);
    // Instances share the pages of their initial memory until they write to them.
    config.memory_init_cow(true);
    // Calls are synchronous: a store need not be prepared for anything else.
    config.concurrency_support(false);
    // Function names are enough for a fault report; the default asks an environment variable.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    let engine = Engine::new(&config)?;
    let ticking = engine.clone();
    thread::Builder::new().name("module-epochs".to_owned()).spawn(move || {
        loop {
            thread::park_timeout(TICK);
            ticking.increment_epoch();
        }
    })?;
    Ok(engine)
}
