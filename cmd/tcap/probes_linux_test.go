package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestProbesExplained: what probes list tells of can be explained, row by row, and each
// place of an allocator has its instruction.
func TestProbesExplained(t *testing.T) {
	kerneltest.Require(t)
	rows := strings.Fields(tcap(t, "probes", "list").stdout)
	if len(rows) < 20 {
		t.Errorf("%d rows: %v", len(rows), rows)
	}
	for _, row := range rows {
		o := tcap(t, "probes", "explain", row)
		if o.code != 0 || strings.Count(o.stdout, "\n") < 2 || o.stderr != "" {
			t.Errorf("%s: exit %d, %q, %s", row, o.code, o.stdout, o.stderr)
		}
	}
	if o := tcap(t, "probes", "explain", "tp_btf:nosuch"); o.code != exitUsage {
		t.Errorf("a place that is not there: exit %d, %s", o.code, o.stdout)
	}
	cmd := exec.Command("cat")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	whole := regexp.MustCompile(`^(  \w+ +\+\d+ +(emulated|single-step) +\S.*|  call of free +at 0x[0-9a-f]+, .*|/.*)$`)
	var list string
	if !eventually(func() bool { // until the loader has mapped libc
		list = tcap(t, "probes", "list", "-p", fmt.Sprint(cmd.Process.Pid)).stdout
		return strings.Contains(list, "malloc")
	}) {
		t.Fatalf("no malloc in\n%s", list)
	}
	for line := range strings.Lines(list) {
		if !whole.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("a row without its instruction: %q", line)
		}
	}
}
