//! Wires the parts together, starts and stops them in order, and handles signals. The only place that constructs.
