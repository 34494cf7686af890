#!/usr/bin/env bash
# Installs what is measured beside us, and measures. A peer that cannot be had is said and left out.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper}/tools
mkdir -p "$tools"

LOCKKEEPER_PG_BIN=$(hack/postgres.sh 18)
export LOCKKEEPER_PG_BIN

if ! command -v pgcopydb >/dev/null; then
  echo "installing pgcopydb" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgcopydb; } >/dev/null ||
    echo "pgcopydb cannot be installed by apt" >&2
fi
LOCKKEEPER_BENCH_PGCOPYDB=$(command -v pgcopydb || true)

version=$(sed -n 's|.*greenmaskio/greenmask \(v[0-9.]*\).*|\1|p' hack/greenmask/go.mod)
LOCKKEEPER_BENCH_GREENMASK=$tools/greenmask-$version
if [ ! -x "$LOCKKEEPER_BENCH_GREENMASK" ]; then
  echo "building Greenmask $version, once" >&2
  (cd hack/greenmask && CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -o "$LOCKKEEPER_BENCH_GREENMASK" github.com/greenmaskio/greenmask/cmd/greenmask) ||
    echo "Greenmask cannot be built" >&2
fi
export LOCKKEEPER_BENCH_PGCOPYDB LOCKKEEPER_BENCH_GREENMASK

# Of what is shipped, but with names for a profiler.
exec cargo test --profile bench --locked --test bench -- --ignored --nocapture
