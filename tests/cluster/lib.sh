# Shared by the scripts of this folder; sourced, never run. It sets no state, only names and small functions.
# shellcheck shell=bash

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
C=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper} # survives `cargo clean` and a fresh clone
D=$C/cluster                                                      # one cluster's state: all that `down --purge` removes
T=$C/tools                                                        # programs built from source, one file each
REGISTRY=localhost:5000

REGISTRY_VERSION=v3.1.2
HELM_VERSION=v3.22.0

BRIDGE=lk0
NETWORK=lockkeeper
NODE_IP=10.99.0.1
POD_CIDR=10.99.0.0/16
SERVICE_CIDR=10.96.0.0/16
NODE=node1

# Debian keeps iptables, runc and debootstrap where a non-login root shell may not look.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
need_root() { [ "$(id -u)" = 0 ] || die "this needs root (network namespaces, mounts, iptables): run it with sudo -E"; }

# lock NAME FD: one holder at a time. Daemons must be started with the descriptor closed, or they would hold it for ever.
lock() {
  mkdir -p "$C/locks"
  eval "exec $2>\"\$C/locks/\$1\""
  flock -n "$2" && return
  say "another run holds $C/locks/$1; waiting for it"
  flock -w 1800 "$2" || die "gave up after 30 min waiting for $C/locks/$1; see who has it open: fuser -v $C/locks/$1"
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
