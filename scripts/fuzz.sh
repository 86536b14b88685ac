#!/bin/bash
# Runs every fuzz target of the tree for $FUZZTIME, one after the other. An
# input that breaks one is kept by go test below testdata/fuzz: commit it.
# Minimizing is kept short, or it takes the time that is meant for searching.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

# "go test -list" prints the names, then a line with the package they are of.
targets=$("$go" test -list '^Fuzz' ./... | awk '
	/^Fuzz/     { names[++n] = $1; next }
	/^ok[ \t]/  { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }')
[ -n "$targets" ] || { echo "fuzz: no target found" >&2; exit 1; }

failed=0 ran=0
while read -r package name; do
	echo "fuzz: $name in $package for ${FUZZTIME:-1m}"
	"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-1m}" -fuzzminimizetime 20x "$package" </dev/null || failed=$((failed + 1))
	ran=$((ran + 1))
done <<<"$targets"
echo "fuzz: $ran targets, $failed failed"
[ $failed = 0 ]
