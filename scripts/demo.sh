#!/bin/bash
# Records a leaky server and its client, then asks the capture what leaked and
# who closed which connection. The server prints the truth to compare with.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "demo: recording needs root: sudo make demo" >&2
	exit 1
fi
scripts/deps.sh demo
out=.build/demo
mkdir -p $out
for name in server client; do
	gcc -O1 -g -fno-omit-frame-pointer -Wall -Wextra -o $out/$name testdata/programs/demo/$name.c
done

show() {
	printf '\n$ %s\n' "$*"
	"$@"
}
show ./tcap record --force -o $out/demo.tcap -- $out/server $out/client
show ./tcap analyze leaks $out/demo.tcap
show ./tcap analyze tcp $out/demo.tcap
printf '\nThe capture is there to be asked more:\n'
printf '  %s\n' "./tcap info $out/demo.tcap" "./tcap analyze closes $out/demo.tcap" "./tcap analyze leaks --tree $out/demo.tcap" \
	"./tcap print $out/demo.tcap | less" "./tcap --help"
