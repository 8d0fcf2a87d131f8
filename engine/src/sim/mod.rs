//! Owns the world the core is tested in: a log, a module, a source of chance. Must not be built into anything
//! but tests.

#![allow(dead_code, reason = "the simulation that uses all of it is being built")]

pub(crate) mod guest;
pub(crate) mod log;
mod random;

pub(crate) use random::Random;
