#!/usr/bin/env bash
# Formatting, clippy, dependencies, shell scripts. cargo-deny is built once, outside target/.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper}/tools
cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
if [ "${1:-}" != quick ]; then
  [ -x "$tools/bin/cargo-deny" ] || cargo install --quiet --locked --root "$tools" cargo-deny@0.18.9 || cargo install --quiet --locked --root "$tools" cargo-deny
  # Advisories need a database from the network, which CI does not have; the rest needs none.
  "$tools/bin/cargo-deny" --offline check licenses bans sources
fi
find tests demo hack .ci -type f \( -name '*.sh' -o -name run \) -print0 | xargs -0 -n1 bash -n
