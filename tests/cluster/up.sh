#!/usr/bin/env bash
# Brings up a one-node Kubernetes on this machine, or completes what is already there: each component is looked at, left
# alone when it is well and as this script would start it now, and (re)started otherwise. Only the last line goes to
# standard output: the path of the kubeconfig. ~/.kube is never touched.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root
[ $# = 0 ] || die "up.sh takes no arguments"
"$HERE/deps.sh"

lock cluster 9
B=$D/bin P=$D/pki L=$D/logs S=$D/state
mkdir -p "$B" "$P" "$L" "$S" "$D/volumes"
chmod 700 "$P"
chmod 711 "$D" "$D/volumes" 2>/dev/null || true
SECONDS=0

# Our daemons talk to this machine only; a proxy or a CA meant for the outside would only be in their way.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY KUBECONFIG
ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"
umask 022

link() { # TARGET NAME: by rename, as someone may be calling it this moment
  [ "$(readlink "$B/$2" 2>/dev/null)" = "$1" ] || { ln -s "$1" "$B/.$2.$$" && mv -T "$B/.$2.$$" "$B/$2"; }
}
hyper=$(tool hyper)
for n in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns volume-provisioner kubectl; do
  link "$hyper" $n
done
link "$(tool registry)" registry
link "$(tool helm)" helm
link "$(command -v containerd)" containerd

# --- certificates: two years each, made anew in the last month; the CA with all of them in its last year.
cd "$P"
valid() { [ -s "$1.crt" ] && [ -s "$1.key" ] && openssl x509 -checkend "$2" -noout -in "$1.crt" >/dev/null 2>&1; }
quietly() { "$@" 2>"$S/openssl.log" || die "$(tail -3 "$S/openssl.log")"; }
fresh() { # a file takes its name only when whole
  local f
  for f in "$@"; do mv "$f.new" "$f"; done
}
if ! valid ca $((366 * 86400)); then
  rm -f ./*.crt ./*.key
  quietly openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key.new -out ca.crt.new -days 3650 -subj /CN=lockkeeper-test-ca
  fresh ca.key ca.crt
fi
if [ ! -s sa.pub ] || [ ! -s sa.key ]; then # signs ServiceAccount tokens
  quietly openssl genrsa -out sa.key.new 2048
  quietly openssl rsa -in sa.key.new -pubout -out sa.pub.new
  fresh sa.key sa.pub
fi
certificate() { # NAME SUBJECT NAMES
  valid "$1" $((30 * 86400)) && return
  quietly openssl req -newkey rsa:2048 -nodes -keyout "$1.key.new" -out "$1.csr" -subj "$2"
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >"$1.ext"
  quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 730 -out "$1.crt.new" -extfile "$1.ext"
  fresh "$1.key" "$1.crt"
  rm -f "$1.csr" "$1.ext"
}
certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$NODE_IP,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certificate admin /O=system:masters/CN=admin DNS:admin
certificate kcm /CN=system:kube-controller-manager DNS:kcm
certificate scheduler /CN=system:kube-scheduler DNS:scheduler
certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
certificate proxy /CN=system:kube-proxy DNS:proxy
# Names of their own, so that the audit log tells them from a person with the admin's kubeconfig.
certificate coredns /O=system:masters/CN=coredns DNS:coredns
certificate provisioner /O=system:masters/CN=volume-provisioner DNS:provisioner
cd "$HERE"

put() { # FILE: standard input becomes its content, if it differs
  local new
  new=$(cat)
  [ "$new" = "$(cat "$1" 2>/dev/null)" ] || { printf '%s\n' "$new" >"$1.new" && mv "$1.new" "$1"; }
}
b64() { base64 -w0 "$P/$1"; }
for n in admin kcm scheduler kubelet proxy coredns provisioner; do
  (
    umask 077
    # Contents, not paths, so that a copy of the file works wherever it goes.
    put "$D/$n.kubeconfig" <<Y
apiVersion: v1
kind: Config
clusters: [{name: lockkeeper, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(b64 ca.crt)}}]
users: [{name: $n, user: {client-certificate-data: $(b64 $n.crt), client-key-data: $(b64 $n.key)}}]
contexts: [{name: lockkeeper, context: {cluster: lockkeeper, user: $n}}]
current-context: lockkeeper
Y
  )
done

# --- components: ensure starts one, await waits until it is well.
declare -A health fate child
component() { health[$1]=$2; }
well() { [ -n "$(pids_of "$1")" ] && eval "${health[$1]}" >/dev/null 2>&1; }
component etcd 'http http://127.0.0.1:2379/health'
component containerd 'our_ctr --connect-timeout 2s --timeout 2s version'
component registry "http http://127.0.0.1:5000/v2/"
component kube-apiserver 'http https://127.0.0.1:6443/readyz'
component kube-controller-manager 'http https://127.0.0.1:10257/healthz'
component kube-scheduler 'http https://127.0.0.1:10259/healthz'
component kubelet 'http http://127.0.0.1:10248/healthz'
component kube-proxy 'http http://127.0.0.1:10256/livez'
component coredns 'http http://127.0.0.1:8181/ready'
component volume-provisioner true

log_tail() {
  say "--- the end of $L/$1.log"
  tail -n 15 "$L/$1.log" | cut -c1-400 >&2 || true
  say "---"
}

# ensure NAME [FILE...] -- ARGUMENT...: files are what the program reads at its start. It is restarted when program, arguments
# or files are no longer what it was started with, and when it does not get well again by itself.
ensure() {
  local name=$1 files=() sig i
  shift
  while [ "$1" != -- ]; do
    files+=("$1")
    shift
  done
  shift
  sig=$({
    readlink -f "$B/$name"
    printf '%q ' "$@"
    [ ${#files[@]} = 0 ] || cat "${files[@]}"
  } | sha256sum)
  fate[$name]=kept
  if [ -n "$(pids_of "$name")" ]; then
    if [ "$(cat "$S/$name.sig" 2>/dev/null)" = "$sig" ]; then
      for ((i = SECONDS + 10; SECONDS < i;)); do
        well "$name" && return
        [ -n "$(pids_of "$name")" ] || break
        sleep 0.2
      done
      say "$name is not well: restarting it"
    else
      say "$name was started in another way: restarting it"
    fi
    end_component "$name"
  fi
  fate[$name]=started
  [ ! -e "$L/$name.log" ] || mv -f "$L/$name.log" "$L/$name.log.1"
  # Through the link in our directory, which is how down.sh knows the process; and with nothing of whoever runs this script: no
  # descriptors (a lock's, a pipe's whose reader waits for its end), no environment.
  (
    cd /
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd < 3)) || eval "exec $fd>&-"
    done
    exec setsid nohup env -i PATH="$PATH" HOME="$HOME" LANG=C.UTF-8 "$B/$name" "$@" </dev/null >"$L/$name.log" 2>&1
  ) &
  child[$name]=$!
  printf '%s\n' "$sig" >"$S/$name.sig"
}

await() { # NAME...
  local name i
  for name; do
    for ((i = 0; ; i++)); do
      ! well "$name" || break
      if ! kill -0 "${child[$name]:-$(pids_of "$name")}" 2>/dev/null; then
        log_tail "$name"
        [ "$name" != etcd ] || say "if its data is damaged (the machine went down hard): down.sh --purge, then up.sh"
        die "$name ended right after its start"
      fi
      ((i < 900)) || {
        log_tail "$name"
        die "$name is still not well after 90 s"
      }
      sleep 0.1
    done
  done
}

# A port that someone else holds would show up much later and much less clearly.
ports='2379|2380|5000|6443|8181|10248|10249|10250|10256|10257|10259'
foreign=$(ss -Hltnp | awk -v want="^($ports)\$" '{n = $4; sub(/.*:/, "", n); if (n ~ want) print n, $6}' | sort -u |
  while read -r port who; do
    mine=
    while read -r pid; do
      a=
      IFS= read -r -d '' a <"/proc/$pid/cmdline" || true
      case $a in "$B"/*) mine=1 ;; esac
    done < <(grep -o 'pid=[0-9]*' <<<"$who" | cut -d= -f2)
    [ -n "$mine" ] || echo "  port $port: ${who:-held by a process of another namespace}"
  done)
[ -z "$foreign" ] || die "ports that the cluster needs are taken (another cluster, or one with another LOCKKEEPER_CACHE?):
$foreign"

# --- what a run that was cut off left. While a shim lives, its containers do, and containerd takes them over. Without any
# the machine was rebooted or all was killed: everything under run/ is then stale, as on a node that boots.
if [ -z "$(pids_of containerd)" ] && [ -z "$(shim_pids)" ]; then
  end_component kubelet
  sweep
fi

# --- network
remember() { # KEY VALUE: set a sysctl, note what it was for down.sh
  local now
  now=$(sysctl -n "$1" 2>/dev/null) || return 0
  grep -q "^$1=" "$S/sysctl" 2>/dev/null || echo "$1=$now" >>"$S/sysctl"
  [ -z "$2" ] || [ "$now" = "$2" ] || sysctl -qw "$1=$2" || die "cannot set sysctl $1=$2"
}
remember net.ipv4.ip_forward 1
# kubelet and kube-proxy set these by themselves
for k in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys \
  kernel.keys.root_maxbytes net.ipv4.conf.all.route_localnet net.netfilter.nf_conntrack_max; do remember $k ''; done

if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
  ip link add "$BRIDGE" type bridge || die "cannot make a network bridge: is this container unprivileged, or the kernel without bridges?"
fi
ip addr replace "$NODE_IP/16" dev "$BRIDGE"
ip link set "$BRIDGE" up
# A Service's address must never leave the machine, not even where there is no rule for it or no default route.
ip route replace "$SERVICE_CIDR" dev "$BRIDGE"

# Answers between two pods cross the bridge; without this they would not be seen by the rules that undo a Service's
# translation. Where the kernel lacks it, every Service connection is masqueraded instead.
masquerade_all=true
[ -e /proc/sys/net/bridge ] || modprobe br_netfilter 2>/dev/null || true
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
  remember net.bridge.bridge-nf-call-iptables 1
  masquerade_all=false
fi

# Pods reach each other and this machine, nothing else; and nobody outside reaches the API server. What fails fast in a
# test here would hang, or worse, succeed by accident.
rules() { # CHAIN HOOK RULE...
  local chain=$1 hook=$2 rule
  shift 2
  iptables -w -n -L "$chain" >/dev/null 2>&1 && iptables -w -C "$hook" -j "$chain" 2>/dev/null && return
  iptables -w -N "$chain" 2>/dev/null || iptables -w -F "$chain"
  for rule; do
    # shellcheck disable=SC2086 # a rule is words
    iptables -w -A "$chain" $rule
  done
  iptables -w -I "$hook" -j "$chain"
}
rules LOCKKEEPER-IN INPUT "-i lo -j RETURN" "-i $BRIDGE -j RETURN" "-p tcp --dport 6443 -j DROP"
rules LOCKKEEPER-FWD FORWARD "-i $BRIDGE -o $BRIDGE -j ACCEPT" "-i $BRIDGE -j REJECT" "-o $BRIDGE -j REJECT"

mkdir -p "$D/cni"
put "$D/cni/10-lockkeeper.conflist" <<Y
{"cniVersion": "0.4.0", "name": "$NETWORK", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "dataDir": "$D/cni-addresses",
    "ranges": [[{"subnet": "$POD_CIDR", "rangeStart": "10.99.1.1", "gateway": "$NODE_IP"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y

# On a machine whose pid 1 is no systemd and which is a container itself, its processes sit where, under cgroup v2, the pods'
# parent must be, and that place may hold either processes or limits.
if [ -e /sys/fs/cgroup/cgroup.controllers ] && [ -e /sys/fs/cgroup/cgroup.type ] && [ -n "$(cat /sys/fs/cgroup/cgroup.procs)" ]; then
  mkdir -p /sys/fs/cgroup/init
  while read -r p; do echo "$p" >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true; done </sys/fs/cgroup/cgroup.procs
fi
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  read -ra controllers </sys/fs/cgroup/cgroup.controllers
  for c in "${controllers[@]}"; do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true; done
fi

# --- etcd, containerd, registry
# Without fsync: it is a test's data, and a killed process loses nothing by it, only a machine that goes down does.
ensure etcd -- --name=test --data-dir="$D/etcd" --unsafe-no-fsync --log-level=warn --auto-compaction-retention=1h \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 \
  --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=test=http://127.0.0.1:2380

put "$D/registry.yaml" <<Y
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $C/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:5000"}
Y
# Images that no build asked for in two weeks go, while nobody reads.
if [ -z "$(pids_of registry)" ] && [ -d "$C/registry" ]; then
  old=$(find "$C/registry" -path '*/_manifests/tags/key-*/current/link' -mtime +14)
  if [ -n "$old" ]; then
    while read -r f; do rm -rf "${f%/current/link}"; done <<<"$old"
    "$B/registry" garbage-collect --delete-untagged "$D/registry.yaml" >"$L/registry-collect.log" 2>&1 ||
      say "the registry could not be tidied, see $L/registry-collect.log"
  fi
fi
ensure registry "$D/registry.yaml" -- serve "$D/registry.yaml"

# Every registry's name leads to the local one: an image that is not here fails at once, and never from the network.
mkdir -p "$D/registries/_default"
put "$D/registries/_default/hosts.toml" <<Y
server = "http://127.0.0.1:5000"
[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
Y
snapshotter=overlayfs
overlay_works "$D/containerd" || snapshotter=native
put "$D/containerd.toml" <<Y
version = 2
root = "$D/containerd"
state = "$D/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$D/run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$D/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Where CAP_SYS_RESOURCE is missing, runc dies lowering a pod's score ("can't get final child's PID from pipe: EOF").
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$D/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$D/run/runc"
Y
mkdir -p "$D/run"
ensure containerd "$D/containerd.toml" -- -c "$D/containerd.toml"
await etcd registry

# --- API server. The audit log is how someone from outside can judge who changed what, and when.
put "$D/audit-policy.yaml" <<Y
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, resources: [{group: coordination.k8s.io, resources: [leases]}], namespaces: [kube-node-lease, kube-system]}
  - {level: None, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}, {group: authorization.k8s.io}]}
  - {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
Y
ensure kube-apiserver "$D/audit-policy.yaml" "$P/ca.crt" "$P/apiserver.crt" "$P/admin.crt" "$P/sa.pub" -- \
  --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range="$SERVICE_CIDR" --bind-address=0.0.0.0 --advertise-address="$NODE_IP" \
  --client-ca-file="$P/ca.crt" --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" \
  --service-account-key-file="$P/sa.pub" --service-account-signing-key-file="$P/sa.key" --service-account-issuer=https://kubernetes.default.svc \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
  --kubelet-certificate-authority="$P/ca.crt" --kubelet-client-certificate="$P/admin.crt" --kubelet-client-key="$P/admin.key" \
  --kubelet-preferred-address-types=InternalIP \
  --audit-policy-file="$D/audit-policy.yaml" --audit-log-path="$L/audit.log" --audit-log-maxsize=50 --audit-log-maxbackup=4 --audit-log-maxage=30
await containerd
pause_image
await kube-apiserver

# --- controllers, scheduler, node. More requests a second than the defaults, which hold back a burst of test namespaces.
ensure kube-controller-manager "$D/kcm.kubeconfig" "$P/sa.pub" -- --kubeconfig="$D/kcm.kubeconfig" --service-account-private-key-file="$P/sa.key" --root-ca-file="$P/ca.crt" \
  --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" --use-service-account-credentials=true \
  --leader-elect=false --bind-address=127.0.0.1 --kube-api-qps=100 --kube-api-burst=200 --profiling=false
put "$D/scheduler.yaml" <<Y
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: $D/scheduler.kubeconfig, qps: 100, burst: 200}
enableProfiling: false
Y
ensure kube-scheduler "$D/scheduler.yaml" "$D/scheduler.kubeconfig" -- --config="$D/scheduler.yaml" --bind-address=127.0.0.1
put "$D/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/kubelet.crt
tlsPrivateKeyFile: $P/kubelet.key
containerRuntimeEndpoint: unix://$D/run/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: $D/pod-logs
volumePluginDir: $D/kubelet-plugins
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%"}
localStorageCapacityIsolation: true
# How soon a mounted ConfigMap or Secret follows its object; the default is a minute.
syncFrequency: 5s
Y
mkdir -p "$D/pod-logs"
ensure kubelet "$D/kubelet.yaml" "$D/kubelet.kubeconfig" "$P/kubelet.crt" -- --config="$D/kubelet.yaml" --kubeconfig="$D/kubelet.kubeconfig" \
  --cert-dir="$P/kubelet" --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir="$D/kubelet"
# Zero for conntrack: its limits are the machine's, and often read-only.
ensure kube-proxy "$D/proxy.kubeconfig" -- --kubeconfig="$D/proxy.kubeconfig" --proxy-mode=iptables --cluster-cidr="$POD_CIDR" \
  --hostname-override="$NODE" --masquerade-all="$masquerade_all" --nodeport-addresses="127.0.0.0/8,$POD_CIDR" \
  --metrics-bind-address=127.0.0.1:10249 --healthz-bind-address=127.0.0.1:10256 \
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
# No cache: a Service made a moment ago must resolve now. Outside names do not exist, said at once.
put "$D/Corefile" <<Y
cluster.local:53 in-addr.arpa:53 {
  bind $NODE_IP
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $D/coredns.kubeconfig lockkeeper
    ttl 1
  }
}
.:53 {
  bind $NODE_IP
  template ANY ANY {
    rcode NXDOMAIN
  }
}
Y
ensure coredns "$D/Corefile" "$D/coredns.kubeconfig" -- -conf "$D/Corefile"
ensure volume-provisioner "$D/provisioner.kubeconfig" -- --kubeconfig="$D/provisioner.kubeconfig" --root="$D/volumes"
await kube-controller-manager kube-scheduler kubelet kube-proxy coredns volume-provisioner

# --- what a pod needs before it can be made
until_true() { # SECONDS WHAT COMMAND...
  local i n=$1 what=$2
  shift 2
  for ((i = 0; i < n * 10; i++)); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  say "--- the node:"
  kubectl describe node "$NODE" 2>&1 | sed -n '/^Conditions/,/^Addresses/p' >&2 || true
  log_tail kubelet
  die "$what: not after $n s"
}
node_ready() { [ "$(kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints}')" = True ]; }
storage_class() {
  kubectl get storageclass standard || kubectl create -f - <<Y
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: lockkeeper.dev/host-directory
reclaimPolicy: Delete
volumeBindingMode: Immediate
Y
}
until_true 90 "node $NODE is Ready" node_ready
until_true 30 "ServiceAccount default exists" kubectl get serviceaccount default
until_true 30 "StorageClass standard exists" storage_class

started=
for n in "${!fate[@]}"; do [ "${fate[$n]}" = kept ] || started+=" $n"; done
[ -z "$started" ] || say "cluster is up after $SECONDS s (started:$started)"
echo "$D/admin.kubeconfig"
