//! Owns the producer: sending, acknowledgements, transactions. Must not know tasks.
