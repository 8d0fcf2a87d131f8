//! What is measured: each side, with so many records a call. Each is a function of its own, because that is what
//! callgrind counts by.

use std::hint::black_box;

use anyhow::Result;
use millrace_engine::task::Chunk;

use crate::{Calls, Side};

pub struct Case {
    pub name: &'static str,
    pub side: Side,
    /// Records of a call.
    pub batch: usize,
    pub drain: fn(&mut Calls, Vec<Chunk>) -> Result<()>,
}

macro_rules! cases {
    ($($name:ident: $side:ident, $batch:literal;)*) => {
        pub const CASES: &[Case] = &[
            $(Case { name: stringify!($name), side: Side::$side, batch: $batch, drain: $name },)*
        ];
        $(
            #[inline(never)]
            fn $name(calls: &mut Calls, chunks: Vec<Chunk>) -> Result<()> {
                // Functions that are the same would be merged.
                black_box(stringify!($name));
                calls.drain(chunks)
            }
        )*
    };
}

cases! {
    native_1: Native, 1;
    contract_1: Contract, 1;
    native_10: Native, 10;
    contract_10: Contract, 10;
    native_100: Native, 100;
    contract_100: Contract, 100;
    native_1000: Native, 1000;
    contract_1000: Contract, 1000;
}
