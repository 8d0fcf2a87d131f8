# shellcheck shell=bash
# Runs the tests and counts them. The end-to-end tests get an Apache Kafka of their own: free port, fresh data, stopped at
# the end whatever happens.

with_kafka() { # command args...: runs it with MILLRACE_TEST_* set, and so that ./mill kafka acts on its brokers
  kafka_ready
  local status=0
  TEST_KAFKA_DIR=$(mktemp -d "${TMPDIR:-/tmp}/millrace-kafka.XXXXXX")
  trap end_kafka EXIT
  KAFKA_DIR=$TEST_KAFKA_DIR/broker
  KAFKA_PORT=$(free_ports $((2 * KAFKA_NODES)))
  kafka_start >&2
  MILL_KAFKA_NODES=$KAFKA_NODES MILL_KAFKA_PORT=$KAFKA_PORT MILL_KAFKA_DIR=$KAFKA_DIR \
    MILLRACE_TEST_KAFKA=$(kafka_bootstrap) MILLRACE_TEST_KAFKA_PID=$(live_pid "$(node_dir 1)/pid") \
    MILLRACE_TEST_CLASSPATH=$KAFKA_CLASSPATH \
    MILLRACE_TEST_JUDGES="$(judge_jar "$JUDGES_VERSION"):$KAFKA_LIBS/*" \
    MILLRACE_TEST_EOS_JUDGE="$(judge_jar "$EOS_JUDGE_VERSION"):$KAFKA_LIBS/*" \
    MILLRACE_TEST_BIN=$MILLRACE_BIN MILLRACE_TEST_WASM=$WASM_DIR MILLRACE_TEST_MILL=$MILL_HOME/mill "$@" || status=$?
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
  # A backtrace would only show where in the test it gave up, which its message does.
  RUST_LIB_BACKTRACE=0 in_project cargo test --release --no-fail-fast "$@" </dev/null 2>&1 | tee "$log" || status=$?
  read -r -a counted <<<"$(awk '/^test result: /{p += $4; f += $6} END {print p + 0, f + 0}' "$log")"
  rm -f "$log"
  PASSED=$((PASSED + counted[0]))
  FAILED=$((FAILED + counted[1]))
  [ $status = 0 ] || [ "$FAILED" -gt "$before" ] || FAILED=$((FAILED + 1))
}

# A step that must succeed before tests can run; if it does not, that is one failure.
attempt() { # command args...
  "$@" && return
  say "failed: $*"
  FAILED=$((FAILED + 1))
  return 1
}

test_engine() { cargo_test -p millrace-engine -p millrace -p guest-wordcount -p example-clicks -p example-orders -p example-billing -p example-sensors -p example-support -p example-trades "$@"; }

test_adapters() {
  need_native
  cargo_test -p millrace-runtime -p millrace-soak -p millrace-bench "$@"
}

test_guest_call() {
  need_valgrind
  MILLRACE_TEST_WASM=$WASM_DIR cargo_test -p millrace-guest-call "$@"
}

test_differential() { MILLRACE_TEST_CLASSPATH=$KAFKA_CLASSPATH cargo_test -p millrace-differential "$@"; }

test_e2e() {
  attempt judge_jars || return 0
  # Selected together with the runtime, the tests use its dependencies as they were compiled for it.
  local selection=(-p millrace-runtime -p millrace-e2e --test e2e)
  # Compiled first, so that the broker does not idle through a long build, and no test waits for one.
  attempt in_project cargo build --release -p millrace-runtime || return 0
  attempt in_project cargo test --release "${selection[@]}" --no-run || return 0
  # They mostly wait for each other's processes: more of them than there are cores.
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-4} with_kafka cargo_test "${selection[@]}" "$@"
}

# The web page in a browser, of instances on a real Kafka, too. Node counts its tests in lines of its own.
test_web() {
  attempt need_browser || return 0
  attempt need_schemathesis || return 0
  attempt in_project cargo build --release -p millrace-runtime || return 0
  MILLRACE_TEST_MODULE=$WASM_DIR/guest_wordcount.wasm MILLRACE_TEST_CONFIG=$MILL_HOME/guest-wordcount/counts.toml \
    MILLRACE_TEST_CHROMIUM=$(command -v chromium) MILLRACE_TEST_SCHEMATHESIS=$SCHEMATHESIS/bin/schemathesis \
    MILLRACE_TEST_NODE_MODULES=$PLAYWRIGHT/node_modules/ \
    with_kafka node_test "$@" tests/web/*.test.mjs
}

node_test() { # args...
  local status=0 before=$FAILED log counted
  log=$(mktemp "${TMPDIR:-/tmp}/millrace-test.XXXXXX")
  in_project timeout 300 node --test --test-reporter=tap "$@" </dev/null 2>&1 | tee "$log" || status=$?
  read -r -a counted <<<"$(awk '/^# pass /{p = $3} /^# fail /{f = $3} END {print p + 0, f + 0}' "$log")"
  rm -f "$log"
  PASSED=$((PASSED + counted[0]))
  FAILED=$((FAILED + counted[1]))
  [ $status = 0 ] || [ "$FAILED" -gt "$before" ] || FAILED=$((FAILED + 1))
}

test_k8s() {
  if ! have kubectl; then
    say "skipped: the tests of the deployment, for kubectl is not installed"
    return
  fi
  attempt need_validator || return 0
  local selection=(-p millrace-runtime -p millrace-k8s) obstacle root
  attempt in_project cargo build --release -p millrace-runtime || return 0
  root=$(mktemp -d "${TMPDIR:-/tmp}/millrace-image.XXXXXX")
  attempt image "$root/image" || return 0
  MILLRACE_TEST_IMAGE=$root/image MILLRACE_TEST_VALIDATOR=$K8S_VALIDATOR/bin MILLRACE_TEST_BIN=$MILLRACE_BIN \
    cargo_test "${selection[@]}" --test shipped "$@"
  obstacle=$(k8s_obstacle)
  if [ -n "$obstacle" ]; then
    say "skipped: the tests in a Kubernetes, for $obstacle"
  elif attempt k8s_ready; then
    attempt in_project cargo test --release "${selection[@]}" --test cluster --no-run || return 0
    # They mostly wait.
    attempt need_definitions || return 0
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-4} MILLRACE_TEST_DEFINITIONS=$K8S_DEFINITIONS with_k8s "$root/image" cargo_test "${selection[@]}" --test cluster "$@"
  fi
  rm -rf "$root"
}

run_tests() { # [part...] [-- args for the tests]
  local parts=() part
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
      unit) parts+=(engine adapters) ;;
      engine | adapters | guest-call | differential | e2e | web | k8s) parts+=("$1") ;;
      *) die "no such part of the tests: $1 (there are engine, adapters, unit, guest-call, differential, e2e, web, k8s)" ;;
    esac
    shift
  done
  [ ${#parts[@]} -gt 0 ] || parts=(engine adapters guest-call differential e2e web k8s)
  PASSED=0 FAILED=0
  need_native
  need_rust
  case " ${parts[*]} " in *" differential "* | *" e2e "* | *" web "* | *" k8s "*) kafka_ready ;; esac
  if attempt build_guests; then
    for part in "${parts[@]}"; do
      say "tests: $part"
      "test_${part//-/_}" "$@"
    done
  fi
  echo "$PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
}
