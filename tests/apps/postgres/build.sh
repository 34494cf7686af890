#!/usr/bin/env bash
# Builds the PostgreSQL image and pushes it to the test cluster's registry. Prints its name and its reference by digest.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
reference=$("$here/../../cluster/build-image.sh" postgres:18 "$here")
echo "postgres:18 $reference"
