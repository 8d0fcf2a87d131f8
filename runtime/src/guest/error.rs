//! Owns why a module is refused, and the remedy named to the operator. Must not know where the
//! module came from.

use millrace_engine::ports::Fault;
use wasmtime::component::Component;

/// The contract this host speaks, as it stands in names of interfaces.
pub const CONTRACT: &str = "0.1.0";
const PACKAGE: &str = "millrace:streams/";
const EXPORT: &str = "millrace:streams/module";

/// Packages of which the host offers all.
const OFFERED: [&str; 7] =
    ["millrace:streams", "wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("it is not a WebAssembly component: {0}; give the .wasm file that the build of the topology wrote")]
    NotWasm(String),
    #[error(
        "it is a core WebAssembly module, not a component; build it for the target wasm32-wasip2 \
         (`cargo build --release --target wasm32-wasip2`), or turn it into a component with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("it is truncated or damaged: {0}; build or download it again")]
    Damaged(String),
    #[error(
        "it was built for version {module} of the contract millrace:streams, this millrace has {host}; build it with the \
         SDK of this millrace, or run the millrace it was built for"
    )]
    Version { module: String, host: &'static str },
    #[error(
        "it is a component, but not a topology: it exports {}, and not millrace:streams/module@{CONTRACT}; build it with \
         the millrace SDK, or for the world `topology` of millrace:streams", or_nothing(.exports)
    )]
    NotATopology { exports: Vec<String> },
    #[error(
        "it imports {}, which the host does not offer: a topology has no network, no files and no other host functions \
         than those of millrace:streams and WASI 0.2", .0.join(", ")
    )]
    Imports(Vec<String>),
    #[error("it does not fit the contract millrace:streams@{CONTRACT}: {0}")]
    Misfit(String),
    #[error("it does not describe its topology: {0}")]
    Undescribed(String),
    #[error("it does not describe its topology: {0}")]
    Faulty(Fault),
    /// Not the module's doing.
    #[error("the host can't run modules: {0}")]
    Host(String),
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Refuses what is not a component by its first eight bytes.
pub(super) fn check_preamble(bytes: &[u8]) -> Result<(), ModuleError> {
    match bytes {
        [] => Err(ModuleError::NotWasm("it is empty".to_owned())),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ModuleError::CoreModule),
        [0, b'a', b's', b'm', _, _, _, _, ..] => {
            Err(ModuleError::NotWasm("it is of a version of WebAssembly that this millrace does not know".to_owned()))
        }
        _ if b"\0asm".starts_with(&bytes[..bytes.len().min(4)]) => {
            Err(ModuleError::Damaged(format!("it ends after {} bytes", bytes.len())))
        }
        _ => Err(ModuleError::NotWasm("it does not begin as one".to_owned())),
    }
}

/// Why a component can't be linked, as precisely as its names tell; `error` is wasmtime's reason.
pub(super) fn of_component(component: &Component, error: &wasmtime::Error) -> ModuleError {
    let ty = component.component_type();
    let engine = component.engine();
    let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let mut versions = exports.iter().chain(&imports).filter_map(|name| contract_version(name));
    if let Some(module) = versions.find(|version| !is_compatible(version)) {
        return ModuleError::Version { module: module.to_owned(), host: CONTRACT };
    }
    if !exports.iter().any(|name| name.split('@').next() == Some(EXPORT)) {
        return ModuleError::NotATopology { exports };
    }
    let foreign: Vec<String> = imports.into_iter().filter(|name| !is_offered(name)).collect();
    if !foreign.is_empty() {
        return ModuleError::Imports(foreign);
    }
    ModuleError::Misfit(format!("{error:#}"))
}

/// The version in the name of one of our interfaces.
pub(super) fn contract_version(interface: &str) -> Option<&str> {
    interface.strip_prefix(PACKAGE)?.split('@').nth(1)
}

/// Within 0.1 modules built earlier go on running.
fn is_compatible(version: &str) -> bool {
    let minor = |version: &str| version.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
    minor(version) == minor(CONTRACT)
}

fn is_offered(import: &str) -> bool {
    import.split('/').next().is_some_and(|package| OFFERED.contains(&package))
}
