# shellcheck shell=bash
# Runs the tests and counts them. The end-to-end tests get an Apache Kafka of their own: free port, fresh data, stopped at
# the end whatever happens.

with_kafka() { # command args...: runs it with MILLRACE_TEST_* set
  kafka_ready
  local status=0
  TEST_KAFKA_DIR=$(mktemp -d "${TMPDIR:-/tmp}/millrace-kafka.XXXXXX")
  trap end_kafka EXIT
  KAFKA_DIR=$TEST_KAFKA_DIR/broker
  KAFKA_PORT=$(free_port)
  # shellcheck disable=SC2153 # both are set in kafka.sh
  KAFKA_BOOTSTRAP=$KAFKA_HOST:$KAFKA_PORT
  kafka_start >&2
  MILLRACE_TEST_KAFKA=$KAFKA_BOOTSTRAP MILLRACE_TEST_KAFKA_PID=$(live_pid "$KAFKA_DIR/pid") \
    MILLRACE_TEST_CLASSPATH=$KAFKA_CLASSPATH MILLRACE_TEST_BIN=$MILLRACE_BIN MILLRACE_TEST_WASM=$WASM_DIR \
    MILLRACE_TEST_MILL=$MILL_HOME/mill "$@" || status=$?
  end_kafka
  trap - EXIT
  return $status
}

end_kafka() {
  kafka_stop
  rm -rf "$TEST_KAFKA_DIR"
}

# Runs cargo test, shows its output, and adds its result lines to PASSED and FAILED. A run that fails without a failed
# test (it did not compile, or a test binary crashed) counts as one failure.
cargo_test() { # args...
  local status=0 before=$FAILED log counted
  log=$(mktemp "${TMPDIR:-/tmp}/millrace-test.XXXXXX")
  in_project cargo test --release --no-fail-fast "$@" </dev/null 2>&1 | tee "$log" || status=$?
  read -r -a counted <<<"$(awk '/^test result: /{p += $4; f += $6} END {print p + 0, f + 0}' "$log")"
  rm -f "$log"
  PASSED=$((PASSED + counted[0]))
  FAILED=$((FAILED + counted[1]))
  [ $status = 0 ] || [ "$FAILED" -gt "$before" ] || FAILED=$((FAILED + 1))
}

has_package() { in_project cargo metadata --no-deps --offline --format-version 1 2>/dev/null | grep -q "\"name\":\"$1\""; }

test_engine() { cargo_test -p millrace-engine -p millrace -p guest-wordcount "$@"; }

test_adapters() {
  need_native
  cargo_test -p millrace-runtime "$@"
}

test_differential() { MILLRACE_TEST_CLASSPATH=$KAFKA_CLASSPATH cargo_test -p millrace-differential "$@"; }

test_e2e() {
  # Compiled first, so that the broker does not idle through a long build, and the tests do not wait for it.
  in_project cargo build --release -p millrace-runtime
  with_kafka cargo_test -p millrace-e2e "$@"
}

run_tests() { # [part...] [-- args for the tests]
  local parts=() part
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
      unit) parts+=(engine adapters) ;;
      engine | adapters | differential | e2e) parts+=("$1") ;;
      *) die "no such part of the tests: $1 (there are engine, adapters, unit, differential, e2e)" ;;
    esac
    shift
  done
  [ ${#parts[@]} -gt 0 ] || parts=(engine adapters differential e2e)
  PASSED=0 FAILED=0
  need_native
  need_rust
  build_guests
  case " ${parts[*]} " in *" differential "* | *" e2e "*) kafka_ready ;; esac
  for part in "${parts[@]}"; do
    say "tests: $part"
    "test_$part" "$@"
  done
  echo "$PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
}
