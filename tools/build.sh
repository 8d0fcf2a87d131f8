# shellcheck shell=bash
# Builds the binary and the modules, and runs them by hand. One profile, release, for all: see Cargo.toml.

in_project() { (cd "$MILL_HOME" && "$@"); }

# The packages that compile to modules: the reference topology, the examples and the guests of the tests.
guests() {
  local manifest
  for manifest in "$MILL_HOME"/guest-*/Cargo.toml "$MILL_HOME"/examples/*/Cargo.toml "$MILL_HOME"/tests/guests/*/Cargo.toml; do
    [ ! -f "$manifest" ] || sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -1
  done
}

build_guests() {
  need_rust
  local packages=() name
  for name in $(guests); do packages+=(-p "$name"); done
  in_project cargo build --profile module --target wasm32-wasip2 "${packages[@]}"
}

build() {
  need_native
  need_rust
  in_project cargo build --release -p millrace-runtime
  build_guests
  say "built $MILLRACE_BIN and $WASM_DIR/guest_wordcount.wasm"
}

run_wordcount() { # subcommand args...
  local command=$1; shift
  build
  exec env MILLRACE_MODULE_SOURCE="$WASM_DIR/guest_wordcount.wasm" \
    "$MILLRACE_BIN" "$command" -c "$MILL_HOME/guest-wordcount/counts.toml" "$@"
}

demo() { run_wordcount demo "$@"; }
dev() { run_wordcount dev "$@"; }

fmt() { need_rust; need_lint; in_project cargo fmt --all; }

lint() {
  need_native
  need_rust
  need_lint
  in_project cargo fmt --all --check
  in_project cargo clippy --release --workspace --all-targets -- -D warnings
  RUSTDOCFLAGS="-D warnings" in_project cargo doc --release --no-deps -p millrace
  ! have shellcheck || in_project shellcheck -x -a mill .ci/run
  say "no findings"
}

bench_guest_call() {
  need_valgrind
  build
  in_project cargo build --release -p millrace-guest-call
  in_project "$CARGO_TARGET_DIR/release/millrace-guest-call" table "$WASM_DIR/guest_wordcount.wasm" "$@"
}

bench() {
  if [ "${1:-}" = guest-call ]; then
    shift
    bench_guest_call "$@"
    return
  fi
  build
  kafka_ready
  # Selected together with the runtime, it uses the dependencies as they were compiled for that.
  in_project cargo build --release -p millrace-runtime -p millrace-bench
  with_kafka in_project "$CARGO_TARGET_DIR/release/millrace-bench" "$@"
}
