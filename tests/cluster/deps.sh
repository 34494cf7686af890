#!/usr/bin/env bash
# Makes the machine ready for the test cluster: Debian packages by apt, and the programs that Debian does not carry (or not
# in a usable version) built from their sources by Go. Quick and silent when all is there.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root

# The program that proves a package is there, and the package: a look-up by program costs nothing, dpkg-query does.
needed=(
  containerd:containerd runc:runc iptables:iptables conntrack:conntrack ip:iproute2 openssl:openssl gcc:gcc
  buildah:buildah debootstrap:debootstrap mkfs.xfs:xfsprogs jq:jq curl:curl mount:mount flock:util-linux
  strip:binutils tar:tar gzip:gzip sysctl:procps
)
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
done
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || [ -e /usr/lib/aarch64-linux-gnu/libc.a ] || missing+=(libc6-dev)
[ -e /etc/containers/policy.json ] || missing+=(golang-github-containers-common)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)

tools=(hyper registry helm versitygw)
unbuilt=()
for t in "${tools[@]}"; do [ -x "$(tool "$t")" ] || unbuilt+=("$t"); done
[ ${#missing[@]} -gt 0 ] || [ ${#unbuilt[@]} -gt 0 ] || exit 0

lock deps 8
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || die "missing: ${missing[*]}. This script knows only apt (Debian 12 or 13)"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # containerd's package would start a service of its own where systemd runs; ours has its own socket and state.
  # A source that cannot be refreshed (a vendor's, an expired one) is no reason to stop if the packages can be had.
  if ! { apt-get update || true; RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    die "apt could not install ${missing[*]}; the lines above say why"
  fi
  rm -f "$log"
fi

command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer (https://go.dev/dl) and put it in PATH"
mkdir -p "$T"

# build NAME COMMAND...: the command gets a fresh directory in $OUT and leaves the program there under its name. The
# rename at the end is the only step that others see, so a build that is cut off leaves nothing half-made.
build() {
  local name=$1 to
  shift
  to=$(tool "$name")
  [ -x "$to" ] && return # another run built it while we waited for the lock
  say "building $name from source (once for this version; see README.md for how long it takes)"
  rm -rf "$T/.$name".*
  OUT=$(mktemp -d "$T/.$name.XXXXXX")
  export OUT CGO_ENABLED=0 GOBIN=$OUT GOFLAGS=-buildvcs=false
  if ! (cd "$HERE" && nice "$@") >"$OUT/log" 2>&1; then
    tail -30 "$OUT/log" >&2
    die "building $name failed; the lines above say why (the Go module proxy must be reachable: go env GOPROXY)"
  fi
  mv "$OUT/$name" "$to"
  rm -rf "$OUT"
}

version=$(kubernetes_version)
minor=${version#v1.}
x=k8s.io/component-base/version
for t in "${unbuilt[@]}"; do
  case $t in
    hyper)
      # shellcheck disable=SC2016 # $OUT is known only where the command runs
      # Without these the API server would call itself v0.0.0 and charts would refuse it.
      build hyper bash -c 'exec go build -trimpath -ldflags "$1" -o "$OUT/hyper" .' - \
        "-s -w -X $x.gitVersion=$version -X $x.gitMajor=1 -X $x.gitMinor=${minor%%.*} -X $x.gitTreeState=clean"
      # Earlier versions: keep the newest two, for someone who goes back and forth between branches.
      find "$T" -maxdepth 1 -name 'hyper-*' -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm -f
      ;;
    registry) build registry go install -trimpath -ldflags '-s -w' "github.com/distribution/distribution/v3/cmd/registry@$REGISTRY_VERSION" ;;
    versitygw) build versitygw go install -trimpath -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW_VERSION" ;;
    helm) build helm go install -trimpath -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" ;;
  esac
done
