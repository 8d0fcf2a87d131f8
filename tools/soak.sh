# shellcheck shell=bash
# Starts the soak: an application on a Kafka of its own while everything goes wrong around it. See tests/soak.

soak() { # [--minutes N] [--seed N] [--instances N] [--brokers N] [--guarantee G] [--logs DIR]
  build
  kafka_ready
  # Selected together with the runtime, it uses the dependencies as they were compiled for that.
  in_project cargo build --release -p millrace-runtime -p millrace-soak
  # It cleans up after itself, so it is the one to get the signals. Of two --logs the last holds.
  exec env MILLRACE_TEST_BIN="$MILLRACE_BIN" MILLRACE_TEST_WASM="$WASM_DIR" MILLRACE_TEST_MILL="$MILL_HOME/mill" \
    "$CARGO_TARGET_DIR/release/millrace-soak" --logs "$CACHE/soak/$(date +%Y%m%d-%H%M%S)-$$" "$@"
}
