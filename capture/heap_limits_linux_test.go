package capture_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// TestHeapRegions: munmap of a part and of several, mremap, MAP_FIXED over a
// live mapping, failures, brk (pitfall 16).
func TestHeapRegions(t *testing.T) {
	r := record(t, build(t, "regions.c")).complete()
	if r.value["failed"] != "4" {
		t.Errorf("%s of 4 calls failed as they are meant to", r.value["failed"])
	}
	var got []string
	for _, h := range r.marked(format.KindMap, format.KindUnmap, format.KindRemap, format.KindBrk) {
		if h.Kind == format.KindBrk && h.V[format.BrkNested] == 1 {
			continue
		}
		got = append(got, h.fact(nil))
	}
	r.same(got, r.said)
	// The loader maps its libraries before the program begins.
	var first int64
	for _, h := range r.events(format.KindAlloc) {
		if h.V[format.AllocSize] == mark {
			first = h.Time
			break
		}
	}
	l := r.leaksFrom(first, "--mmap")
	if l.Mmap.Total.Bytes != r.number("bytes") {
		t.Errorf("%d bytes stay mapped, the program left %d\n%s", l.Mmap.Total.Bytes, r.number("bytes"), r.text(l))
	}
}

// TestHeapOverflow: a ring far too small. What was lost is counted, the
// totals are bounded by it, and nothing is invented (pitfall 17).
func TestHeapOverflow(t *testing.T) {
	o, notes := options(t)
	o.RingSize = os.Getpagesize()
	r := recordWith(t, o, notes, build(t, "heap.c", "-ldl"), "churn", itoa(kerneltest.Repeat(100_000)))
	if r.value["end"] != "1" || r.sum.Lost == 0 {
		t.Fatalf("nothing was lost (%d) or the program did not end", r.sum.Lost)
	}
	lost := map[format.Kind]uint64{}
	for _, h := range r.events(format.KindLoss) {
		lost[format.Kind(h.V[format.LossKind])] += h.V[format.LossCount]
		if h.V[format.LossFrom] > h.V[format.LossTo] {
			t.Errorf("loss in a window that ends before it begins: %+v", h.V)
		}
	}
	births, deaths, planted := uint64(0), uint64(0), uint64(0)
	for _, h := range r.events(heapKinds...) {
		switch {
		case h.Kind == format.KindFree:
			deaths++
		case h.V[format.AllocSize] >= 100 && h.V[format.AllocSize] < 164 || h.V[format.AllocSize] == 7777:
			births++
			if h.V[format.AllocSize] == 7777 {
				planted++
			}
		default:
			t.Errorf("the program made no such call: %s", h.fact(functions()))
		}
	}
	if got, want := births+lost[format.KindAlloc], r.number("mallocs"); got != want {
		t.Errorf("%d allocations recorded and %d lost, the program made %d", births, lost[format.KindAlloc], want)
	}
	if got, want := deaths+lost[format.KindFree], r.number("frees"); got != want {
		t.Errorf("%d frees recorded and %d lost, the program made %d", deaths, lost[format.KindFree], want)
	}
	l := r.leaks()
	truth := r.number("blocks")
	if l.Bounds.Unbounded || l.Total.Blocks-min(l.Bounds.FalseBlocks, l.Total.Blocks) > truth || l.Total.Blocks+l.Bounds.MissingBlocks < truth {
		t.Errorf("leaks %+v with bounds %+v exclude the truth, %d blocks", l.Total, l.Bounds, truth)
	}
	if l.Total.Blocks < planted || l.Uncertain.Blocks == 0 || l.Bounds.FalseBytes < l.Uncertain.Bytes {
		t.Errorf("leaks %+v, uncertain %+v, bounds %+v, %d planted ones seen", l.Total, l.Uncertain, l.Bounds, planted)
	}
	if l.DoubleFrees > lost[format.KindAlloc] || l.InferredFrees > lost[format.KindFree] {
		t.Errorf("%d double and %d inferred frees of %v lost", l.DoubleFrees, l.InferredFrees, lost)
	}
	if c := l.Completeness(); c.LostEvents["heap.alloc"] != lost[format.KindAlloc] {
		t.Errorf("completeness %+v", c)
	}
}

// TestHeapFiltered: a target under a system call filter that kills. Its
// returns are probed, which some kernels do by a system call (pitfall 22).
func TestHeapFiltered(t *testing.T) {
	p := start(t, build(t, "filtered.c"))
	p.await("ready")
	rec := attachTo(t, p)
	p.tell('g')
	p.wait()
	if !p.cmd.ProcessState.Success() {
		t.Fatalf("the program was killed: %v", p.cmd.ProcessState)
	}
	rec.ended(p.all.String()).complete().exact()
	// The filter is one: of what it does not know, the program dies.
	p = start(t, build(t, "filtered.c"), "strays")
	p.await("ready")
	p.tell('g')
	p.wait()
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGSYS {
		t.Errorf("a system call that the filter does not know: %v, want SIGSYS", p.cmd.ProcessState)
	}
}

// TestHeapRecorderKilled: after SIGKILL of the recorder, the target runs on
// with its code as it was, each of its functions was probed until then, and no
// program of the recorder is left in the kernel (pitfall 22).
func TestHeapRecorderKilled(t *testing.T) {
	p := start(t, build(t, "heap.c", "-ldl"), "serve")
	p.await("ready")
	pid := p.cmd.Process.Pid
	names := []string{"malloc", "free", "realloc", "calloc"}
	before := codeOf(t, pid, names...)

	r := exec.Command(os.Args[0], "-test.run=^TestRecorderProcess$", "-test.timeout=60s")
	path := t.TempDir() + "/x.tcap"
	r.Env = append(os.Environ(), envRecorder+"="+path, fmt.Sprintf("%s_PID=%d", envRecorder, pid))
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := out.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "begun") {
		t.Fatalf("the recorder said %q: %v", buf[:n], err)
	}
	p.tell('m')
	p.await("done")
	for _, name := range names {
		if bytes.Equal(codeOf(t, pid, name), before[:codeLen]) {
			t.Errorf("no probe was set in %s", name)
		}
		before = append(before[codeLen:], before[:codeLen]...)
	}
	programs := programsOf(t, r.Process.Pid)
	if len(programs) < 4 {
		t.Errorf("the recorder holds the programs %v, which are too few", programs)
	}
	r.Process.Signal(syscall.SIGKILL)
	r.Wait()
	deadline := time.Now().Add(patience)
	left := func() int {
		programs = slices.DeleteFunc(programs, func(id ebpf.ProgramID) bool {
			p, err := ebpf.NewProgramFromID(id)
			if err == nil {
				p.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
		return len(programs)
	}
	for !bytes.Equal(codeOf(t, pid, names...), before) || left() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("the probes are still there, or the programs %v", programs)
		}
		// The kernel takes probes out after the process is gone; each request
		// gives it time.
		p.tell('m')
		p.await("done")
	}
	p.tell('q')
	p.wait()
	if !p.cmd.ProcessState.Success() {
		t.Errorf("the target did not survive: %v", p.cmd.ProcessState)
	}
}

const envRecorder = "TCAP_TEST_RECORDER"

// TestRecorderProcess is no test: it is the recorder that another one kills.
func TestRecorderProcess(t *testing.T) {
	path := os.Getenv(envRecorder)
	if path == "" {
		return
	}
	var pid int
	fmt.Sscan(os.Getenv(envRecorder+"_PID"), &pid)
	said := false
	_, err := capture.Record(context.Background(), capture.Options{
		Output: path, Pids: []int{pid}, Packs: []string{"heap"},
		Progress: func(capture.Summary) {
			if !said {
				said = true
				fmt.Println("begun")
			}
		},
	})
	t.Error("recording ended: ", err)
}

// programsOf are the BPF programs that a process has a descriptor of.
func programsOf(t *testing.T, pid int) (ids []ebpf.ProgramID) {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			var id ebpf.ProgramID
			if n, _ := fmt.Sscanf(line, "prog_id: %d", &id); n == 1 {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

const codeLen = 64

// codeOf reads the first bytes of libc functions in a process's memory.
func codeOf(t *testing.T, pid int, names ...string) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var base uint64
	var path string
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) == 6 && strings.HasSuffix(f[5], "/libc.so.6") && f[2] == "00000000" {
			fmt.Sscanf(f[0], "%x-", &base)
			path = f[5]
		}
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	syms, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var code []byte
	for _, name := range names {
		for _, s := range syms {
			if s.Name != name || s.Value == 0 {
				continue
			}
			b := make([]byte, codeLen)
			if _, err := mem.ReadAt(b, int64(base+s.Value)); err != nil {
				t.Fatal(err)
			}
			code = append(code, b...)
			break
		}
	}
	if len(code) != codeLen*len(names) {
		t.Fatalf("only %d bytes of code found in %s", len(code), path)
	}
	return code
}

// awaitProbes waits until a function in a mapped file has been probed.
func awaitProbes(t *testing.T, pid int, path, name string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	syms, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var base uint64
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); base == 0 && len(f) == 6 && f[5] == path {
			fmt.Sscanf(f[0], "%x-", &base)
		}
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for _, s := range syms {
		if s.Name != name {
			continue
		}
		b := []byte{0}
		for deadline := time.Now().Add(patience); b[0] != 0xcc; time.Sleep(time.Millisecond) {
			if _, err := mem.ReadAt(b, int64(base+s.Value)); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s in %s is never probed", name, path)
			}
		}
		return
	}
	t.Fatalf("%s has no %s", path, name)
}
