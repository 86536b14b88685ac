#!/bin/sh
# Runs inside the test machine, as its process 1: every test binary that this
# machine's list below $TCAP_VM_WORK names (one "directory binary regex" per
# line, the regex being of the tests to run), then powers off.
# The last line, "TCAP-VM-EXIT: N", is what scripts/test-vm.sh believes.

. /run/vm.env
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp
export TCAP_KERNEL_TESTS=1 TCAP_TEST_SCALE TCAP_TEST_PROGRAMS=/tmp/programs
export TCAP_TEST_HOOKS="tp_btf fentry fexit iter tracepoint kprobe kretprobe uprobe"

echo "vm: Linux $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s"
mkdir -p $TCAP_TEST_PROGRAMS
[ -z "$TCAP_VM_PROGRAMS" ] || cp "$TCAP_VM_PROGRAMS"/* $TCAP_TEST_PROGRAMS/ 2>/dev/null

code=0
number=$(sed -n 's/.*tcap.machine=\([0-9]*\).*/\1/p' /proc/cmdline)
while read -r dir binary tests; do
	cd "$dir" || { code=1; continue; }
	echo "=== PACKAGE $dir"
	# A test that hangs shall be named, with its stacks, before the host ends
	# the machine, and leave time to the other packages: each may use half of
	# what is left.
	left=$(((TCAP_VM_LIMIT - $(cut -d. -f1 /proc/uptime) - 10) / 2))
	[ $left -gt 0 ] || left=1
	"$binary" -test.v -test.timeout="${left}s" -test.count="$TCAP_VM_COUNT" -test.run "$tests" </dev/null 2>&1
	status=$?
	[ $status = 0 ] || code=1
	echo
	echo "=== PACKAGE-EXIT $status"
done <"$TCAP_VM_WORK/binaries.$number"

# A kernel that complains has found a bug in what the tests loaded, or of its own.
if dmesg | grep -E 'WARNING:|BUG:|Oops|soft lockup|rcu.*stall' | grep -v 'retbleed\|Spectre'; then
	echo "vm: the kernel complained, see above"
fi
echo "TCAP-VM-EXIT: $code"
sync
# Process 1 of a machine without an init asks the kernel directly, and must not
# end before that is done. No program can be started while devices shut down.
mkfifo /run/never
echo o >/proc/sysrq-trigger
read -r _ <>/run/never
