//! What `bindgen!` makes of the contract. Must not hold anything written by hand.

#![allow(unreachable_pub, reason = "the macro decides the visibility of what it makes")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "topology",
    // A host call that fails traps.
    imports: { default: trappable },
    with: { "millrace:streams/state.store": super::host::OpenStore },
});
