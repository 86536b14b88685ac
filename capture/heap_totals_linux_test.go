package capture_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// TestHeapTotals: many threads, planted leaks, totals exact to the byte. With
// TCAP_FULL=1 they are 30 threads x 1,000,000 allocations, which takes about a
// minute and a half.
func TestHeapTotals(t *testing.T) {
	each := 50_000
	if os.Getenv(envFull) == "1" {
		each = 1_000_000
	}
	each = kerneltest.Repeat(each)
	r := record(t, build(t, "cxx.cpp", "-lstdc++"), "threads", "30", itoa(each)).complete()
	l := r.leaked()
	if l.Allocations.Blocks < uint64(30*each) {
		t.Errorf("%d allocations, the program made %d", l.Allocations.Blocks, 30*each)
	}
	t.Logf("%d events in %v, %d bytes, %d lost; leaks %d bytes in %d blocks",
		r.sum.Events, r.sum.Duration, r.sum.Bytes, r.sum.Lost, l.Total.Bytes, l.Total.Blocks)
}

// TestHeapThreadsLeak are the programs of bcc#4970 and bcc#4869: two threads
// that leak 100,000 times 4 bytes, at once and one after the other. The first
// malloc of each makes an arena; neither that nor the threads' stacks are leaks.
func TestHeapThreadsLeak(t *testing.T) {
	exe := build(t, "heap.c", "-ldl")
	for _, what := range []string{"two_threads", "two_after"} {
		t.Run(what, func(t *testing.T) {
			n := kerneltest.Repeat(100_000)
			r := record(t, exe, what, itoa(n)).complete()
			l := r.leaked()
			if len(l.Rows) != 1 {
				t.Errorf("%d stacks leak, want the threads' alone\n%s", len(l.Rows), r.text(l))
			}
		})
	}
}

// TestHeapOracles: valgrind and LeakSanitizer find the same program to leak as
// much.
func TestHeapOracles(t *testing.T) {
	if kerneltest.Repeat(10) == 1 {
		t.Skip("valgrind takes a minute on an emulated machine, and says the same on every kernel")
	}
	exe := build(t, "heap.c", "-ldl")
	args := []string{"leak", "321", "123"}
	r := record(t, append([]string{exe}, args...)...).complete()
	l := r.leaked()
	t.Run("valgrind", func(t *testing.T) {
		path, err := exec.LookPath("valgrind")
		if err != nil {
			kerneltest.Skip(t, "valgrind is not installed")
		}
		out, err := exec.Command(path, append([]string{"--leak-check=full", exe}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("valgrind: %v\n%s", err, out)
		}
		// What is in use at exit, reachable or not.
		agree(t, string(out), `in use at exit: ([\d,]+) bytes in ([\d,]+) blocks`, l.Total.Bytes, l.Total.Blocks)
	})
	t.Run("LeakSanitizer", func(t *testing.T) {
		sanitized := build(t, "heap.c", "-ldl", "-fsanitize=leak")
		cmd := exec.Command(sanitized, args...)
		out, _ := cmd.CombinedOutput() // it fails, for there are leaks
		agree(t, string(out), `SUMMARY: LeakSanitizer: (\d+) byte\(s\) leaked in (\d+) allocation`, l.Total.Bytes, l.Total.Blocks)
	})
}

// agree finds two numbers, bytes and blocks, in an oracle's words.
func agree(t *testing.T, out, pattern string, bytes, blocks uint64) {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %q in\n%s", pattern, out)
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(strings.ReplaceAll(s, ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if number(m[1]) != bytes || number(m[2]) != blocks {
		t.Errorf("it says %s bytes in %s blocks, tcap %d in %d", m[1], m[2], bytes, blocks)
	}
}
