#!/usr/bin/env bash
# hack/instructions.sh [--keep]: how many instructions codec and masks take a row, by callgrind. A machine's noise is not in them,
# so a regression is: what takes a twentieth more than benches/instructions.txt says is named, and the exit code is 1. `--keep`
# writes that file anew; that the numbers of another compiler differ a little is expected.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
if ! command -v valgrind >/dev/null; then
  echo "installing valgrind" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind; } >/dev/null
fi
known=benches/instructions.txt
rows=1000 # as many as benches/mask.rs makes
program=$(cargo bench --locked --bench mask --no-run --message-format=json-render-diagnostics |
  jq -r 'select(.executable != null and .target.name == "mask") | .executable' | tail -n 1)
count() {
  LOCKKEEPER_BENCH_ONCE="$1 $2" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" 2>&1 |
    sed -n 's/.*Collected : *//p'
}
counted=$(mktemp)
trap 'rm -f "$counted"' EXIT
for name in codec/{split,encode,decode} mask/{hashed-1,hashed-5,realistic-5,wide-8,shape-1}; do
  # Of two runs, so that what comes before the first row does not count.
  few=$(count "$name" 2)
  many=$(count "$name" 6)
  printf '%s %d\n' "$name" $(((many - few) / 4 / rows)) >>"$counted"
done
if [ "${1:-}" = --keep ]; then
  cp "$counted" "$known"
fi
awk 'BEGIN { printf "%-18s %12s %10s\n", "instructions", "a row", "known" }
  NR == FNR { known[$1] = $2; next }
  { worse = known[$1] && $2 > known[$1] * 1.05; missed += worse
    printf "%-18s %12d %10d%s\n", $1, $2, known[$1], worse ? "  MORE" : "" }
  END { exit missed > 0 }' "$known" "$counted"
