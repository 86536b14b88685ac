package format

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// perlLike is a stream as that of an interpreter: few sizes, few stacks, most
// blocks die young, freed blocks are reused last in, first out; microseconds
// between events.
func perlLike(n int) []Event {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []uint64{10, 16, 24, 24, 24, 32, 32, 48, 64, 80, 120, 240, 1024}
	free := map[uint64][]uint64{}
	type block struct{ addr, size uint64 }
	var live []block
	top, now := uint64(0x5555_5555_0000), int64(1e12)
	events := make([]Event, n)
	for i := range events {
		now += 1400 + int64(rng.ExpFloat64()*250)
		e := &events[i]
		e.Time, e.Task = now, 1
		if len(live) > 0 && rng.IntN(1000) < min(498, len(live)) {
			j := len(live) - 1 - min(int(rng.ExpFloat64()*6), len(live)-1)
			if rng.IntN(20) == 0 {
				j = rng.IntN(len(live))
			}
			b := live[j]
			live = append(live[:j], live[j+1:]...)
			free[b.size] = append(free[b.size], b.addr)
			e.Kind, e.V[FreeAddr], e.V[FreeFn] = KindFree, b.addr, FnFree
			continue
		}
		stack := min(int(rng.ExpFloat64()*30), 700)
		size := sizes[stack%len(sizes)]
		addr := top
		if l := free[size]; len(l) > 0 {
			addr, free[size] = l[len(l)-1], l[:len(l)-1]
		} else {
			top += (size + 23) &^ 15
		}
		live = append(live, block{addr, size})
		e.Kind = KindAlloc
		e.V[AllocAddr], e.V[AllocSize], e.V[AllocStack], e.V[AllocFn] = addr, size, uint64(stack+1), FnMalloc
	}
	return events
}

func writeAll(b testing.TB, out io.Writer, events []Event, times int) *Writer {
	b.Helper()
	w, err := NewWriter(out, Header{}, WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w.Task(Task{Pid: 1, Tid: 1, Space: 1, Comm: "perl"})
	for range 701 {
		w.Stack(StackID(len(w.stacks)), w.Frame(Frame{Offset: uint64(len(w.stacks))}))
	}
	for n := 0; n < times; n += len(events) {
		for i := range events[:min(len(events), times-n)] {
			if err := w.Append(&events[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	return w
}

// BenchmarkAppend is what an event costs its recorder: ns/op is the time until
// all is compressed, with the compressor beside Append on another CPU.
func BenchmarkAppend(b *testing.B) {
	events := perlLike(1 << 18)
	b.ReportAllocs()
	b.ResetTimer()
	w := writeAll(b, io.Discard, events, b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "append-ns/event")
	if err := w.Close(Trailer{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(w.Size())/float64(b.N), "B/event")
}

// BenchmarkAppendOnly is Append without the encoding of full blocks.
func BenchmarkAppendOnly(b *testing.B) {
	events := perlLike(1 << 16)
	blk, live, pairs := newBuilder(DefaultBlockEvents), newLiveBlocks(), new(pairing)
	b.ResetTimer()
	for n := 0; n < b.N; n++ {
		if n&(1<<16-1) == 0 {
			blk.reset()
			pairs.begin()
			blk.number++
		}
		blk.append(&events[n&(1<<16-1)], pairs, live)
	}
}

// BenchmarkEncode is the work of the Writer's goroutine.
func BenchmarkEncode(b *testing.B) {
	events := perlLike(DefaultBlockEvents)
	blk, live, pairs := newBuilder(DefaultBlockEvents), newLiveBlocks(), new(pairing)
	var enc columnEncoder
	var sizes [256]int
	for n := 0; n < b.N; n += len(events) {
		b.StopTimer()
		blk.reset()
		pairs.begin()
		for i := range events {
			blk.append(&events[i], pairs, live)
		}
		blk.seal(pairs)
		b.StartTimer()
		blk.encode(&enc, &sizes)
	}
	b.ReportMetric(float64(len(enc.dst))/float64(len(events)), "raw-B/event")
}

// BenchmarkDecode is reading on one CPU: ns/op is an event, decompressed,
// decoded and matched with its birth.
func BenchmarkDecode(b *testing.B) {
	events := perlLike(1 << 20)
	var buf bytes.Buffer
	w := writeAll(b, &buf, events, len(events))
	if err := w.Close(Trailer{}); err != nil {
		b.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), WithWorkers(1))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		for res, err := range r.Batches(Filter{}, nil) {
			if err != nil {
				b.Fatal(err)
			}
			if n += res.Batch.Len(); n >= b.N {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
	b.ReportMetric(float64(buf.Len())/float64(len(events)), "B/event")
}

// BenchmarkEvents is the same through the row-wise iterator.
func BenchmarkEvents(b *testing.B) {
	events := perlLike(1 << 20)
	var buf bytes.Buffer
	w := writeAll(b, &buf, events, len(events))
	if err := w.Close(Trailer{}); err != nil {
		b.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ResetTimer()
	for n := 0; n < b.N; {
		for range r.Events(Filter{}) {
			if n++; n >= b.N {
				break
			}
		}
	}
}
