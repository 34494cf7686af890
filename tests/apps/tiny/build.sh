#!/usr/bin/env bash
# Builds tiny and an image for each of its releases, and pushes them to the test cluster's registry. Prints one line for
# each: its name and the reference, by digest, that a manifest should carry. Quick where nothing changed.
#
#   tests/apps/tiny/build.sh             all of them
#   tests/apps/tiny/build.sh 1 2-broken  some of them
#   tests/apps/tiny/build.sh --binary    only the program; prints its path (the writer and the poller run on the host)
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper}/apps

hash=$(cd "$here" && cat go.mod go.sum Dockerfile ./*.go | sha256sum | cut -c1-16)
# A context of its own, so that the image's cache sees the binary and the Dockerfile, not this folder's tests.
context=$cache/tiny-$hash
if [ ! -x "$context/tiny" ]; then
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/.tiny.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  # mktemp's directory is the owner's alone, which a rootless builder may not be.
  chmod 755 "$fresh"
  cp "$here/Dockerfile" "$fresh/"
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags '-s -w' -o "$fresh/tiny" .) >&2
  # The rename is the only step that others see: a build that is cut off leaves nothing half-made. Where another run was
  # quicker, its result is as good as ours.
  mv -T "$fresh" "$context" 2>/dev/null || [ -x "$context/tiny" ]
fi
if [ "${1:-}" = --binary ]; then
  echo "$context/tiny"
  exit
fi

[ $# -gt 0 ] || set -- 1 2 2-broken 2-crashloop 2-unverified 2-slow 2-hungry
declare -A owner=()
for release in "$@"; do
  # Two small layers, not worth a cache; and buildah 1.28's would take all releases for one, see tests/cluster/README.md.
  reference=$("$here/../../cluster/build-image.sh" "tiny:$release" "$context" "$context/Dockerfile" --no-cache \
    --build-arg "RELEASE=$release")
  # Two releases of one digest are one release to the operator: a story would promote nothing, and pass.
  [ -z "${owner[$reference]:-}" ] || { echo "error: tiny:$release and tiny:${owner[$reference]} are the same image" >&2; exit 1; }
  owner[$reference]=$release
  echo "tiny:$release $reference"
done
