#!/bin/bash
# Measures what recording costs and prints the figures of docs/performance.md.
#
#   scripts/bench.sh                     everything, some minutes
#   scripts/bench.sh -only heap,tcp      some of it
set -euo pipefail
cd "$(dirname "$0")/.."

dir=.build/bench
mkdir -p "$dir"
for source in testdata/programs/bench/*.c; do
	flags=$(sed -n '1s,^// build: ,,p' "$source")
	# shellcheck disable=SC2086 # flags are words
	gcc $flags -o "$dir/$(basename "$source" .c)" "$source"
done
make --no-print-directory all >/dev/null
go run ./capture/bench -dir "$dir" "$@"
