#!/usr/bin/env bash
# Builds the pretix image and pushes it to the test cluster's registry. Prints its name and its reference by digest. Minutes the
# first time; the registry keeps it in the cache.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
reference=$("$here/../../cluster/build-image.sh" pretix:2025.10.2 "$here/image")
echo "pretix:2025.10.2 $reference"
