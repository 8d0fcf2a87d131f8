//! Owns the commands of the binary and what they print.
