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
install_shops
