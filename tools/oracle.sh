# shellcheck shell=bash
# Lets Apache Kafka's own tests judge Millrace, on brokers of the run's own.

oracle_help() {
  cat <<'HELP'
./mill oracle eos [--brokers N] [--seconds N] [--faults stop,kill,freeze,broker]
                  [--set KEY=VALUE]... [--logs DIR]
                  Kafka's StreamsEosTest on a cluster of 3 brokers, or N: three instances are stopped, killed and frozen
                  and brokers killed in turn while its driver writes, then verify and verify-complex must say
                  ALL-RECORDS-DELIVERED
./mill oracle smoke [--brokers N] [--guarantee exactly_once_v2|at_least_once] [--stop] [--seconds N]
                  [--set KEY=VALUE]... [--logs DIR]
                  Kafka's StreamsSmokeTest: three instances are killed in turn, or stopped, while its driver writes; it must
                  say SUCCESS, or, when they are killed under at-least-once, that all is there and some of it twice
./mill oracle relational [the same options]
                  Kafka's RelationalSmokeTest: articles and comments are joined on a foreign key and counted, while three
                  instances are killed in turn, or stopped, as always under at-least-once; it must say
                  Smoke test complete: passed
HELP
}

oracle() { # judge args...
  [ "${1:-help}" != help ] || { oracle_help; return; }
  local args=()
  KAFKA_NODES=3
  while [ $# -gt 0 ]; do
    case $1 in
      --brokers) KAFKA_NODES=${2:-}; shift ;;
      *) args+=("$1") ;;
    esac
    shift
  done
  [[ $KAFKA_NODES =~ ^[1-9]$ ]] || die "--brokers wants a number from 1 to 9"
  build
  judge_jars
  # Selected together with the runtime, it uses the dependencies as they were compiled for that.
  in_project cargo build --release -p millrace-runtime -p millrace-e2e --bins
  with_kafka in_project "$CARGO_TARGET_DIR/release/millrace-oracle" "${args[@]}"
}
