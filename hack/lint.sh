#!/usr/bin/env bash
# Formatting, clippy, dependencies, shell scripts. cargo-deny is built once, outside target/.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools=${LOCKKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockkeeper}/tools
cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
if [ "${1:-}" != quick ]; then
  [ -x "$tools/cargo-deny" ] || (cargo install --quiet --locked --root "$tools/new" cargo-deny && mv "$tools/new/bin/cargo-deny" "$tools/" && rm -rf "$tools/new")
  # Advisories need a database from the network, which not every machine reaches; the rest needs none.
  "$tools/cargo-deny" --offline check licenses bans sources
fi
find tests demo hack .ci -type f \( -name '*.sh' -o -name run \) -print0 | xargs -0 -n1 bash -n
