#!/usr/bin/env bash
# lockkeeper-image.sh [DIR]: makes the image of the binaries that cargo built (DIR is target/release unless given), pushes it
# as lockkeeper:dev and prints its reference with digest. The same Dockerfile as everyone's, with the compiling stage
# replaced by what is compiled already: cargo's own cache on the machine makes that seconds instead of minutes.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root
[ $# -le 1 ] || die "usage: lockkeeper-image.sh [DIR with lockkeeper and kubectl-lockkeeper]"
root=$(cd "$HERE/../.." && pwd)
from=${1:-${CARGO_TARGET_DIR:-$root/target}/release}
"$HERE/deps.sh"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
for b in lockkeeper kubectl-lockkeeper; do
  [ -x "$from/$b" ] || die "$from/$b is missing: cargo build --release --locked --bins"
  strip -o "$context/$b" "$from/$b" 2>/dev/null || die "$from/$b is no program of this machine"
  chmod 755 "$context/$b"
done
# With the cache of layers: the argument only chooses a stage, and PostgreSQL's tools need not be fetched each time.
"$HERE/build-image.sh" lockkeeper:dev "$context" "$root/Dockerfile" --layers --build-arg BINARIES=prebuilt
