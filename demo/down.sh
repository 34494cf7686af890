#!/usr/bin/env bash
# Ends the demo: stops the cluster and all that runs in it. Images and built programs stay cached for the next time.
set -euo pipefail
exec "$(dirname -- "${BASH_SOURCE[0]}")/../tests/cluster/down.sh" "$@"
