# Shared by the scripts of this folder; sourced, never run. It sets no state, only names and small functions.
# shellcheck shell=bash disable=SC2034

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
C=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper} # survives `cargo clean` and a fresh clone
D=$C/cluster                                                      # one cluster's state: all that `down --purge` removes
T=$C/tools                                                        # programs built from source, one file each
REGISTRY=localhost:5000

REGISTRY_VERSION=v3.1.2
HELM_VERSION=v3.22.0
VERSITYGW_VERSION=v1.8.0

BRIDGE=lk0
NETWORK=lockkeeper
NODE_IP=10.99.0.1
POD_CIDR=10.99.0.0/16
SERVICE_CIDR=10.96.0.0/16
NODE=node1

# Debian keeps iptables, runc and debootstrap where a non-login root shell may not look. And whoever has our links in PATH must
# not make them point at themselves.
PATH=:$PATH:/usr/local/sbin:/usr/sbin:/sbin:
while [[ $PATH == *":$D/bin:"* ]]; do PATH=${PATH/":$D/bin:"/:}; done # two in a row share a colon
PATH=${PATH#:}
export PATH=${PATH%:}

say() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
need_root() { [ "$(id -u)" = 0 ] || die "this needs root (network namespaces, mounts, iptables): run it with sudo -E"; }

# lock NAME FD: one holder at a time. Daemons must be started with the descriptor closed, or they would hold it for ever.
lock() {
  local file=$C/locks/$1
  mkdir -p "$C/locks"
  eval "exec $2<>\"\$file\""
  if ! flock -n "$2"; then
    say "waiting for another run (pid $(cat "$file")) to finish with '$1'"
    flock -w 1800 "$2" || die "gave up after 30 min: pid $(cat "$file") still holds $file"
  fi
  echo $$ >"$file"
}

# http URL [curl options]: for our own addresses only, whatever proxy the environment names.
http() { curl --noproxy '*' -fsk -m 2 "$@"; }

kubectl() { KUBECONFIG=$D/admin.kubeconfig "$D/bin/kubectl" "$@"; }
our_ctr() { ctr -a "$D/run/containerd.sock" -n k8s.io "$@"; }

hash_of_sources() { (cd "$HERE" && sha256sum go.mod go.sum ./*.go | sha256sum | cut -c1-16); }
kubernetes_version() { sed -n 's/^\tk8s.io\/kubernetes //p' "$HERE/go.mod"; }
tool() { # NAME: where the built program is (or will be)
  case $1 in
    hyper) echo "$T/hyper-$(hash_of_sources)" ;;
    registry) echo "$T/registry-$REGISTRY_VERSION" ;;
    helm) echo "$T/helm-$HELM_VERSION" ;;
    versitygw) echo "$T/versitygw-$VERSITYGW_VERSION" ;;
    *) die "no tool named $1" ;;
  esac
}

# overlay_works DIR: can an overlay's upper layer lie there? (Not on another overlay, as inside most containers.)
overlay_works() {
  local t ok=1
  mkdir -p "$1"
  t=$(mktemp -d "$1/.overlay.XXXXXX")
  mkdir "$t"/{low,up,work,all}
  if mount -t overlay overlay -o "lowerdir=$t/low,upperdir=$t/up,workdir=$t/work" "$t/all" 2>/dev/null; then
    umount "$t/all" && ok=0
  fi
  rm -rf "$t"
  return $ok
}

# --- processes. A pid file alone says nothing after a reboot or a kill, so a process is ours when, and only when, the
# program path it was started by lies in our state directory: each component is started through a link there.

pids_of() { # NAME: pids of our component of that name
  local f a
  for f in /proc/[0-9]*/cmdline; do
    a=
    IFS= read -r -d '' a 2>/dev/null <"$f" || continue
    if [ "$a" = "$D/bin/$1" ]; then
      f=${f#/proc/}
      echo "${f%/cmdline}"
    fi
  done 2>/dev/null
}

shim_pids() { # our containerd's shims: they name our socket
  local f line
  for f in /proc/[0-9]*/cmdline; do
    line=$(tr '\0' ' ' 2>/dev/null <"$f") || continue
    case $line in
      *containerd-shim*" -address $D/run/containerd.sock"*)
        f=${f#/proc/}
        echo "${f%/cmdline}"
        ;;
    esac
  done 2>/dev/null
}

end_component() { # NAME [SECONDS]: TERM, wait, KILL
  local pids p i
  pids=$(pids_of "$1")
  rm -f "$D/state/$1.sig"
  [ -n "$pids" ] || return 0
  for p in $pids; do kill -TERM "$p" 2>/dev/null || true; done
  for ((i = 0; i < ${2:-10} * 20; i++)); do
    pids=$(pids_of "$1")
    [ -n "$pids" ] || return 0
    sleep 0.05
  done
  for p in $pids; do kill -KILL "$p" 2>/dev/null || true; done
  for ((i = 0; i < 100; i++)); do
    [ -n "$(pids_of "$1")" ] || return 0
    sleep 0.05
  done
  die "cannot end $1 (pid $pids): it may hang in the kernel; see cat /proc/${pids%% *}/stack"
}

# --- leftovers

kubepods() { # cgroup directories of pods, deepest first
  local top
  for top in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [ -d "$top" ] && find "$top" -depth -type d
  done
  return 0
}

# sweep: ends what is left of containers and unmounts what they had. Only while neither containerd nor kubelet run.
sweep() {
  local p d i
  for p in $(shim_pids); do kill -KILL "$p" 2>/dev/null || true; done
  # Containers whose shim is gone. Their cgroup says what they are: another kubelet on this machine would have kept our ports.
  for ((i = 0; i < 100; i++)); do
    p=$(kubepods | while read -r d; do cat "$d/cgroup.procs" 2>/dev/null || true; done | sort -u)
    [ -n "$p" ] || break
    # shellcheck disable=SC2086 # pids are words
    kill -KILL $p 2>/dev/null || true
    sleep 0.05
  done
  unmount_all "$D"
  kubepods | while read -r d; do rmdir "$d" 2>/dev/null || true; done
  rm -rf "$D/run" "$D/cni-addresses"
  # What the network plugins note of each container, under a path of their own choosing.
  for d in /var/lib/cni/results/"$NETWORK"-*-eth0; do
    p=${d##*/"$NETWORK"-}
    rm -f "$d" "/var/lib/cni/results/cni-loopback-${p%-eth0}-lo"
  done
  # Shims' sockets have names that say nothing; one that nobody listens on is of no use to anybody.
  for d in /run/containerd/s/*; do
    [ ! -S "$d" ] || grep -qF " $d" /proc/net/unix || rm -f "$d"
  done
}

unmount_all() { # DIR: every mount below it, the last made first
  local m i dir=$1
  for ((i = 0; i < 20; i++)); do
    m=$(awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/self/mounts | tac)
    [ -n "$m" ] || return 0
    while IFS= read -r m; do umount "$(printf '%b' "$m")" 2>/dev/null || ((i < 10)) || umount -l "$(printf '%b' "$m")" 2>/dev/null || true; done <<<"$m"
    sleep 0.1
  done
  die "cannot unmount, see: grep '$dir/' /proc/mounts"
}

# pause_image: what holds a pod's namespaces open. Made here, as the usual one lies in a registry that may be out of reach.
pause_image() {
  our_ctr images ls -q | grep -qx localhost/pause:1 && return
  local t config
  t=$(mktemp -d)
  cat >"$t/pause.c" <<'PAUSE'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void stop(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, stop); signal(SIGTERM, stop); signal(SIGCHLD, reap); for (;;) pause(); }
PAUSE
  gcc -static -O2 -s -o "$t/pause" "$t/pause.c" || die "cannot compile the pause program; is libc6-dev installed?"
  # An image is two JSON files and a layer: no image builder needed.
  tar -C "$t" --owner=0 --group=0 --numeric-owner -cf "$t/layer.tar" pause
  config=$(printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$(sha256sum "$t/layer.tar" | cut -d' ' -f1)")
  printf '%s' "$config" >"$t/config.json"
  printf '[{"Config":"config.json","RepoTags":["localhost/pause:1"],"Layers":["layer.tar"]}]' >"$t/manifest.json"
  tar -C "$t" -cf "$t/image.tar" manifest.json config.json layer.tar
  our_ctr images import "$t/image.tar" >/dev/null || die "containerd did not take the pause image"
  rm -rf "$t"
}

# --- image building

# build_store COMMAND...: buildah with a storage of its own in the cache, apart from what the machine's user may have.
build_store() {
  local driver config=$C/buildah/config
  if [ ! -s "$config/driver" ]; then
    mkdir -p "$config"
    driver=vfs
    ! overlay_works "$C/buildah/root" || driver=overlay
    # Short names mean Docker Hub's, also when looked up locally. Settings of the machine are left out.
    printf 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n' >"$config/registries.conf"
    printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' "$driver" "$C/buildah/root" "$C/buildah/run" >"$config/storage.conf"
    echo "$driver" >"$config/driver"
  fi
  # Without the locks' descriptors, as a builder's child may outlive this run.
  CONTAINERS_STORAGE_CONF=$config/storage.conf CONTAINERS_REGISTRIES_CONF=$config/registries.conf BUILDAH_ISOLATION=chroot \
    BUILDAH_FORMAT=docker buildah "$@" 6>&- 7>&- 8>&- 9>&-
}

# using_store, then clean_store: whoever is last removes the working containers, which the builder leaves after builds of
# several stages, with their mounts, and the layers that are of no more use. Also how down.sh knows of a build under way.
using_store() {
  mkdir -p "$C/locks"
  exec 5>"$C/locks/buildah"
  flock -s 5
}
clean_store() {
  if flock -n -x 5; then
    build_store rm --all >/dev/null 2>&1 || true
    build_store rmi --prune >/dev/null 2>&1 || true # stages and layers that no image uses any more
  fi
  exec 5>&-
}
