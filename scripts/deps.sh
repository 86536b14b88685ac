#!/bin/bash
# Installs what the given purposes need on Debian 12, and only what is missing.
#
#   scripts/deps.sh test vm       install
#   scripts/deps.sh --list vm     print the package names
#
# It is silent when everything is there. This is the one list of the packages
# that building and testing use; tcap itself needs none of them at run time.
set -euo pipefail

packages() {
	case $1 in
	# Go itself is not among them: Debian 12's is older than go.mod asks for.
	build)    echo ca-certificates git make ;;
	generate) echo clang llvm libbpf-dev libc6-dev ;;
	# The programs under testdata are compiled against each allocator that is
	# supported, and stopped by gdb to compare stacks; iproute2 makes the network namespaces of the TCP tests.
	test)     echo binutils xz-utils systemtap-sdt-dev clang gcc g++ gdb rustc libc6-dev libc6-dbg musl-tools libjemalloc-dev \
	               libgoogle-perftools-dev libmimalloc-dev iproute2 procps valgrind heaptrack qemu-user-static \
	               nginx-light redis-server mariadb-server libdbd-mariadb-perl libmariadb-dev perl ;;
	demo)     echo gcc libc6-dev ;;
	bench)    echo gcc libc6-dev bpftrace heaptrack perl redis-server nginx-light apache2-utils wrk ;;
	# qemu-system-common brings virtiofsd on Debian 12.
	vm)       echo busybox-static gcc libc6-dev qemu-system-x86 qemu-system-common ;;
	*)        echo "deps.sh: unknown purpose '$1'; known: build generate test demo bench vm" >&2; exit 2 ;;
	esac
}

list=0
if [ "${1-}" = --list ]; then
	list=1
	shift
fi
[ $# -gt 0 ] || { echo "usage: scripts/deps.sh [--list] build|generate|test|demo|bench|vm..." >&2; exit 2; }

wanted=()
for purpose in "$@"; do
	names=$(packages "$purpose")
	# shellcheck disable=SC2206 # package names hold no spaces
	wanted+=($names)
done
if [ $list = 1 ]; then
	printf '%s\n' "${wanted[@]}" | sort -u
	exit
fi

if ! command -v dpkg-query >/dev/null; then
	echo "deps.sh: not a Debian system; make sure that these are installed: ${wanted[*]}" >&2
	exit 0
fi
missing=()
for name in "${wanted[@]}"; do
	state=$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true)
	case $state in
	"install ok installed") ;;
	*) missing+=("$name") ;;
	esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: these packages are missing and installing them needs root:" >&2
	echo "    sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services of the benchmarks' packages must not start by being installed.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
	trap 'rm -f "$log" $policy' EXIT
fi
run() {
	if ! "$@" >"$log" 2>&1 </dev/null; then
		echo "deps.sh: '$*' did not succeed:" >&2
		tail -n 20 "$log" >&2
		exit 1
	fi
}
echo "deps.sh: installing ${missing[*]}" >&2
# An installed machine's package lists may be good enough, and the network away.
if ! apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 </dev/null; then
	run apt-get update
	run apt-get install -y --no-install-recommends "${missing[@]}"
fi
