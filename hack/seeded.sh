#!/usr/bin/env bash
# hack/seeded.sh [NAME...]: a test that cannot fail shows nothing. Each patch in tests/seeded breaks Lockkeeper in one way and
# names who must notice: `story: NAME`, for which the broken operator is installed, or `test: TARGET NAME`. That must turn red.
# Not part of `make test`; it takes about two minutes a patch. Stories need a cluster (tests/cluster/up.sh); it ends with the
# right operator.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD
export CARGO_TARGET_DIR=$root/target
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || mapfile -t seeds < <(find tests/seeded -name '*.patch' -exec basename {} .patch \; | sort)

if (cd tests/seeded && grep -q '^story: ' "${seeds[@]/%/.patch}"); then
  KUBECONFIG=$(tests/cluster/up.sh | tail -n 1)
  PATH=$(dirname -- "$KUBECONFIG")/bin:$PATH
  export KUBECONFIG PATH
fi
# Where the test program of a target lies.
program() {
  cargo test --locked --test "$1" --no-run --message-format=json 2>/dev/null |
    jq -r --arg name "$1" 'select(.executable != null and .target.name == $name) | .executable' | tail -n 1
}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
failed=0
for seed in "${seeds[@]}"; do
  rm -rf "${copy:?}/src" && mkdir -p "$copy/src"
  git ls-files -z | xargs -0 cp --parents -t "$copy/src"
  patch --quiet --directory="$copy/src" --strip=1 <"tests/seeded/$seed.patch"
  story=$(sed -n 's/^story: //p' "tests/seeded/$seed.patch")
  read -r target name < <(sed -n 's/^test: //p' "tests/seeded/$seed.patch") || true
  (cd "$copy/src" && cargo build --quiet --locked --bins)
  if [ -n "$story" ]; then
    # The right story, of the wrong operator.
    LOCKKEEPER_E2E_IMAGE=$(tests/cluster/lockkeeper-image.sh "$root/target/debug")
    export LOCKKEEPER_E2E_IMAGE
    tests=$(program e2e)
    name=$("$tests" --list --format=terse | sed -n "s/^\(.*$story\): test$/\1/p")
  else
    # A seed that does not compile is no bug that was noticed.
    (cd "$copy/src" && cargo test --quiet --locked --test "$target" --no-run)
    tests=$(cd "$copy/src" && program "$target")
  fi
  [ -n "$("$tests" --list --format=terse --exact "$name")" ] || { echo "there is no test $name"; exit 2; }
  if (cd "$copy/src" && "$tests" --test-threads=1 --exact "$name") >"$copy/log" 2>&1; then
    echo "NOT CAUGHT  $seed: $name is green"
    failed=1
  else
    echo "caught      $seed: $name: $(grep -m1 -A1 'panicked at' "$copy/log" | tail -n 1 | cut -c1-160)"
  fi
done
cargo build --quiet --locked --bins
exit $failed
