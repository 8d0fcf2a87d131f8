//! Owns the consumer, the rebalance and the restore reader. Must not know what records are processed into.
