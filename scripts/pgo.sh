#!/bin/bash
# Renews cmd/tcap/tcap.pgo, from which "make" has the compiler take what is worth to
# be inlined (https://go.dev/doc/pgo): CPU profiles of the benchmarks of what tcap spends
# its time with, which is to take records from the ring to the file, and to
# decode and analyze them. Any machine will do; it need not be renewed often.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

n=0
profile() { # PACKAGE BENCHMARKS
	n=$((n + 1))
	"$go" test -run '^$' -bench "$2" -benchtime 5s -cpuprofile "$work/$n.pprof" -o "$work/$n.test" "$1"
}
profile ./capture '^BenchmarkRing$'
profile ./capture/tcp '^BenchmarkConnectionToFile$'
profile ./format '^BenchmarkDecode$'
profile ./analyze '^Benchmark(Leaks|Heap|TCP)$'
"$go" tool pprof -proto "$work"/*.pprof >"$work/merged" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
mv "$work/merged" cmd/tcap/tcap.pgo
ls -l cmd/tcap/tcap.pgo
