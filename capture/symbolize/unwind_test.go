package symbolize

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// waitingCapture has a copy of a stack for each of the snapshots, which all are of one
// module.
func waitingCapture(t *testing.T, arch string, m format.Module, snapshots []format.Snapshot) *format.Reader {
	t.Helper()
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, format.Header{Arch: arch}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := w.Module(m)
	for i := range snapshots {
		s := &snapshots[i]
		s.Stack = w.NewStack(w.Frame(format.Frame{Offset: s.PC}))
		for j := range s.Maps {
			s.Maps[j].Module = id
		}
		w.EndStack(s.Stack, s.Stack, format.EndWaiting)
		if err := w.Snapshot(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(format.Trailer{StackEnds: map[string]uint64{}}); err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestUnwindHostile: whatever copies of stacks, mappings and registers a capture
// claims, unwinding them ends, tells each one's end, and the capture stays valid.
func TestUnwindHostile(t *testing.T) {
	b := build(t)
	rng := rand.New(rand.NewPCG(3, 4))
	word := func() uint64 {
		switch rng.IntN(4) {
		case 0:
			return 0x400000 + b.offset
		case 1:
			return 0x400000 + rng.Uint64N(0x4000)
		case 2:
			return 0x7ff000000000 + 8*rng.Uint64N(512)
		}
		return rng.Uint64()
	}
	var list []format.Snapshot
	for range 3000 {
		s := format.Snapshot{Inside: rng.IntN(2) == 0, PC: word(), SP: word(), FP: word(), LR: word(), Regs: make([]uint64, rng.IntN(12)), Memory: make([]byte, rng.IntN(1<<rng.IntN(13)))}
		for i := range s.Regs {
			s.Regs[i] = word()
		}
		for i := 0; i+8 <= len(s.Memory); i += 8 {
			binary.LittleEndian.PutUint64(s.Memory[i:], word())
		}
		for range max(0, rng.IntN(5)-2) {
			s.Rest = append(s.Rest, format.SnapshotPart{At: word(), Memory: bytes.Clone(s.Memory)})
		}
		if rng.IntN(5) > 0 {
			s.Maps = append(s.Maps, format.CodeMapping{Start: 0x400000, End: 0x404000, Offset: rng.Uint64N(2) * rng.Uint64()})
		}
		if rng.IntN(5) == 0 {
			s.Maps = append(s.Maps, format.CodeMapping{Start: 1 << 63, End: 1<<64 - 1})
		}
		list = append(list, s)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		for _, path := range []string{b.stripped, "/nowhere/at/all"} {
			r := waitingCapture(t, arch, format.Module{Path: path, BuildID: b.id}, list)
			a, err := r.Amend()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Unwind(context.Background(), r, a, []string{t.TempDir()})
			if err != nil || got.Stacks != len(list) || got.Kept != (path != b.stripped) {
				t.Fatalf("%s %s: %+v, %v", arch, path, got, err)
			}
			var out bytes.Buffer
			if _, err := a.WriteTo(&out); err != nil {
				t.Fatal(err)
			}
			done, err := format.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if findings, err := done.Validate(); err != nil || len(findings) > 0 {
				t.Errorf("%s %s: not valid: %v, %v", arch, path, findings, err)
			}
			for i := range list {
				end := done.StackEnd(list[i].Stack)
				if end == format.EndUnknown || end == format.EndWaiting && path == b.stripped {
					t.Fatalf("%s %s: stack %d ends: %v", arch, path, i, end)
				}
			}
			done.Close()
		}
	}
}

// TestUnwindRefused: a capture of another kind of machine is refused, one without copies is
// left as it is, and a context that is done ends the work.
func TestUnwindRefused(t *testing.T) {
	one := []format.Snapshot{{PC: 1}}
	unwindOf := func(ctx context.Context, r *format.Reader) (*Unwound, error) {
		a, err := r.Amend()
		if err != nil {
			t.Fatal(err)
		}
		return Unwind(ctx, r, a, nil)
	}
	if _, err := unwindOf(context.Background(), waitingCapture(t, "riscv64", format.Module{}, one)); !errors.Is(err, errArch) {
		t.Errorf("another architecture: %v", err)
	}
	if got, err := unwindOf(context.Background(), waitingCapture(t, "riscv64", format.Module{}, nil)); err != nil || got.Stacks != 0 {
		t.Errorf("no copies: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("the user had enough")
	cancel(cause)
	before := runtime.NumGoroutine()
	if _, err := unwindOf(ctx, waitingCapture(t, runtime.GOARCH, format.Module{}, one)); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines, were %d", n, before)
	}
}

// TestUnwindOtherVDSO: the vdso of another kernel is not had, and this kernel's is not
// taken for it: a stack waits at it.
func TestUnwindOtherVDSO(t *testing.T) {
	b := build(t)
	const at = 0x7ffc00001000
	r := waitingCapture(t, runtime.GOARCH, format.Module{Path: symbol.VDSOName, BuildID: b.id}, []format.Snapshot{{
		Inside: true, PC: at + 0x800, SP: 0x7ffd00000000, Memory: make([]byte, 256),
		Maps: []format.CodeMapping{{Start: at, End: at + 0x2000}},
	}})
	a, err := r.Amend()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unwind(t.Context(), r, a, []string{t.TempDir()})
	if err != nil || !got.Kept || len(got.Missing) != 1 || got.Missing[0].Path != symbol.VDSOName || len(got.Missing[0].Others) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
