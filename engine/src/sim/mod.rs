//! Owns the world the core is tested in: a Kafka, disks, modules and a source of chance, and runs of the core through
//! anything that may happen to it. Must not be built into anything but tests.

mod random;
pub(crate) mod fuse;
pub(crate) mod log;
mod disk;
pub(crate) mod guest;
mod rules;
mod ground;
mod instance;
mod rebalance;
mod mishaps;
mod settle;
mod world;
pub(crate) mod audit;

pub(crate) use random::Random;

#[cfg(test)]
mod tests;
