# shellcheck shell=bash
# A Kubernetes control plane in the background: the real API server, controllers and scheduler against etcd, and a node
# agent of our own that runs pods as local processes (tests/k8s/cluster). Needs root, Go, kubectl; not a container engine.
# Settings, from the environment: MILL_K8S_DIR (data, logs, pids), MILL_K8S_PORT (16440; it and the four above it),
# MILL_K8S_NET (10.244, the first half of the pods' addresses), MILL_K8S_SERVICES (10.96.0.0/24), MILL_K8S_NODES (2).

K8S_SOURCE=$MILL_HOME/tests/k8s/cluster
K8S_DIR=${MILL_K8S_DIR:-$CACHE/k8s-data}
K8S_PORT=${MILL_K8S_PORT:-16440}
K8S_NET=${MILL_K8S_NET:-10.244}
K8S_SERVICES=${MILL_K8S_SERVICES:-10.96.0.0/24}
K8S_NODES=${MILL_K8S_NODES:-2}
K8S_CONTROLLERS=statefulset-controller,disruption-controller,endpoints-controller,endpointslice-controller
K8S_CONTROLLERS+=,garbage-collector-controller,namespace-controller,serviceaccount-controller,node-lifecycle-controller
K8S_CONTROLLERS+=,taint-eviction-controller,pod-garbage-collector-controller,persistentvolume-binder-controller
K8S_CONTROLLERS+=,persistentvolume-protection-controller,persistentvolumeclaim-protection-controller

# Why there can be no control plane on this machine; nothing if there can.
k8s_obstacle() {
  if [ "$(id -u)" != 0 ]; then
    echo "namespaces and mounts take root"
  elif ! have go; then
    echo "Go is not installed, which compiles the control plane"
  elif ! have kubectl; then
    echo "kubectl is not installed"
  elif ! have etcd && ! have apt-get; then
    echo "etcd is not installed"
  elif ! unshare -m -n true 2>/dev/null; then
    echo "this machine lets nobody make namespaces"
  fi
}

need_k8s() {
  mkdir -p "$CACHE"
  local missing=() obstacle
  obstacle=$(k8s_obstacle)
  [ -z "$obstacle" ] || die "no Kubernetes here: $obstacle"
  have etcd || missing+=(etcd-server)
  have openssl || missing+=(openssl)
  have ip || missing+=(iproute2)
  have nsenter && have setsid || missing+=(util-linux)
  [ ${#missing[@]} = 0 ] || apt_install "for a Kubernetes control plane" "${missing[@]}"
}

# Holds manifests against the schemas of a version of Kubernetes, which it brings along.
K8S_VALIDATOR=$CACHE/kubernetes-validate-1.37.0

need_validator() {
  need_python "$K8S_VALIDATOR" kubernetes-validate "to check the Kubernetes manifests"
}

# How the operators that k8s/components is for define their resources: from the Go modules of these operators.
K8S_DEFINITIONS=$CACHE/k8s/definitions-2
K8S_DEFINED=(
  github.com/prometheus-operator/prometheus-operator@v0.85.0
  example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml
  github.com/kedacore/keda/v2@v2.18.0
  config/crd/bases/keda.sh_scaledobjects.yaml
  github.com/kedacore/keda/v2@v2.18.0
  config/crd/bases/keda.sh_triggerauthentications.yaml
)

need_definitions() {
  [ ! -d "$K8S_DEFINITIONS" ] || return 0
  local at said folder
  say "fetching the definitions of operators' resources to $K8S_DEFINITIONS (once)"
  rm -rf "$K8S_DEFINITIONS.new"
  mkdir -p "$K8S_DEFINITIONS.new"
  for ((at = 0; at < ${#K8S_DEFINED[@]}; at += 2)); do
    said=$(cd "$K8S_DEFINITIONS.new" && go mod download -json "${K8S_DEFINED[at]}") || die "no ${K8S_DEFINED[at]}: $said"
    folder=$(jq -r .Dir <<<"$said")
    install -m 644 "$folder/${K8S_DEFINED[at + 1]}" "$K8S_DEFINITIONS.new/"
  done
  mv "$K8S_DEFINITIONS.new" "$K8S_DEFINITIONS"
}

# The program is named by what it was compiled from, so that several clones share the cache.
k8s_program() {
  local sources digest
  sources=$(find "$K8S_SOURCE" -name '*.go' -o -name 'go.*' | LC_ALL=C sort)
  # shellcheck disable=SC2086 # one file a word
  digest=$(cat $sources | sha256sum | cut -c1-16)
  echo "$CACHE/k8s/control-plane-$digest"
}

k8s_ready() {
  need_k8s
  K8S_PROGRAM=$(k8s_program)
  [ ! -x "$K8S_PROGRAM" ] || return 0
  mkdir -p "$CACHE/k8s"
  (
    flock 9
    [ ! -x "$K8S_PROGRAM" ] || exit 0
    say "compiling Kubernetes' control plane to $K8S_PROGRAM (once: ten minutes on two cores)"
    cd "$K8S_SOURCE" && go build -trimpath -ldflags='-s -w' -o "$K8S_PROGRAM.new" . >&2 || exit 1
    mv "$K8S_PROGRAM.new" "$K8S_PROGRAM"
    find "$CACHE/k8s" -name 'control-plane-*' -mtime +30 -delete
  ) 9>"$CACHE/k8s/.lock" || die "the control plane does not compile"
}

k8s_kubectl() { kubectl --kubeconfig "$K8S_DIR/kubeconfig" "$@"; }

k8s_launch() { # name command...
  local name=$1; shift
  ! live_pid "$K8S_DIR/pids/$name" >/dev/null || return 0
  setsid "$@" >>"$K8S_DIR/logs/$name.log" 2>&1 </dev/null &
  write_pid "$K8S_DIR/pids/$name" $!
  disown
}

k8s_await() { # name command...: until it succeeds
  local name=$1 tries=0; shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! live_pid "$K8S_DIR/pids/$name" >/dev/null; then
      tail -20 "$K8S_DIR/logs/$name.log" >&2
      die "$name did not come up: see $K8S_DIR/logs/$name.log"
    fi
    sleep 0.2
  done
}

k8s_secrets() {
  local certs=$K8S_DIR/certs
  mkdir -p "$certs"
  chmod 700 "$certs"
  [ -s "$certs/sa.key" ] || openssl genrsa -out "$certs/sa.key" 2048 2>/dev/null
  [ -s "$certs/kubelet-client.key" ] || openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=apiserver-kubelet-client \
    -keyout "$certs/kubelet-client.key" -out "$certs/kubelet-client.crt" 2>/dev/null
  [ -s "$certs/tokens.csv" ] || (umask 077 && echo "$(openssl rand -hex 16),admin,admin,system:masters" >"$certs/tokens.csv")
  (umask 077 && cat >"$K8S_DIR/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:$K8S_PORT", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "$(cut -d, -f1 "$certs/tokens.csv")"}}]
contexts: [{name: local, context: {cluster: local, user: admin}}]
current-context: local
YAML
  )
}

# The classes a cluster on Azure has, by name; what is behind them here are directories.
k8s_storage_classes() {
  local name
  for name in default managed-csi managed-csi-premium; do
    cat <<YAML
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: $name
  annotations: {storageclass.kubernetes.io/is-default-class: "$([ $name = default ] && echo true || echo false)"}
provisioner: disk.local
reclaimPolicy: Delete
volumeBindingMode: WaitForFirstConsumer
YAML
  done
}

k8s_nodes_are_ready() {
  k8s_kubectl wait --for=condition=Ready --timeout=2s node --all &&
    [ -z "$(k8s_kubectl get nodes -o 'jsonpath={.items[*].spec.taints[*].key}')" ]
}

k8s_start() {
  k8s_ready
  local certs=$K8S_DIR/certs etcd=$((K8S_PORT + 1)) peer=$((K8S_PORT + 2)) config=(--kubeconfig "$K8S_DIR/kubeconfig")
  mkdir -p "$K8S_DIR"/{pids,logs,etcd,kubelet,data}
  chmod 700 "$K8S_DIR/etcd"
  k8s_secrets
  k8s_launch etcd etcd --name local --data-dir "$K8S_DIR/etcd" --log-level warn --logger zap \
    --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "local=http://127.0.0.1:$peer"
  k8s_launch apiserver "$K8S_PROGRAM" apiserver --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 \
    --secure-port "$K8S_PORT" --cert-dir "$certs" --service-account-issuer https://localhost \
    --service-account-key-file "$certs/sa.key" --service-account-signing-key-file "$certs/sa.key" \
    --token-auth-file "$certs/tokens.csv" --authorization-mode RBAC --advertise-address "$K8S_NET.0.1" \
    --service-cluster-ip-range "$K8S_SERVICES" --disable-admission-plugins ServiceAccount \
    --kubelet-preferred-address-types InternalIP --kubelet-client-certificate "$certs/kubelet-client.crt" \
    --kubelet-client-key "$certs/kubelet-client.key" --enable-priority-and-fairness=false
  k8s_await apiserver k8s_kubectl get --raw /readyz
  config+=(--authentication-kubeconfig "$K8S_DIR/kubeconfig" --authorization-kubeconfig "$K8S_DIR/kubeconfig"
    --leader-elect=false --bind-address 127.0.0.1)
  k8s_launch controller-manager "$K8S_PROGRAM" controller-manager "${config[@]}" --secure-port $((K8S_PORT + 3)) \
    --cert-dir "$certs/controller-manager" --service-account-private-key-file "$certs/sa.key" \
    --use-service-account-credentials=false --controllers "$K8S_CONTROLLERS"
  k8s_launch scheduler "$K8S_PROGRAM" scheduler "${config[@]}" --secure-port $((K8S_PORT + 4)) --cert-dir "$certs/scheduler"
  k8s_launch kubelet "$K8S_PROGRAM" kubelet --kubeconfig "$K8S_DIR/kubeconfig" --dir "$K8S_DIR/kubelet" --data "$K8S_DIR/data" \
    --nodes "$K8S_NODES" --port "$K8S_PORT" --client-ca "$certs/kubelet-client.crt" --pod-net "$K8S_NET" \
    --bridge "mill-k8s-${K8S_NET#*.}" --service-cidr "$K8S_SERVICES"
  k8s_storage_classes | k8s_kubectl apply -f - >/dev/null
  k8s_await kubelet k8s_nodes_are_ready
  k8s_await controller-manager port_open $((K8S_PORT + 3))
  k8s_await scheduler port_open $((K8S_PORT + 4))
  echo "Kubernetes runs: export KUBECONFIG=$K8S_DIR/kubeconfig; the machine is $K8S_NET.0.1 for its pods"
}

k8s_stop() {
  local name
  for name in kubelet scheduler controller-manager apiserver etcd; do
    end_pid "$K8S_DIR/pids/$name" TERM 40 || end_pid "$K8S_DIR/pids/$name" KILL 10
  done
}

k8s_status() {
  local name pid status=0
  for name in etcd apiserver controller-manager scheduler kubelet; do
    if pid=$(live_pid "$K8S_DIR/pids/$name"); then echo "$name runs, pid $pid"; else echo "$name is stopped"; status=3; fi
  done
  return $status
}

# Runs a command with a cluster and the image of this build, and MILLRACE_TEST_* set.
with_k8s() { # image command args...
  local status=0 image=$1; shift
  k8s_ready
  TEST_K8S_DIR=$(mktemp -d "${TMPDIR:-/tmp}/millrace-k8s.XXXXXX")
  trap end_k8s EXIT
  K8S_DIR=$TEST_K8S_DIR
  K8S_PORT=$(free_ports 5)
  # Several runs side by side have networks of their own.
  K8S_NET=10.$((100 + K8S_PORT / 16 % 128))
  K8S_SERVICES=10.96.$((K8S_PORT / 16 % 256)).0/24
  k8s_start >&2
  MILL_K8S_DIR=$K8S_DIR MILLRACE_TEST_KUBECONFIG=$K8S_DIR/kubeconfig MILLRACE_TEST_GATEWAY=$K8S_NET.0.1 \
    MILLRACE_TEST_IMAGE=$image MILLRACE_TEST_MILL=$MILL_HOME/mill "$@" || status=$?
  end_k8s
  trap - EXIT
  return $status
}

end_k8s() {
  k8s_stop
  rm -rf "$TEST_K8S_DIR"
}

k8s_help() {
  cat <<'HELP'
./mill k8s start           a real Kubernetes control plane with two nodes, in the background; pods run as local processes
./mill k8s stop | status   --wipe after stop deletes its data
./mill k8s image NAME ROOT [--user UID] [--env K=V]... -- COMMAND [ARG]...
                           what a pod with this image runs: a root file system (see ./mill image), and a command in it
HELP
}

k8s() {
  local command=${1:-help}; [ $# = 0 ] || shift
  case $command in
    start) k8s_start ;;
    stop) k8s_stop; [ "${1:-}" != --wipe ] || rm -rf "$K8S_DIR"; echo "stopped" ;;
    status) k8s_status ;;
    image) k8s_ready; mkdir -p "$K8S_DIR/kubelet"; "$K8S_PROGRAM" image "$K8S_DIR/kubelet/images.json" "$@" ;;
    help) k8s_help ;;
    *) k8s_help >&2; die "no such command: k8s $command" ;;
  esac
}
