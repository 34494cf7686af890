#!/usr/bin/env bash
# Counts the instructions that the codec and the masks take a row, by callgrind: the same on a machine that is busy, so that a
# change shows. Not in CI. With `--write` the counts become those that later ones are compared with, hack/instructions.txt.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
command -v valgrind >/dev/null || { echo "valgrind is needed: apt-get install valgrind" >&2; exit 1; }
program=$(cargo bench --locked --bench mask --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*mask-[^"]*\)".*/\1/p' | tail -n1)
count() { # NAME TIMES: instructions in all
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" --rows "$1" "$2" 2>&1 | sed -n 's/.*Collected : //p'
}
now=$(for name in split hashed-1 hashed-5 realistic-5 wide-8 shape-1; do
  # What is not of the rows is in both.
  echo "$name $((($(count "$name" 11) - $(count "$name" 1)) / 10000))"
done)
if [ "${1:-}" = --write ]; then
  echo "$now" | tee hack/instructions.txt
else
  join <(echo "$now" | sort) <(sort hack/instructions.txt) | awk '{ printf "%-12s %6d a row, was %d (%+.1f %%)\n", $1, $2, $3, ($2 / $3 - 1) * 100 }'
fi
