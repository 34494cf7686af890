#!/usr/bin/env bash
# hack/seeded.sh [NAME...]: a test that cannot fail shows nothing. Each patch in tests/seeded breaks Lockkeeper in one way and
# names who must notice: `story: NAME`, for which the broken operator is installed, or `test: TARGET NAME`. That must turn red.
# Not part of `make test`; it takes about two minutes a patch. Stories need a cluster (tests/cluster/up.sh), and leave it with
# the right operator. Source and binaries of this tree are never touched: what is broken is a copy below target/seeded, compiled
# there with its dependencies. Cargo would call what it makes of either by one name: they must not share a directory.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || mapfile -t seeds < <(find tests/seeded -name '*.patch' -exec basename {} .patch \; | sort)
for seed in "${seeds[@]}"; do
  [ -f "tests/seeded/$seed.patch" ] || { echo "there is no tests/seeded/$seed.patch" >&2; exit 2; }
done

right=${CARGO_TARGET_DIR:-$root/target}
copy=$root/target/seeded
rm -rf "$copy/src" && mkdir -p "$copy/src"
export CARGO_TARGET_DIR=$copy/built
log=$(mktemp)

# Whatever happened, the cluster gets the operator of this tree back.
stories=
finish() {
  code=$?
  trap - EXIT INT TERM
  rm -rf "$copy/src" "$log"
  if [ -n "$stories" ]; then
    CARGO_TARGET_DIR=$right cargo build --quiet --locked --bins
    image=$(tests/cluster/lockkeeper-image.sh "$right/debug" | tail -n 1)
    helm upgrade --install lockkeeper charts/lockkeeper -n lockkeeper-system --create-namespace --wait --timeout 3m \
      --set image.repository="${image%@*}" --set image.digest="${image#*@}" >/dev/null
  fi
  echo "seeded bugs: $caught of ${#seeds[@]} caught${missed:+; not caught:$missed}"
  exit "$code"
}
caught=0 missed=
trap finish EXIT
trap 'exit 130' INT TERM

# Compiles the test program of a target, and says where it lies.
program() {
  cargo test --quiet --locked --test "$1" --no-run --message-format=json-render-diagnostics |
    jq -r --arg name "$1" 'select(.executable != null and .target.name == $name) | .executable' | tail -n 1
}
for seed in "${seeds[@]}"; do
  # Written anew each time: by the times of its files cargo sees what the last seed had changed.
  rm -rf "$copy/src" && mkdir "$copy/src"
  git ls-files -z | xargs -0 cp --parents -t "$copy/src"
  # A patch that does not apply, or compile, is no bug that was noticed: whoever changed what it patches mends it.
  patch --quiet --directory="$copy/src" --strip=1 <"tests/seeded/$seed.patch" || { missed+=" $seed (does not apply)"; continue; }
  story=$(sed -n 's/^story: //p' "tests/seeded/$seed.patch")
  read -r target name < <(sed -n 's/^test: //p' "tests/seeded/$seed.patch") || true
  if [ -n "$story" ]; then
    # The right story, of the wrong operator.
    (cd "$copy/src" && cargo build --quiet --locked --bins) || { missed+=" $seed (does not compile)"; continue; }
    if [ -z "$stories" ]; then
      KUBECONFIG=$(tests/cluster/up.sh | tail -n 1)
      PATH=$(dirname -- "$KUBECONFIG")/bin:$PATH
      export KUBECONFIG PATH
      stories=told
    fi
    LOCKKEEPER_E2E_IMAGE=$(tests/cluster/lockkeeper-image.sh "$CARGO_TARGET_DIR/debug" | tail -n 1)
    export LOCKKEEPER_E2E_IMAGE
    tests=$(CARGO_TARGET_DIR=$right program e2e) in=$root
    name=$("$tests" --list --format=terse | sed -n "s/^\(.*$story\): test$/\1/p")
  else
    in=$copy/src
    tests=$(cd "$in" && program "$target") || { missed+=" $seed (does not compile)"; continue; }
  fi
  if [ -z "$name" ] || [ -z "$("$tests" --list --format=terse --exact "$name")" ]; then
    missed+=" $seed (there is no test $name)"
    continue
  fi
  # Without a word of the test itself it failed of something else.
  if (cd "$in" && "$tests" --test-threads=1 --exact "$name") >"$log" 2>&1 || ! grep -q 'panicked at' "$log"; then
    echo "NOT CAUGHT  $seed: $name"
    missed+=" $seed"
  else
    echo "caught      $seed: $name: $(grep -m1 -A1 'panicked at' "$log" | tail -n 1 | cut -c1-160)"
    caught=$((caught + 1))
  fi
done
[ -z "$missed" ]
