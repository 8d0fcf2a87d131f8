//! Owns the configuration: the TOML file, its environment overrides, validation. The only place that reads the environment.
