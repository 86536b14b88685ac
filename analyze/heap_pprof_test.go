package analyze

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// inlinedCapture has stacks as a recorder resolves them: modules with build
// ids, an inlined call, a frame without a name, operator new innermost.
func inlinedCapture(t testing.TB) *format.Reader {
	return capture(t, 100, func(w *format.Writer) {
		prog := w.Module(format.Module{Path: "/usr/bin/prog", BuildID: "c0ffee"})
		cxx := w.Module(format.Module{Path: "/lib/libstdc++.so.6", BuildID: "beef"})
		frame := func(m format.ModuleID, off uint64, name string, line uint32, inlined bool) format.FrameID {
			f := format.Frame{Module: m, Offset: off, Function: name, Inlined: inlined, Line: line}
			if line > 0 {
				f.File = "/src/prog.cc"
			}
			return w.Frame(f)
		}
		main := w.Stack(0, frame(prog, 0x1000, "main", 10, false))
		nameless := w.Stack(main, frame(prog, 0x2345, "", 0, false))
		outer := w.Stack(nameless, frame(prog, 0x3000, "outer", 30, false))
		inner := w.Stack(outer, frame(prog, 0x3000, "inner", 31, true))
		viaNew := w.Stack(inner, frame(cxx, 0x4000, "operator new(unsigned long)", 0, false))
		raw := w.Stack(0, frame(0, 0x7f00dead, "", 0, false))
		task := w.Task(format.Task{Pid: 1, Tid: 1, Space: 1, Comm: "prog"})
		add := func(k format.Kind, at int64, v ...uint64) {
			e := format.Event{Kind: k, Time: 1e12 + at, Task: task}
			copy(e.V[:], v)
			if err := w.Append(&e); err != nil {
				t.Fatal(err)
			}
		}
		add(format.KindAlloc, 1, 0x10, 1000, uint64(viaNew), format.FnNew)
		add(format.KindAlloc, 2, 0x20, 2000, uint64(viaNew), format.FnNew)
		add(format.KindAlloc, 3, 0x30, 64, uint64(main), format.FnMalloc)
		add(format.KindFree, 4, 0x20, format.FnDelete)
		add(format.KindAlloc, 5, 0x40, 7, uint64(raw), format.FnMalloc)
		add(format.KindAlloc, 6, 0x50, 5, 0, format.FnMalloc)
	})
}

// TestPProf checks the profile's shape, and that go tool pprof shows the totals
// of the report, with the allocator's frame hidden.
func TestPProf(t *testing.T) {
	r := inlinedCapture(t)
	for _, name := range []string{"leaks", "heap"} {
		res, _ := runLine(t, r, name, nil, nil)
		var buf bytes.Buffer
		if err := Render(&buf, res, "pprof", 80); err != nil {
			t.Fatal(err)
		}
		p, err := profile.ParseData(buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		checkProfile(t, p)
		file := filepath.Join(t.TempDir(), "heap.pb.gz")
		if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		inuse, alloc := uint64(1000+64+7+5), uint64(1000+2000+64+7+5)
		if name == "heap" {
			inuse = 1000 + 2000 + 64 // the peak, at 3 ns
		}
		checkTop(t, file, "inuse_space", inuse)
		checkTop(t, file, "alloc_space", alloc)
		checkTop(t, file, "alloc_objects", 5)
	}
}

// TestPProfSuppressed: suppressing a stack's leaks hides none of what it allocated.
func TestPProfSuppressed(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/heap-suppressions.txtar")
	p, err := profile.ParseData(render(t, runAnalysis(t, "leaks", s.Reader, format.Filter{}), "pprof", 80))
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]int64, 4)
	for _, sample := range p.Sample {
		for i, v := range sample.Value {
			sum[i] += v
		}
	}
	if want := []int64{7, 127, 6, 95}; !slices.Equal(sum, want) { // one of 32 bytes is the runtime's
		t.Errorf("allocated and in use: %v, want %v", sum, want)
	}
}

func checkProfile(t *testing.T, p *profile.Profile) {
	t.Helper()
	var types []string
	for _, s := range p.SampleType {
		types = append(types, s.Type+"/"+s.Unit)
	}
	if got := strings.Join(types, " "); got != "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes" {
		t.Errorf("sample types %s", got)
	}
	if p.DefaultSampleType != "inuse_space" {
		t.Errorf("default sample type %s", p.DefaultSampleType)
	}
	if p.Mapping[0].File != "/usr/bin/prog" {
		t.Errorf("the first mapping is %s, which pprof takes for the program", p.Mapping[0].File)
	}
	builds := map[string]string{}
	for _, m := range p.Mapping {
		builds[m.File] = m.BuildID
	}
	if builds["/usr/bin/prog"] != "c0ffee" || builds["/lib/libstdc++.so.6"] != "beef" {
		t.Errorf("mappings %v", builds)
	}
	inlined := 0
	for _, l := range p.Location {
		if len(l.Line) == 2 && l.Line[0].Function.Name == "inner" && l.Line[1].Function.Name == "outer" {
			inlined++
		}
	}
	if inlined != 1 {
		t.Errorf("%d locations have inner inlined into outer, want 1", inlined)
	}
}

// checkTop compares the total that go tool pprof prints, and that names are as
// they should be.
func checkTop(t *testing.T, file, sample string, want uint64) {
	t.Helper()
	cmd := exec.Command("go", "tool", "pprof", "-top", "-unit=b", "-nodefraction=0", "-sample_index="+sample, file)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go tool pprof: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`of (\d+)[Bb]? total`).FindSubmatch(out)
	if m == nil || string(m[1]) != fmt.Sprint(want) {
		t.Errorf("%s: total %s, want %d\n%s", sample, m, want, out)
	}
	if bytes.Contains(out, []byte("operator new")) {
		t.Errorf("%s shows the allocator:\n%s", sample, out)
	}
	if sample == "alloc_space" && (!bytes.Contains(out, []byte("prog+0x2345")) || !bytes.Contains(out, []byte("0x7f00dead"))) {
		t.Errorf("frames without a name are missing:\n%s", out)
	}
}

// TestInlinedText checks how a resolved stack looks in text: without the
// allocator's frame.
func TestInlinedText(t *testing.T) {
	res, _ := runLine(t, inlinedCapture(t), "leaks", []string{"--min-size", "1000"}, nil)
	var buf bytes.Buffer
	if err := Render(&buf, res, "text", 80); err != nil {
		t.Fatal(err)
	}
	want := `    inner                                     prog.cc:31
    outer                                     prog.cc:30
    prog+0x2345
    main                                      prog.cc:10
`
	if !strings.Contains(buf.String(), want) {
		t.Errorf("got\n%s\nwant in it\n%s", buf.String(), want)
	}
}
