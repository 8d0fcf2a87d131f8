//! Owns the edge of a module: the component's exports, and the imports as a `Host`. Used by
//! [`crate::export!`] only; it must not know the topology.

#[cfg(target_arch = "wasm32")]
mod component;

#[cfg(target_arch = "wasm32")]
pub use crate::contract::bindings;
#[cfg(not(target_arch = "wasm32"))]
pub use crate::driver::native;
#[cfg(target_arch = "wasm32")]
pub use component::{Declare, Exports};

use crate::{StreamsBuilder, Topology, TopologyError};

/// What a topology can be declared by.
pub trait Declares<Form> {
    /// The topology.
    fn declare(&self) -> Result<Topology, TopologyError>;
}

/// Declared with the DSL.
#[derive(Debug)]
pub struct WithBuilder;

/// Declared node by node.
#[derive(Debug)]
pub struct Whole;

impl<F: Fn(&mut StreamsBuilder)> Declares<WithBuilder> for F {
    fn declare(&self) -> Result<Topology, TopologyError> {
        let mut builder = StreamsBuilder::new();
        self(&mut builder);
        builder.build()
    }
}

impl<F: Fn() -> Topology> Declares<Whole> for F {
    fn declare(&self) -> Result<Topology, TopologyError> {
        self().checked()
    }
}

/// Exports a topology as the component the host runs. To be used once, at the top of the crate,
/// which must be a `cdylib`; natively it does nothing.
///
/// ```
/// use millrace::prelude::*;
///
/// fn topology(builder: &mut StreamsBuilder) {
///     builder.stream("from", Consumed::with(StringSerde, StringSerde)).to("to", Produced::default());
/// }
/// millrace::export!(topology);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($topology:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Declared;

            impl $crate::module::Declare for Declared {
                fn topology() -> Result<$crate::Topology, $crate::TopologyError> {
                    $crate::module::Declares::declare(&$topology)
                }
            }

            type Module = $crate::module::Exports<Declared>;
    $crate::module::bindings::export_topology!(Module with_types_in $crate::module::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            // So that a topology that can't be exported fails to compile natively too.
            #[allow(dead_code, reason = "only compiled, never called")]
            fn declared() -> Result<$crate::Topology, $crate::TopologyError> {
                $crate::module::Declares::declare(&$topology)
            }
        };
    };
}
