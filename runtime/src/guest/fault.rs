//! Owns what a failed call means: traps, limits and failures handed back become faults. Must not
//! decide what becomes of the record.

use millrace_engine::ports::{Fault, FaultKind};
use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::bindings::exports::millrace::streams::module as exported;
use super::convert::Unacceptable;
use super::host::Misused;
use super::limits::{Limits, MemoryExceeded};

/// Longer messages are cut: they go to the log, to metrics and into headers.
const MESSAGE_BYTES_MAX: usize = 4096;
const NODE_BYTES_MAX: usize = 256;
/// The functions that led to an endless loop or to a trap; where it was is among the first.
const FRAMES_MAX: usize = 8;

/// A call that did not return.
pub(super) fn of_trap(error: &Error, call: &str, limits: &Limits) -> Fault {
    let (kind, what) = classify(error, limits);
    let mut message = format!("the module failed in `{call}`: {what}");
    if let Some(frames) = frames(error) {
        message.push_str("; in ");
        message.push_str(&frames);
    }
    Fault::new(kind, cut(message, MESSAGE_BYTES_MAX))
}

/// A failure that the module handed back, on one of `rows` records.
pub(super) fn of_failure(failure: exported::Failure, rows: usize) -> Fault {
    let exported::Failure { fault, index, node, message } = failure;
    let kind = match fault {
        exported::Fault::Deserialization => FaultKind::Deserialization,
        exported::Fault::Processing => FaultKind::Processing,
        exported::Fault::Serialization => FaultKind::Serialization,
    };
    // An index beyond the records says as much as none.
    let index = index.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < rows);
    let node = node.map(|node| cut(node, NODE_BYTES_MAX));
    Fault { index, node, ..Fault::new(kind, cut(message, MESSAGE_BYTES_MAX)) }
}

/// Outputs that the contract does not allow.
pub(super) fn of_output(Unacceptable { kind, message }: Unacceptable, call: &str) -> Fault {
    Fault::new(kind, cut(format!("the module failed in `{call}`: {message}"), MESSAGE_BYTES_MAX))
}

fn classify(error: &Error, limits: &Limits) -> (FaultKind, String) {
    if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
        return (FaultKind::Memory, exceeded.to_string());
    }
    if let Some(misused) = error.downcast_ref::<Misused>() {
        return (FaultKind::Trap, misused.to_string());
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return (FaultKind::Trap, format!("it called exit({code})"));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            let allowed = limits.call_timeout.as_millis();
            (FaultKind::Timeout, format!("it took longer than the {allowed} ms allowed by module.call.timeout.ms"))
        }
        Some(Trap::UnreachableCodeReached) => (FaultKind::Trap, "it panicked or aborted".to_owned()),
        Some(trap) => (FaultKind::Trap, trap.to_string()),
        None => of_host(error, limits),
    }
}

/// Errors of wasmtime itself, which have no type to tell them by.
fn of_host(error: &Error, limits: &Limits) -> (FaultKind, String) {
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls") {
        let what = format!("it handed over more than {} bytes in one call", limits.copied_bytes());
        return (FaultKind::Flood, what);
    }
    (FaultKind::Trap, cause)
}

/// The functions it failed in, innermost first.
fn frames(error: &Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    // Its lines are `  0:   0x2a - module!function`, with the names demangled.
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| line.split_once('!').map(|(_, name)| without_hash(name)));
    let names: Vec<&str> = names.take(FRAMES_MAX).collect();
    (!names.is_empty()).then(|| names.join(" < "))
}

/// Rust tells instances of a function apart by `::h` and 16 digits, which nobody needs here.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
