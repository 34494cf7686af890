#!/usr/bin/env bash
# hack/test.sh all|unit|stories|apps|scale: installs what the tests need, then runs them. What is dear is kept outside target/.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
what=${1:-all}
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1
say() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }

say "dependencies"
tests/cluster/deps.sh
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
  # Only the programs are wanted: a server that Debian would start at once is not.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
# A pooler that a Secret may lead to by mistake. Of it too only the program is wanted.
if ! command -v pgbouncer >/dev/null; then
  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null \
    || say "a pooler in between is not tried"
fi

# What is backed up comes back equal on these too; without them that is not tried.
for major in 17 18; do hack/postgres.sh $major >/dev/null || say "databases of PostgreSQL $major are not tried"; done

# Brought up first: the tests of the API server use its programs.
KUBECONFIG=$(tests/cluster/up.sh | tail -n 1)
export KUBECONFIG
PATH=$(dirname -- "$KUBECONFIG")/bin:$PATH

if [ "$what" = scale ]; then
  say "the operator at size"
  cargo test --profile bench --locked --test scale -- --ignored --nocapture
  LOCKKEEPER_PG_BIN=$(hack/postgres.sh 18)
  export LOCKKEEPER_PG_BIN
  say "data at size"
  exec cargo test --profile bench --locked --test scale_data -- --ignored --nocapture
fi
# Of the build that the tests have made already: an optimised one takes longer than it saves. `make demo` runs that.
operator_image() {
  say "the operator's image"
  cargo build --locked --bins
  LOCKKEEPER_E2E_IMAGE=$(tests/cluster/lockkeeper-image.sh target/debug | tail -n 1)
  export LOCKKEEPER_E2E_IMAGE
}
if [ "$what" = apps ]; then
  operator_image
  say "pretix and Unleash: their images take minutes, once"
  exec cargo test --locked --test e2e -- --ignored --nocapture --test-threads=1 story_
fi
if [ "$what" != stories ]; then
  say "formatting"
  cargo fmt --check
  say "clippy"
  cargo clippy --quiet --locked --all-targets -- -D warnings
  say "the tiny application's own tests"
  (cd tests/apps/tiny && go vet ./... && go test ./...)
  say "tests without a whole cluster"
  cargo test --locked --no-fail-fast -- --skip story_
fi
if [ "$what" != unit ]; then
  operator_image
  say "stories on the whole cluster: $LOCKKEEPER_E2E_IMAGE"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # Two at once: a story mostly waits. One that kills the operator is told alone (tests/e2e/turn.rs).
  if ! cargo test --locked --test e2e -- --test-threads=2 story_ 2>&1 | tee "$log"; then
    # A whole cluster on a small machine is held up now and then, and a user in a story sees it. What is wrong is wrong twice.
    mapfile -t failed < <(sed -n 's/^    \([a-z_0-9]*::story_[a-z_0-9]*\)$/\1/p' "$log" | sort -u)
    [ ${#failed[@]} -gt 0 ] && [ ${#failed[@]} -le 3 ] || exit 1
    say "once more, and to be looked into if it passes now: ${failed[*]}"
    cargo test --locked --test e2e -- --test-threads=2 --exact "${failed[@]}" 2>&1 | tee "$log" && exit
    # A story that fails tells the operator's log after its reason: the reason once more, where it is looked for.
    say "failed twice"
    grep -A 4 ' panicked at ' "$log"
    exit 1
  fi
fi
