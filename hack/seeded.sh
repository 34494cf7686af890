#!/usr/bin/env bash
# hack/seeded.sh [NAME...]: a test that cannot fail shows nothing. Each patch in tests/seeded breaks the operator in one way and
# names the story that must notice: the broken operator is built, installed, and the story must turn red. Not part of
# `make test`; it takes about two minutes a patch. Needs a cluster (tests/cluster/up.sh) and ends with the right operator.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD
KUBECONFIG=$(tests/cluster/up.sh | tail -n 1)
PATH=$(dirname -- "$KUBECONFIG")/bin:$PATH
export KUBECONFIG PATH CARGO_TARGET_DIR=$root/target
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || mapfile -t seeds < <(find tests/seeded -name '*.patch' -exec basename {} .patch \; | sort)

cargo test --quiet --locked --test e2e --no-run
stories=$(cargo test --locked --test e2e --no-run --message-format=json 2>/dev/null | jq -r 'select(.executable != null and .target.name == "e2e") | .executable' | tail -n 1)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
failed=0
for seed in "${seeds[@]}"; do
  rm -rf "${copy:?}/src" && mkdir -p "$copy/src"
  git ls-files -z | xargs -0 cp --parents -t "$copy/src"
  patch --quiet --directory="$copy/src" --strip=1 <"tests/seeded/$seed.patch"
  story=$(sed -n 's/^story: //p' "tests/seeded/$seed.patch")
  (cd "$copy/src" && cargo build --quiet --locked --bins)
  image=$(tests/cluster/lockkeeper-image.sh "$root/target/debug")
  if LOCKKEEPER_E2E_IMAGE=$image "$stories" --test-threads=1 --exact "$("$stories" --list --format=terse | sed -n "s/^\(.*$story\): test$/\1/p")" >"$copy/log" 2>&1; then
    echo "NOT CAUGHT  $seed: $story is green"
    failed=1
  else
    echo "caught      $seed: $story: $(grep -m1 -A1 'panicked at tests' "$copy/log" | tail -n 1 | cut -c1-160)"
  fi
done
cargo build --quiet --locked --bins
exit $failed
