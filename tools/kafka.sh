# shellcheck shell=bash
# A real Apache Kafka (KRaft, one node) in the background, its tools, and our own Java programs on its class path.
# Settings, from the environment: MILL_KAFKA_PORT (9092; the port above it is the controller's),
# MILL_KAFKA_DIR (data, log and pid), MILL_KAFKA_OPTS (for the JVM), MILL_KAFKA_HOST (127.0.0.1).

KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$MILL_HOME/tests/kafka/pom.xml")
KAFKA_CACHE=$CACHE/kafka-$KAFKA_VERSION
KAFKA_LIBS=$KAFKA_CACHE/lib
KAFKA_HOST=${MILL_KAFKA_HOST:-127.0.0.1}
KAFKA_PORT=${MILL_KAFKA_PORT:-9092}
KAFKA_DIR=${MILL_KAFKA_DIR:-$CACHE/kafka-data/$KAFKA_PORT}
KAFKA_BOOTSTRAP=$KAFKA_HOST:$KAFKA_PORT
KAFKA_CLUSTER=bWlsbHJhY2UtY2x1c3Rlcg
JAVA_LOG=(-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true
  -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS -Dlog4j2.StatusLogger.level=OFF)

# Downloads Kafka's jars, once per version and user. "complete" is written last: without it the folder is a torso.
kafka_jars() {
  [ -f "$KAFKA_LIBS/complete" ] && return
  mkdir -p "$KAFKA_CACHE"
  (
    flock 9
    [ -f "$KAFKA_LIBS/complete" ] && exit
    say "downloading Apache Kafka $KAFKA_VERSION and Kafka Streams to $KAFKA_LIBS (130 MB, once)"
    rm -rf "$KAFKA_LIBS"
    mvn -q -B -f "$MILL_HOME/tests/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$KAFKA_LIBS" </dev/null ||
      die "could not download Apache Kafka from Maven Central"
    touch "$KAFKA_LIBS/complete"
  ) 9>"$KAFKA_CACHE/.lock"
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

kafka_configure() {
  mkdir -p "$KAFKA_DIR"
  cat >"$KAFKA_DIR/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$KAFKA_HOST:$((KAFKA_PORT + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$KAFKA_HOST:$KAFKA_PORT,CONTROLLER://$KAFKA_HOST:$((KAFKA_PORT + 1))
advertised.listeners=PLAINTEXT://$KAFKA_HOST:$KAFKA_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$KAFKA_DIR/data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
log.retention.ms=-1
file.delete.delay.ms=1000
log.cleaner.dedupe.buffer.size=67108864
CONF
}

kafka_start() { # [--fresh]
  if [ "${1:-}" = --fresh ]; then
    kafka_stop
    rm -rf "$KAFKA_DIR"
  elif kafka_status; then
    return
  fi
  kafka_ready
  if port_open "$KAFKA_PORT" || port_open $((KAFKA_PORT + 1)); then
    die "port $KAFKA_PORT or $((KAFKA_PORT + 1)) is taken: choose another with MILL_KAFKA_PORT"
  fi
  kafka_configure
  # shellcheck disable=SC2086 # options are words
  java ${MILL_KAFKA_OPTS:--Xmx1g -Xms256m -XX:+UseG1GC -XX:MaxGCPauseMillis=20} "${JAVA_LOG[@]}" \
    -Dkafka.logs.dir="$KAFKA_DIR/logs" -cp "$KAFKA_CLASSPATH" millrace.harness.Broker \
    "$KAFKA_CLUSTER" "$KAFKA_DIR/server.properties" >>"$KAFKA_DIR/log" 2>&1 </dev/null &
  write_pid "$KAFKA_DIR/pid" $!
  disown
  local tries=0
  until port_open "$KAFKA_PORT"; do # it opens only when the broker takes requests
    live_pid "$KAFKA_DIR/pid" >/dev/null || { tail -20 "$KAFKA_DIR/log" >&2; die "Kafka ended while it started"; }
    tries=$((tries + 1))
    [ $tries -lt 2400 ] || die "Kafka was not ready after 120 s: see $KAFKA_DIR/log"
    sleep 0.05
  done
  kafka_status
}

kafka_stop() {
  end_pid "$KAFKA_DIR/pid" TERM 30 || {
    say "Kafka did not stop in 30 s: kill -9"
    end_pid "$KAFKA_DIR/pid" KILL 10
  }
}

kafka_status() {
  local pid
  pid=$(live_pid "$KAFKA_DIR/pid") || return 1
  echo "Apache Kafka $KAFKA_VERSION runs on $KAFKA_BOOTSTRAP, pid $pid, data in $KAFKA_DIR"
}

kafka_help() {
  cat <<'HELP'
./mill kafka start [--fresh]         a real Apache Kafka in the background; --fresh deletes its data first
./mill kafka stop | status | log
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
    stop) kafka_stop; echo "stopped"; return ;;
    status) kafka_status || { echo "stopped"; return 3; }; return ;;
    log) cat "$KAFKA_DIR/log"; return ;;
    topics | create | describe | delete | produce | consume | group | tool) ;;
    help) kafka_help; return ;;
    *) kafka_help >&2; die "no such command: kafka $command" ;;
  esac
  [ "$command" = topics ] || [ $# -gt 0 ] || { kafka_help >&2; die "kafka $command: an argument is missing"; }
  kafka_ready
  local topic_command=(kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_BOOTSTRAP")
  local name=${1:-} options=() setting
  case $command in
    topics) "${topic_command[@]}" --list ;;
    create)
      for setting in "${@:3}"; do options+=(--config "$setting"); done
      "${topic_command[@]}" --create --topic "$name" --partitions "${2:-4}" "${options[@]}" ;;
    describe) "${topic_command[@]}" --describe --topic "$name" ;;
    delete) "${topic_command[@]}" --delete --topic "$name" ;;
    produce)
      kafka_tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$KAFKA_BOOTSTRAP" --topic "$name" \
        --reader-property parse.key=true --reader-property key.separator=: ;;
    consume)
      [ -z "${2:-}" ] || options=(--max-messages "$2")
      kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_BOOTSTRAP" --topic "$name" \
        --from-beginning --formatter-property print.key=true --formatter-property key.separator=: \
        --isolation-level read_committed "${options[@]}" ;;
    group)
      kafka_tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$KAFKA_BOOTSTRAP" \
        --describe --group "$name" ;;
    tool) kafka_tool "$@" ;;
  esac
}
