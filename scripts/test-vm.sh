#!/bin/bash
# Runs the kernel tests inside Debian's cloud kernel under QEMU, which has what
# the machine at hand may lack (kprobes, fentry). Nothing is installed: the
# kernel's package is unpacked below the cache directory, and the machine's
# root is this one's, read-only, through virtiofs.
#
#   VM_RUN=regex      only the tests that match
#   VM_COUNT=20       each test so many times, to find one that fails now and then
#   VM_PACKAGES=dirs  only these packages, such as "./capture/probe"
#   VM_MACHINES=1     machines that share the tests; as many as CPUs, at most 4, unless VM_RUN is set
#   VM_ACCEL=kvm      another accelerator than tcg,thread=single, which works everywhere
#   VM_TIMEOUT=2400   seconds after which the machine is ended
#   TCAP_TEST_SCALE   what tests divide their loops by; 10 unless set
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tcap-vm
limit=${VM_TIMEOUT:-2400}
machines=${VM_MACHINES-}
if [ -z "$machines" ]; then
	machines=1
	[ -n "${VM_RUN-}" ] || machines=$(nproc)
	[ "$machines" -le 4 ] || machines=4
fi
started=$SECONDS

say() { echo "test-vm: $*"; }
die() { echo "test-vm: $*" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || die "the test machine is an amd64 one, this is $(uname -m)"
[ "$(id -u)" = 0 ] || die "sharing the root file system needs root"
scripts/deps.sh vm

# --- the kernel: the newest one cached, else the archive's ---------------------

kernel=
fetch_kernel() {
	local meta=linux-image-cloud-amd64 name
	mkdir -p "$cache"
	name=$(apt-cache depends $meta 2>/dev/null | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
	if [ -z "$name" ]; then
		apt-get update >/dev/null 2>&1 </dev/null || die "apt-get update did not succeed"
		name=$(apt-cache depends $meta | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
	fi
	[ -n "$name" ] || die "apt knows no package $meta"
	kernel=$cache/${name#linux-image-}
	[ -e "$kernel/ready" ] && return
	local tmp
	tmp=$(mktemp -d "$cache/unpack.XXXXXX")
	say "downloading $name"
	(cd "$tmp" && { apt-get download "$name" || { apt-get update && apt-get download "$name"; }; }) \
		>"$tmp/log" 2>&1 </dev/null || { cat "$tmp/log" >&2; die "no package $name; is the network there?"; }
	dpkg-deb -x "$tmp"/*.deb "$tmp"
	mv "$tmp"/boot/vmlinuz-* "$tmp/vmlinuz"
	rm -rf "$tmp"/*.deb "$tmp/usr" "$tmp/boot" "$tmp/log"
	busybox depmod -b "$tmp" "${name#linux-image-}"
	touch "$tmp/ready"
	rm -rf "$kernel"
	mv "$tmp" "$kernel"
}
fetch_kernel
release=${kernel##*/}

# --- the tests: every package that asks for a kernel -----------------------------

work=$(mktemp -d "$cache/run.XXXXXX")
children=()
cleanup() {
	# Whoever is started in the background does not hear Ctrl-C.
	for file in "$work"/pid.*; do
		[ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
	done
	[ ${#children[@]} = 0 ] || kill "${children[@]}" 2>/dev/null || true
	wait
	rm -rf "$work"
}
trap cleanup EXIT

packages=${VM_PACKAGES-}
if [ -z "$packages" ]; then
	# The command line is the same on every kernel, and its tests of load and
	# faults take minutes on an emulated machine: what is under it is run.
	packages=$(grep -rlE '(kerneltest\.|^	)Require\(t' --include='*_test.go' ./capture | xargs -r -n1 dirname | sort -u)
fi
[ -n "$packages" ] || die "no package uses kerneltest.Require"
say "building the tests of" $packages
mkdir "$work/bin"
# The machines deal the tests of each package among themselves, in turns: a
# package's tests take from a second to a minute, and its packages more.
dealt=0
for machine in $(seq 0 $((machines - 1))); do : >"$work/binaries.$machine"; done
for package in $packages; do
	name=$(tr -c 'a-z0-9\n' - <<<"${package#./}").test
	CGO_ENABLED=0 go test -c -o "$work/bin/$name" "$package"
	dir=$(cd "$package" && pwd)
	if [ "$machines" = 1 ]; then
		echo "$dir $work/bin/$name ${VM_RUN:-.}" >>"$work/binaries.0"
		continue
	fi
	for test in $(cd "$package" && "$work/bin/$name" -test.list "${VM_RUN:-.}" | grep ^Test); do
		machine=$((dealt++ % machines))
		printf '%s%s' "|" "$test" >>"$work/dealt.$machine"
	done
	for machine in $(seq 0 $((machines - 1))); do
		[ -s "$work/dealt.$machine" ] || continue
		echo "$dir $work/bin/$name ^($(cut -c2- "$work/dealt.$machine"))\$" >>"$work/binaries.$machine"
		rm "$work/dealt.$machine"
	done
done

# --- the initramfs ---------------------------------------------------------------

# virtiofs and its bus first; the rest is what the tests' networks are made of.
modules="virtio_pci virtiofs overlay veth dummy tcp_diag sch_netem nf_tables"
tree=$work/initramfs
mkdir -p "$tree/bin"
cp "$(command -v busybox)" "$tree/bin/busybox"
cp testdata/vm/init testdata/vm/run.sh "$tree/"
chmod +x "$tree/init"
echo "$modules" >"$tree/modules"
programs=$root/.build/programs
[ -d "$programs" ] || programs=
keep= # what lies in directories that are empty in the machine
for dir in "$root" "$work"; do
	case $dir in
	*[[:space:]]*) die "the path '$dir' has a space in it" ;;
	/tmp/* | /run/*) keep="$keep $dir" ;;
	esac
done
cat >"$tree/vm.env" <<-END
	TCAP_VM_KEEP='$keep'
	TCAP_VM_WORK='$work'
	TCAP_VM_PROGRAMS='$programs'
	TCAP_VM_COUNT='${VM_COUNT:-1}'
	TCAP_VM_LIMIT='$limit'
	TCAP_TEST_SCALE='${TCAP_TEST_SCALE:-10}'
END
library=lib/modules/$release
mkdir -p "$tree/$library"
(
	cd "$kernel"
	# Only the modules named and what they depend on.
	closure() {
		local line file
		line=$(grep -E "/${1//_/[-_]}\.ko:" "$library/modules.dep") || die "the kernel has no module $1"
		for file in ${line//:/ }; do echo "$library/${file#"/$library/"}"; done
	}
	for module in $modules; do closure "$module"; done | sort -u | busybox cpio -o -H newc 2>/dev/null
) | (cd "$tree" && busybox cpio -idm 2>/dev/null)
busybox depmod -b "$tree" "$release"
(cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs.gz"

# --- the machine -----------------------------------------------------------------

# One thread runs both CPUs of a machine in turns. With a thread each, QEMU 7.2
# can go on with a breakpoint that one CPU has just taken out of kernel code
# which the other was running: where the kernel switches a tracepoint, both then
# trap for ever (soft lockups in syscall_trace_enter), once in a hundred
# recordings. So a machine keeps one CPU of the host busy.
machine() { # NUMBER, which its command line tells it
	local number=$1
	timeout --foreground "$limit" qemu-system-x86_64 \
		-accel "${VM_ACCEL:-tcg,thread=single}" -cpu max -smp 2 -m 2G \
		-object memory-backend-memfd,id=mem,size=2G,share=on -numa node,memdev=mem \
		-chardev socket,id=fs,path="$work/fs.$number" -device vhost-user-fs-pci,chardev=fs,tag=host \
		-nodefaults -display none -serial stdio -no-reboot -pidfile "$work/pid.$number" \
		-kernel "$kernel/vmlinuz" -initrd "$work/initramfs.gz" \
		-append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off tcap.machine=$number" \
		</dev/null 2>&1 | sed -u 's|\r||g'
	return "${PIPESTATUS[0]}"
}

# A second view of / in a mount namespace of its own: read-only whatever the
# guest asks for, and something that virtiofsd's sandbox can pivot into.
serve() { # NUMBER of the machine
	local number=$1
	mkdir "$work/root.$number"
	unshare --mount --propagation private sh -c '
		mount --rbind / "$1/root.$2" && mount -o remount,bind,ro "$1/root.$2" &&
		exec /usr/lib/qemu/virtiofsd --socket-path="$1/fs.$2" -o source="$1/root.$2" -o cache=always -o log_level=warn' \
		sh "$work" "$number" >"$work/virtiofsd.$number" 2>&1 </dev/null &
	children+=($!)
	for _ in $(seq 100); do
		[ ! -S "$work/fs.$number" ] || return 0
		kill -0 $! 2>/dev/null || { cat "$work/virtiofsd.$number" >&2; die "virtiofsd ended"; }
		sleep 0.05
	done
	die "virtiofsd does not listen"
}

say "booting Linux $release, $machines machine(s), after $((SECONDS - started)) s"
running=()
for number in $(seq 0 $((machines - 1))); do
	serve "$number"
	# The first one is watched; what the others say follows when they have ended.
	if [ "$number" = 0 ]; then
		(machine 0 | tee "$work/console.0") &
	else
		machine "$number" >"$work/console.$number" &
	fi
	running+=($!)
	children+=($!)
done
status=0
for number in $(seq 0 $((machines - 1))); do
	result=0
	wait "${running[number]}" || result=$?
	[ "$result" = 0 ] || status=$result
	[ "$number" = 0 ] || cat "$work/console.$number"
done

# --- the verdict -----------------------------------------------------------------

cat "$work"/console.* >"$work/console"
count() { grep -cE "^$1" "$work/console" || true; }
passed=$(count '--- PASS: ') failed=$(count '--- FAIL: ') skipped=$(count ' *--- SKIP: ') # of subtests, too
verdicts=$(count 'TCAP-VM-EXIT: ') codes=$(sed -n 's/^TCAP-VM-EXIT: //p' "$work/console" | sort -rn | head -n 1)
echo
say "in Linux $release: $passed passed, $failed failed, $skipped skipped, $((SECONDS - started)) s in all"
awk -v root="$root/" '
	/^=== PACKAGE / { sub(root, "", $3); print "  " $3 }
	/^--- (PASS|FAIL): |^ *--- (FAIL|SKIP): / { sub(":", "", $2); printf "    %-4s %s %s\n", $2, $3, $4 }
' "$work/console"
[ "$status" != 124 ] || die "a machine was ended after $limit s (VM_TIMEOUT)"
[ "$verdicts" = "$machines" ] || die "$verdicts of $machines machines ended with a verdict (exit status $status)"
[ "$failed" = 0 ] || die "$failed tests failed"
[ "$codes" = 0 ] || die "a test binary failed without naming a test, see above"
[ "$passed" -gt 0 ] || die "no test ran"
if [ -z "${VM_RUN-}" ]; then
	idle=$(awk '
		/^=== PACKAGE /      { package = $3; if (!(package in passed)) passed[package] = 0 }
		/^--- PASS: /        { passed[package]++ }
		END { for (package in passed) if (!passed[package]) print package }' "$work/console")
	[ -z "$idle" ] || die "not one test ran of" $idle
fi
