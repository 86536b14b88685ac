package capture

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

// memoryRing is a ring whose writer is the test.
type memoryRing struct {
	ring
	read, written uint64
}

func newMemoryRing(size int) *memoryRing {
	r := &memoryRing{ring: ring{data: make([]byte, 2*size), mask: uint64(size - 1), epoll: -1}}
	r.consumer, r.producer = &r.read, &r.written
	return r
}

// put writes a record as the kernel does. The flags are those of its length.
func (r *memoryRing) put(rec []byte, flags uint32) (head []byte) {
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(rec))|flags)
	b = append(append(b, 0, 0, 0, 0), rec...)
	size := len(r.data) / 2
	for i, c := range b {
		at := (int(r.written) + i) % size
		r.data[at], r.data[at+size] = c, c
	}
	head = r.data[int(r.written)%size:]
	r.written += uint64(len(b)+7) &^ 7
	return head
}

func (r *memoryRing) all(t *testing.T) (got []string) {
	t.Helper()
	for {
		rec, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if rec == nil {
			return got
		}
		got = append(got, string(rec))
	}
}

// TestRing: records come in order, whole where the ring begins anew, and without
// those that their writer took back; what was read is given back.
func TestRing(t *testing.T) {
	r := newMemoryRing(256)
	for round := range 100 {
		want := strings.Repeat("x", round%50)
		r.put([]byte("first"), 0)
		r.put([]byte("taken back"), recordDiscard)
		r.put([]byte(want), 0)
		got := r.all(t)
		if len(got) != 2 || got[0] != "first" || got[1] != want {
			t.Fatalf("round %d: %q", round, got)
		}
		if r.read != r.written {
			t.Fatalf("round %d: given back up to %d of %d", round, r.read, r.written)
		}
	}
}

// TestRingBusy: a record that is being written is not waited for, and ends what
// can be read.
func TestRingBusy(t *testing.T) {
	r := newMemoryRing(256)
	r.put([]byte("a"), 0)
	head := r.put([]byte("b"), recordBusy)
	r.put([]byte("c"), 0)
	if got := r.all(t); len(got) != 1 || !r.pending() {
		t.Fatalf("before: %q, pending %v", got, r.pending())
	}
	binary.NativeEndian.PutUint32(head, 1)
	if got := r.all(t); len(got) != 2 || got[0] != "b" || r.pending() {
		t.Fatalf("after: %q, pending %v", got, r.pending())
	}
}

// TestRingGivesBack: a reader that never finds the ring empty gives room back
// all the same.
func TestRingGivesBack(t *testing.T) {
	r := newMemoryRing(4 * giveBack)
	for range 3 * giveBack / 64 {
		r.put(make([]byte, 56), 0)
	}
	for range 2*giveBack/64 + 1 {
		if _, err := r.next(); err != nil {
			t.Fatal(err)
		}
	}
	if r.read < giveBack {
		t.Errorf("given back %d bytes of %d", r.read, r.at)
	}
}

// TestRingDamaged: a length that the ring cannot have ends it.
func TestRingDamaged(t *testing.T) {
	r := newMemoryRing(256)
	binary.NativeEndian.PutUint32(r.put(nil, 0), 1<<20)
	if _, err := r.next(); !errors.Is(err, errKernel) {
		t.Errorf("error %v", err)
	}
}

// TestSpoiltRecord: a record that cannot be decoded is counted as lost, and what
// comes after it is recorded.
func TestSpoiltRecord(t *testing.T) {
	r, _ := kernelless(t)
	m := newMemoryRing(4096)
	r.ring, r.loss = &m.ring, &ledger{seen: make([]uint64, lossKinds*4)}
	m.put(record(bpf.RawHdr{Kind: uint8(bpf.RawKindAlloc), Pid: 1 << 30, Tid: 1 << 30, Cpu: 3}), 0) // cut short
	m.put(record(bpf.RawHdr{Kind: uint8(bpf.RawKindCount)}), 0)
	m.put([]byte("short"), 0)
	m.put(record(bpf.RawFree{Hdr: bpf.RawHdr{Kind: uint8(bpf.RawKindFree), Pid: 1 << 30, Tid: 1 << 30}, Addr: 16}), 0)
	if empty, err := r.drain(time.Now().Add(time.Hour)); err != nil || !empty {
		t.Fatalf("drain: %v, empty %v", err, empty)
	}
	if n := r.w.Stats().EventsByKind[format.KindFree]; n != 1 {
		t.Errorf("%d frees recorded, want 1", n)
	}
	if r.undecoded != 3 || !strings.Contains(r.firstUndecoded.Error(), "of 24 bytes") {
		t.Errorf("%d undecoded, the first %v", r.undecoded, r.firstUndecoded)
	}
	if a, none := r.loss.unread[lossPlace{int(bpf.RawKindAlloc), 3}], r.loss.unread[lossPlace{int(bpf.RawKindStack), 0}]; a != 1 || none != 2 {
		t.Errorf("counted as lost: %v", r.loss.unread)
	}
	r.names.finish(r.w)
	r.modules.close()
}

// TestTellerNeverWaits: nobody reads, and who speaks goes on.
func TestTellerNeverWaits(t *testing.T) {
	read, write := io.Pipe()
	tell := newTeller(write, func(Summary) { write.Write([]byte("progress")) })
	for range 10 * tellerRoom {
		tell.warn("nobody reads this")
		tell.show(Summary{})
	}
	tell.finish()
	if tell.unsaid == 0 {
		t.Error("all was said to nobody")
	}
	read.Close()
	<-tell.done
}

// TestTellerSaysAll: a reader gets every line, in order, and the end waits for it.
func TestTellerSaysAll(t *testing.T) {
	var out strings.Builder
	tell := newTeller(&out, nil)
	tell.warn("one")
	tell.warn("two")
	tell.finish()
	if got := out.String(); got != "tcap: warning: one\ntcap: warning: two\n" {
		t.Errorf("%q", got)
	}
}

// TestLossOfSpoilt: the loss of a record that could not be decoded is told with
// that of those that found no room.
func TestLossOfSpoilt(t *testing.T) {
	r := begun(t)
	r.loss.spoilt(int(bpf.RawKindFree), 0)
	r.loss.spoilt(-5, 1<<20)
	var told []format.Event
	tell := func(e *format.Event) error { told = append(told, *e); return nil }
	for range 2 {
		if err := r.loss.check(monotonic(), tell); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 2 || told[0].V[format.LossKind] != uint64(format.KindInvalid) || told[1].V[format.LossKind] != uint64(format.KindFree) {
		t.Errorf("told %v", told)
	}
	if r.loss.total != 2 {
		t.Errorf("%d lost in all, want 2", r.loss.total)
	}
}

// BenchmarkRing is what an event costs a recorder from the ring to the file,
// symbols and the kernel's part excepted: CPU time of all threads.
func BenchmarkRing(b *testing.B) {
	r, _ := kernelless(b)
	w, err := format.NewWriter(io.Discard, format.Header{}, format.WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	r.w, r.modules.w, r.procs.w, r.stacks.w = w, w, w, w
	m := newMemoryRing(16 << 20) // several blocks, so that none has a stretch twice
	r.ring, r.loss = &m.ring, &ledger{seen: make([]uint64, lossKinds*1)}
	rng := rand.New(rand.NewPCG(1, 2))
	now := uint64(0)
	const pid = 1 << 30 // no process of this machine
	r.stacks.add(7, []uint64{0x1000})
	events := 0
	for i := uint64(0); m.written+200 < uint64(len(m.data)/2); i++ {
		now += 1400 + uint64(rng.ExpFloat64()*50)
		h := bpf.RawHdr{Time: now, Pid: pid, Tid: pid}
		alloc, free := bpf.RawAlloc{Hdr: h, Addr: 0x5000 + i%32*16, Size: 32 + i%32, Stack: 7}, bpf.RawFree{Hdr: h, Addr: 0x5000 + i%32*16}
		alloc.Hdr.Kind, free.Hdr.Kind = uint8(bpf.RawKindAlloc), uint8(bpf.RawKindFree)
		now += 600 + uint64(rng.ExpFloat64()*50)
		free.Hdr.Time = now
		m.put(record(alloc), 0)
		m.put(record(free), 0)
		events += 2
	}
	m.put(make([]byte, uint64(len(m.data)/2)-m.written-recordHead), recordDiscard)
	lap, never := m.written, time.Now().Add(time.Hour)
	b.ResetTimer()
	before := cpuTime(b)
	for n := 0; n < b.N; n += events {
		if _, err := r.drain(never); err != nil {
			b.Fatal(err)
		}
		m.written += lap // the same records again
	}
	if err := w.Close(format.Trailer{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/event")
	b.ReportMetric(float64(w.Size())/float64(b.N), "B/event")
	r.names.finish(r.w)
	r.modules.close()
}

// cpuTime is the CPU time of this process, ns.
func cpuTime(b *testing.B) int64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}
