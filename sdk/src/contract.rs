//! Owns the SDK's names for the contract's own types: the bindings' in a module, the engine's (one
//! to one with them) natively. Must not add any of its own but what both lack.

#[cfg(target_arch = "wasm32")]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from the contract"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "topology",
        pub_export_macro: true,
        export_macro_name: "export_topology",
        default_bindings_module: "millrace::module::bindings",
    });
}

#[cfg(target_arch = "wasm32")]
pub(crate) use bindings::{
    exports::millrace::streams::module::{Changes, Input, Output},
    millrace::streams::{
        context::Clock,
        graph::{
            Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology as Graph,
            Windows,
        },
        records::{Batch, Column, Header},
        state::{Entries, Found, Versions},
    },
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use millrace_engine::{
    context::{Clock, Entries, Found, Versions},
    record::{Batch, Changes, Column, Header, Input, Output},
    topology::{
        Format, GlobalStore, Layout, OffsetReset, Processor, Repartition, Sink, Source, Store, Topology as Graph,
        Windows,
    },
};

/// The task an instance was made for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) application_id: String,
    pub(crate) subtopology: u32,
    pub(crate) partition: u32,
    pub(crate) topics: Vec<String>,
    pub(crate) stream_time: Option<i64>,
    pub(crate) caching: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Deserialization,
    Processing,
    Serialization,
}

/// Why a call failed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) index: Option<u32>,
    pub(crate) node: Option<String>,
    pub(crate) message: String,
}

pub(crate) fn empty_column() -> Column {
    Column { bytes: Vec::new(), lengths: Vec::new() }
}

pub(crate) fn empty_entries() -> Entries {
    Entries { keys: empty_column(), values: empty_column(), timestamps: Vec::new() }
}

/// Appends what `write` puts at the end of the bytes, or null without it.
pub(crate) fn push<E>(column: &mut Column, write: Option<impl FnOnce(&mut Vec<u8>) -> Result<(), E>>) -> Result<(), E> {
    let length = match write {
        Some(write) => {
            let start = column.bytes.len();
            write(&mut column.bytes)?;
            length(column.bytes.len() - start)
        }
        None => -1,
    };
    column.lengths.push(length);
    Ok(())
}

pub(crate) fn push_bytes(column: &mut Column, bytes: Option<&[u8]>) {
    column.bytes.extend_from_slice(bytes.unwrap_or_default());
    column.lengths.push(bytes.map_or(-1, |bytes| length(bytes.len())));
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("Kafka bounds a record far below 2 GiB, and a module has 4 GiB of memory at most")
}

/// An index into a batch; a batch never comes near 2^32 records.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a batch holds fewer than 2^32 records")
}

/// Walks over a column from one string to the next.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    next: usize,
    offset: usize,
}

impl Cursor {
    /// The next string of `column`, which must be the same at each call. Past the end: null.
    pub(crate) fn next<'a>(&mut self, column: &'a Column) -> Option<&'a [u8]> {
        let length = *column.lengths.get(self.next)?;
        self.next += 1;
        let length = usize::try_from(length).ok()?;
        let bytes = &column.bytes[self.offset..self.offset + length];
        self.offset += length;
        Some(bytes)
    }
}
