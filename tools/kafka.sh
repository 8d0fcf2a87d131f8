# shellcheck shell=bash
# A real Apache Kafka (KRaft) in the background, its tools, and our own Java programs on its class path.
# Settings, from the environment: MILL_KAFKA_NODES (1; with 3, topics have three replicas, two of which must be in sync),
# MILL_KAFKA_PORT (9092; the port above it is the controller's, the next node has the two ports after that),
# MILL_KAFKA_DIR (data, log and pid), MILL_KAFKA_OPTS (for the JVM), MILL_KAFKA_HOST (127.0.0.1), MILL_KAFKA_PROPERTIES
# (more lines of server.properties; of two for one setting the later counts).

KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$MILL_HOME/tests/kafka/pom.xml")
KAFKA_CACHE=$CACHE/kafka-$KAFKA_VERSION
KAFKA_LIBS=$KAFKA_CACHE/lib
# Kafka's own tests that judge us, in the test jars of Kafka Streams. They run on the jars above. StreamsEosTest is in none
# later than this.
JUDGES_VERSION=$KAFKA_VERSION
EOS_JUDGE_VERSION=4.1.2
KAFKA_NODES=${MILL_KAFKA_NODES:-1}
KAFKA_HOST=${MILL_KAFKA_HOST:-127.0.0.1}
KAFKA_PORT=${MILL_KAFKA_PORT:-9092}
KAFKA_DIR=${MILL_KAFKA_DIR:-$CACHE/kafka-data/$KAFKA_PORT}
KAFKA_CLUSTER=bWlsbHJhY2UtY2x1c3Rlcg
JAVA_LOG=(-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true
  -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS -Dlog4j2.StatusLogger.level=OFF)

# The jars that the pom names, once per version and user. "complete" is written last: without it the folder is a torso.
kafka_jars() {
  [ -f "$KAFKA_LIBS/complete" ] && return
  mkdir -p "$KAFKA_CACHE"
  (
    flock 9
    [ -f "$KAFKA_LIBS/complete" ] && exit
    local what="Apache Kafka $KAFKA_VERSION and Kafka Streams"
    have mvn || apt_install "to download $what" maven
    say "downloading $what, 130 MB, to $KAFKA_LIBS (once)"
    rm -rf "$KAFKA_LIBS"
    mvn -q -B -f "$MILL_HOME/tests/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$KAFKA_LIBS" </dev/null ||
      die "could not download $what from Maven Central"
    touch "$KAFKA_LIBS/complete"
  ) 9>"$KAFKA_CACHE/.lock"
}

judge_jar() { echo "$CACHE/kafka-judges/kafka-streams-$1-test.jar"; } # version

judge_jars() {
  local version jar what
  for version in "$JUDGES_VERSION" "$EOS_JUDGE_VERSION"; do
    jar=$(judge_jar "$version") what="the tests of Kafka Streams $version"
    [ ! -f "$jar" ] || continue
    have mvn || apt_install "to download $what" maven
    say "downloading $what, 3 MB, to $jar (once)"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory="$CACHE/kafka-judges/.$$" \
      -Dartifact="org.apache.kafka:kafka-streams:$version:jar:test" </dev/null || die "could not download $what from Maven Central"
    mkdir -p "${jar%/*}"
    mv "$CACHE/kafka-judges/.$$/${jar##*/}" "$jar"
    rmdir "$CACHE/kafka-judges/.$$"
  done
}

# Compiles tests/kafka/src with javac alone, in a second where Maven needs ten. The folder is named by what was
# compiled, so that several clones share the cache and none sees the classes of another.
kafka_classes() { # prints the class path
  local sources digest classes
  sources=$(find "$MILL_HOME/tests/kafka/src" -name '*.java' | LC_ALL=C sort)
  # shellcheck disable=SC2086 # one file a word
  digest=$(cat $sources | sha256sum | cut -c1-16)
  classes=$KAFKA_CACHE/classes-$digest
  if [ ! -d "$classes" ]; then
    rm -rf "$classes.$$"
    # shellcheck disable=SC2086
    javac --release 17 -Xlint:all,-serial -Werror -proc:none -cp "$KAFKA_LIBS/*" -d "$classes.$$" $sources >&2 ||
      die "tests/kafka/src does not compile"
    mv -T "$classes.$$" "$classes" 2>/dev/null || rm -rf "$classes.$$" # another mill was first
  fi
  echo "$classes:$KAFKA_LIBS/*"
}

kafka_ready() { need_java; kafka_jars; KAFKA_CLASSPATH=$(kafka_classes) || exit 1; }

kafka_tool() { # class args...
  local class=$1; shift
  java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "${JAVA_LOG[@]}" -cp "$KAFKA_CLASSPATH" "$class" "$@"
}

node_numbers() { seq 1 "$KAFKA_NODES"; }
node_port() { echo $((KAFKA_PORT + 2 * ($1 - 1))); }
node_address() { echo "$KAFKA_HOST:$(node_port "$1")"; }
node_dir() { if [ "$KAFKA_NODES" = 1 ]; then echo "$KAFKA_DIR"; else echo "$KAFKA_DIR/node$1"; fi; }

kafka_bootstrap() {
  local node addresses=()
  for node in $(node_numbers); do addresses+=("$(node_address "$node")"); done
  (IFS=,; echo "${addresses[*]}")
}

kafka_voters() {
  local node voters=()
  for node in $(node_numbers); do voters+=("$node@$KAFKA_HOST:$(($(node_port "$node") + 1))"); done
  (IFS=,; echo "${voters[*]}")
}

node_configure() { # node
  local dir port replicas=$((KAFKA_NODES < 3 ? KAFKA_NODES : 3)) in_sync=1
  dir=$(node_dir "$1") port=$(node_port "$1")
  [ "$replicas" -lt 3 ] || in_sync=2
  mkdir -p "$dir"
  cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$(kafka_voters)
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$KAFKA_HOST:$port,CONTROLLER://$KAFKA_HOST:$((port + 1))
advertised.listeners=PLAINTEXT://$KAFKA_HOST:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$in_sync
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
log.retention.ms=-1
file.delete.delay.ms=1000
log.cleaner.dedupe.buffer.size=67108864
${MILL_KAFKA_PROPERTIES:-}
CONF
}

node_running() { live_pid "$(node_dir "$1")/pid" >/dev/null; }

# Starts the process, and returns at once: a cluster answers only when most of its nodes are there.
node_launch() { # node
  local dir port
  dir=$(node_dir "$1") port=$(node_port "$1")
  if port_open "$port" "$KAFKA_HOST" || port_open $((port + 1)) "$KAFKA_HOST"; then
    die "port $port or $((port + 1)) is taken: choose another with MILL_KAFKA_PORT"
  fi
  node_configure "$1"
  # shellcheck disable=SC2086 # options are words
  java ${MILL_KAFKA_OPTS:--Xmx1g -Xms256m -XX:+UseG1GC -XX:MaxGCPauseMillis=20} "${JAVA_LOG[@]}" \
    -Dkafka.logs.dir="$dir/logs" -cp "$KAFKA_CLASSPATH" millrace.harness.Broker \
    "$KAFKA_CLUSTER" "$dir/server.properties" >>"$dir/log" 2>&1 </dev/null &
  write_pid "$dir/pid" $!
  disown
}

node_await() { # node
  local dir port tries=0
  dir=$(node_dir "$1") port=$(node_port "$1")
  until port_open "$port" "$KAFKA_HOST"; do # it opens only when the broker takes requests
    node_running "$1" || { tail -20 "$dir/log" >&2; die "Kafka ended while it started"; }
    tries=$((tries + 1))
    [ $tries -lt 2400 ] || die "Kafka was not ready after 120 s: see $dir/log"
    sleep 0.05
  done
}

node_stop() { # node
  local pid
  pid=$(node_dir "$1")/pid
  end_pid "$pid" TERM 30 || {
    say "Kafka did not stop in 30 s: kill -9"
    end_pid "$pid" KILL 10
  }
}

node_kill() { end_pid "$(node_dir "$1")/pid" KILL 10; } # node

node_status() { # node
  local pid
  pid=$(live_pid "$(node_dir "$1")/pid") || return 1
  echo "Apache Kafka $KAFKA_VERSION runs on $(node_address "$1"), pid $pid, data in $(node_dir "$1")"
}

# The nodes that are not running, all or one: so it also brings back what was stopped or killed.
kafka_start() { # [--fresh | node]
  local node nodes=() started=()
  mapfile -t nodes < <(node_numbers)
  case ${1:-} in
    '') ;;
    --fresh) kafka_stop; rm -rf "$KAFKA_DIR" ;;
    *) nodes=("$1") ;;
  esac
  for node in "${nodes[@]}"; do node_running "$node" || started+=("$node"); done
  if [ ${#started[@]} -gt 0 ]; then
    kafka_ready
    for node in "${started[@]}"; do node_launch "$node"; done
    for node in "${started[@]}"; do node_await "$node"; done
  fi
  for node in "${nodes[@]}"; do node_status "$node"; done
}

# All at once: of a cluster whose nodes stop in turn, the last can't hand over its partitions and waits in vain.
kafka_stop() { # [node]
  local node stopping=()
  for node in ${1:-$(node_numbers)}; do
    node_stop "$node" &
    stopping+=($!)
  done
  wait "${stopping[@]}"
}

kafka_status() {
  local node status=0
  for node in $(node_numbers); do
    node_status "$node" || { echo "node $node is stopped"; status=3; }
  done
  return $status
}

kafka_help() {
  cat <<'HELP'
./mill kafka start [--fresh]         a real Apache Kafka in the background; --fresh deletes its data first
./mill kafka stop | kill | status | log
                                     with MILL_KAFKA_NODES=3 a cluster; start, stop, kill and log take the number of a node
./mill kafka topics                  their names
./mill kafka create NAME [PARTITIONS [name=value ...]]
./mill kafka describe NAME | delete NAME
./mill kafka produce NAME            lines "key:value" from standard input
./mill kafka consume NAME [COUNT]    from the beginning, with key, committed records only
./mill kafka group APPLICATION-ID    offsets and lag
./mill kafka tool CLASS ARGS...      any main class of Kafka's jars
HELP
}

kafka() {
  local command=${1:-help}; [ $# = 0 ] || shift
  case $command in
    start) kafka_start "$@"; return ;;
    stop) kafka_stop "$@"; echo "stopped"; return ;;
    kill) node_kill "${1:-1}"; echo "killed"; return ;;
    status) kafka_status; return ;;
    log) cat "$(node_dir "${1:-1}")/log"; return ;;
    topics | create | describe | delete | produce | consume | group | tool) ;;
    help) kafka_help; return ;;
    *) kafka_help >&2; die "no such command: kafka $command" ;;
  esac
  [ "$command" = topics ] || [ $# -gt 0 ] || { kafka_help >&2; die "kafka $command: an argument is missing"; }
  kafka_ready
  local bootstrap name=${1:-} options=() setting
  bootstrap=$(kafka_bootstrap)
  local topic_command=(kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap")
  case $command in
    topics) "${topic_command[@]}" --list ;;
    create)
      for setting in "${@:3}"; do options+=(--config "$setting"); done
      "${topic_command[@]}" --create --topic "$name" --partitions "${2:-4}" "${options[@]}" ;;
    describe) "${topic_command[@]}" --describe --topic "$name" ;;
    delete) "${topic_command[@]}" --delete --topic "$name" ;;
    produce)
      kafka_tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$bootstrap" --topic "$name" \
        --reader-property parse.key=true --reader-property key.separator=: ;;
    consume)
      [ -z "${2:-}" ] || options=(--max-messages "$2")
      kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$bootstrap" --topic "$name" \
        --from-beginning --formatter-property print.key=true --formatter-property key.separator=: \
        --isolation-level read_committed "${options[@]}" ;;
    group)
      kafka_tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$bootstrap" \
        --describe --group "$name" ;;
    tool) kafka_tool "$@" ;;
  esac
}
