#!/usr/bin/env bash
# The shop without Lockkeeper: Staging with Unleash 7.4.1 and Production with 6.3.0, each with a database of its own and
# some data. May run again: what is there stays.
#
#   demo/apps.sh            LOCKKEEPER_DEMO_PREFIX=other demo/apps.sh   in other namespaces
set -euo pipefail
# shellcheck source=demo/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
cluster_up
build_images
# Side by side; a failure of either is one.
install_shop staging 7.4.1 &
staging=$!
install_shop production 6.3.0 &
production=$!
wait "$staging" && wait "$production"
