#!/usr/bin/env bash
# Builds the demo's three releases of Unleash and pushes them to the test cluster's registry. Prints one line for each: its
# name and its reference by digest.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cluster=$here/../../tests/cluster
# shellcheck source=tests/cluster/lib.sh
. "$cluster/lib.sh"

build() { # TAG [build arguments]
  local tag=$1 reference
  shift
  # With the cache of layers, so that the three share Node and npm: the arguments choose files and stages, nothing else.
  reference=$("$cluster/build-image.sh" "unleash:$tag" "$here" "$here/Dockerfile" --layers "$@")
  echo "unleash:$tag $reference"
}

"$cluster/deps.sh"
# Or the first build would clear away what the others want to share.
using_store
build 6.3.0 --build-arg VERSION=6.3.0
build 7.4.1 --build-arg VERSION=7.4.1
build 7.5.0-broken --build-arg VERSION=7.4.1 --target broken
clean_store
