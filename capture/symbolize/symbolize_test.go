package symbolize

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("TCAP_KERNEL_TESTS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("%s is not installed", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// A built is a program in its parts.
type built struct {
	whole, stripped, debug string
	id                     string
	offset                 uint64 // just behind the call in leak_here
	code                   func(format.Module) format.Module
}

func build(t *testing.T, flags ...string) built {
	t.Helper()
	dir := t.TempDir()
	b := built{whole: filepath.Join(dir, "whole"), stripped: filepath.Join(dir, "stripped"), debug: filepath.Join(dir, "debug")}
	tool(t, "gcc", append([]string{"-g", "-O1", "-Wl,--build-id", "-o", b.whole, "../../cmd/tcap/testdata/symbolized.c"}, flags...)...)
	tool(t, "objcopy", "--only-keep-debug", b.whole, b.debug)
	tool(t, "objcopy", "--strip-all", b.whole, b.stripped)
	f, err := elf.Open(b.whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(b.whole)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	addr, off, ok := symbol.CodeSegment(file)
	if !ok {
		t.Fatal("no code")
	}
	for _, s := range symbols {
		if s.Name == "leak_here" {
			b.offset = s.Value + 12 - addr + off
		}
	}
	b.code = func(m format.Module) format.Module { return m.WithCode(addr, off) }
	b.id = symbol.NewResolver(symbol.Options{}).Module(func() (*os.File, error) { return os.Open(b.whole) }, b.whole).BuildID()
	return b
}

// captureOf is a capture with one frame in a module.
func captureOf(t *testing.T, m format.Module, offset uint64) *format.Reader {
	t.Helper()
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.Stack(0, w.Frame(format.Frame{Module: w.Module(m), Offset: offset}))
	if err := w.Close(format.Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func run(t *testing.T, r *format.Reader, dirs ...string) (Module, *format.Reader) {
	t.Helper()
	a, err := r.Amend()
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Run(context.Background(), r, a, dirs)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := a.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	named, err := format.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { named.Close() })
	return rep.Modules[0], named
}

// TestPlaces puts a program's debug file, or the program, wherever it is looked
// for, and wants the names that the whole program gives.
func TestPlaces(t *testing.T) {
	for _, flags := range [][]string{{"-pie", "-fPIE"}, {"-no-pie"}} {
		b := build(t, flags...)
		hash := ".build-id/" + b.id[:2] + "/" + b.id[2:]
		for place, file := range map[string]string{
			hash + ".debug":                        b.debug,
			"usr/lib/debug/" + hash + ".debug":     b.debug,
			hash:                                   b.whole,
			"opt/prog/bin/srv":                     b.whole,
			"opt/prog/bin/srv.debug":               b.debug,
			"usr/lib/debug/opt/prog/bin/srv.debug": b.debug,
			"srv":                                  b.whole,
			"srv.debug":                            b.debug,
		} {
			dir := t.TempDir()
			at := filepath.Join(dir, place)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			tool(t, "cp", file, at)
			m := b.code(format.Module{Path: "/opt/prog/bin/srv", BuildID: b.id})
			got, named := run(t, captureOf(t, m, b.offset), t.TempDir(), dir)
			f := named.Frames(1, nil)
			if got.Better.Lined != 1 || len(f) == 0 || f[len(f)-1].Function != "leak_here" || f[0].Line == 0 {
				t.Errorf("%v %s: %+v, frame %+v", flags, place, got, f)
			}
		}
	}
}

// TestNotGuessed covers what must not be named.
func TestNotGuessed(t *testing.T) {
	b, other := build(t), build(t, "-O2")
	dir := t.TempDir()
	tool(t, "cp", other.whole, filepath.Join(dir, "srv"))
	m := b.code(format.Module{Path: "/opt/srv", BuildID: b.id})
	got, named := run(t, captureOf(t, m, b.offset), dir)
	if got.Better.All != 0 || !errors.Is(got.Err, symbol.ErrNotFound) || len(got.Others) != 1 || got.Others[0].BuildID != other.id {
		t.Errorf("another build: %+v", got)
	}
	if f := named.Frame(1); f.Function != "" {
		t.Errorf("another build names %+v", f)
	}
	tool(t, "cp", b.debug, filepath.Join(dir, "srv.debug"))
	if got, _ := run(t, captureOf(t, format.Module{Path: "/opt/srv", BuildID: b.id}, b.offset), dir); got.Better.All != 0 || got.Err == nil {
		t.Errorf("a debug file for a capture that does not say where code is: %+v", got)
	}
	// The module itself tells that, even stripped.
	tool(t, "cp", b.stripped, filepath.Join(dir, "srv"))
	if got, _ := run(t, captureOf(t, format.Module{Path: "/opt/srv", BuildID: b.id}, b.offset), dir); got.Better.Lined != 1 {
		t.Errorf("with the module: %+v", got)
	}
	for _, id := range []string{"", "zz", "ab", "../../etc"} {
		if got, _ := run(t, captureOf(t, format.Module{Path: "/opt/srv", BuildID: id}, b.offset), dir); got.Better.All != 0 || got.Err == nil {
			t.Errorf("build-id %q: %+v", id, got)
		}
	}
}

// TestHostileFiles cuts a debug file everywhere, and lets offsets and paths be
// anything: nothing may panic or hang, and no damage may go unnamed.
func TestHostileFiles(t *testing.T) {
	b := build(t)
	whole, err := os.ReadFile(b.debug)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for n := 0; n < len(whole); n += len(whole)/60 + 1 {
		if err := os.WriteFile(filepath.Join(dir, "srv.debug"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		m := b.code(format.Module{Path: "/opt/srv", BuildID: b.id})
		if got, _ := run(t, captureOf(t, m, b.offset), dir); got.Better.Lined == 0 && got.Err == nil {
			t.Errorf("cut at %d of %d: nothing named, no error", n, len(whole))
		}
	}
	for _, m := range []format.Module{
		{Path: "../../../etc/passwd", BuildID: b.id}, {Path: "/", BuildID: b.id}, {Path: "", BuildID: b.id},
		{Path: "/dev/zero", BuildID: b.id}, {Path: "\x00\n", BuildID: b.id}, {Path: "/proc/self/mem", BuildID: b.id},
	} {
		if got, _ := run(t, captureOf(t, m, 1<<63), dir, "/dev", "/proc/self"); got.Better.All != 0 {
			t.Errorf("%+v: %+v", m, got)
		}
	}
	for _, off := range []uint64{0, 1, 1 << 62, 1<<64 - 1} {
		tool(t, "cp", b.debug, filepath.Join(dir, "srv.debug"))
		m := format.Module{Path: "/opt/srv", BuildID: b.id}.WithCode(0, 1<<63+7)
		if got, _ := run(t, captureOf(t, m, off), dir); got.Better.All != 0 {
			t.Errorf("offset %#x: %s", off, fmt.Sprint(got))
		}
	}
}
