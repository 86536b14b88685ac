#!/bin/bash
# Everything that must hold of the sources and needs no kernel. All checks run;
# the ones that failed are named at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
failed=()

check() {
	local name=$1 started=$SECONDS
	shift
	echo "check: $name"
	"$@" || { echo "check: $name: FAILED"; failed+=("$name"); }
	[ $((SECONDS - started)) -lt 20 ] || echo "check: $name took $((SECONDS - started)) s"
}

formatted() {
	local files
	files=$(gofmt -l .) || return
	[ -z "$files" ] && return
	echo "not as gofmt writes them; run gofmt -w on:" && echo "$files"
	return 1
}

platform() { env CGO_ENABLED=0 "$@" "$go" build ./...; }

check "gofmt" formatted
check "go vet" "$go" vet ./...
check "layers" "$go" test -count=1 .
check "build on darwin" platform GOOS=darwin
check "build on arm64" platform GOARCH=arm64
check "staticcheck" "$go" tool staticcheck ./...
check "generated files are current" scripts/check-generated.sh

[ ${#failed[@]} = 0 ] || { printf 'check: failed: %s\n' "${failed[@]}" >&2; exit 1; }
echo "check: all well"
