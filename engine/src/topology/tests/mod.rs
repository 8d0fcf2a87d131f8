//! What the planner makes of whole graphs.

mod derived;
mod described;
mod drawn;
mod generated;
mod refused;
