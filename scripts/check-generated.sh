#!/bin/bash
# Rebuilds the generated files of bpf/ in another directory and compares: the
# committed ones are what the sources give, byte for byte, wherever they are
# built. The tree stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
scripts/deps.sh generate

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A directory of another depth: paths must not have leaked into the objects.
fresh=$work/some/where/else
mkdir -p "$fresh"
cp -r go.mod go.sum bpf "$fresh/"
generated() { (cd "$1/bpf" && find . -name '*_bpfel.go' -o -name '*_bpfel.o' -o -name '*_bpfeb.go' -o -name '*_bpfeb.o') | sort; }
mapfile -t before < <(generated "$root")
[ ${#before[@]} -gt 0 ] || { echo "bpf/ holds no generated file" >&2; exit 1; }
rm -f "${before[@]/#/$fresh/bpf/}"
(cd "$fresh" && ${GO:-go} generate ./bpf/...) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

# show FILE A B: what differs, in words.
show() {
	case $1 in
	*.o)
		local objdump
		objdump=$(command -v llvm-objdump || command -v llvm-objdump-14 || true)
		[ -n "$objdump" ] || return 0
		diff -u --label "committed $1" --label "rebuilt $1" \
			<("$objdump" -d --no-show-raw-insn "$2" | tail -n +3) \
			<("$objdump" -d --no-show-raw-insn "$3" | tail -n +3) | head -n 40 ||
			true
		;;
	*) diff -u --label "committed $1" --label "rebuilt $1" "$2" "$3" | head -n 40 || true ;;
	esac
}

stale=0
while read -r file; do
	committed=$root/bpf/$file rebuilt=$fresh/bpf/$file
	if [ ! -e "$rebuilt" ]; then
		echo "bpf/$file is committed, but nothing generates it"
	elif [ ! -e "$committed" ]; then
		echo "bpf/$file is generated, but not there"
	elif ! cmp -s "$committed" "$rebuilt"; then
		echo "bpf/$file differs from what its sources give"
		show "$file" "$committed" "$rebuilt"
	else
		continue
	fi
	stale=1
done < <({ printf '%s\n' "${before[@]}"; generated "$fresh"; } | sort -u)
if [ $stale = 1 ]; then
	echo "run 'make generate' and commit the result (this compiler: $(clang --version | head -n 1))"
	exit 1
fi
# Generated here, but forgotten when committing.
if git rev-parse --git-dir >/dev/null 2>&1; then
	for file in "${before[@]}"; do
		git ls-files --error-unmatch "bpf/$file" >/dev/null 2>&1 || { echo "bpf/$file is not committed"; exit 1; }
	done
fi
echo "${#before[@]} generated files are current"
