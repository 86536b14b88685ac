package unwind

import "testing"

// benchStack is a stack of C++ through an exception and the library's sort.
func benchStack(b *testing.B) (*recording, []string) {
	prog := build(b, "g++", "throw.cpp", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls")
	r := recordStops(b, prog, 0, "break leaf", "run", "tbreak malloc", "continue")
	return r, r.Stops[0].names()
}

// BenchmarkWarm unwinds a stack whose addresses are known, BenchmarkCold one
// whose are not, of modules that are open, BenchmarkFirst opens them, too.
func BenchmarkWarm(b *testing.B)  { benchmark(b, func(*Unwinder) {}) }
func BenchmarkCold(b *testing.B)  { benchmark(b, forget) }
func BenchmarkFirst(b *testing.B) { benchmark(b, dropAll) }

func forget(u *Unwinder) {
	for _, m := range u.loaded {
		clear(m.places)
		clear(m.rules)
		m.ruleBytes = 0
	}
}

func dropAll(u *Unwinder) {
	for len(u.loaded) > 0 {
		u.drop(0)
	}
}

func benchmark(b *testing.B, before func(*Unwinder)) {
	r, names := benchStack(b)
	u := New(Options{})
	space, snap := r.space(b, u), r.Stops[0].snapshot()
	frames, end := u.Unwind(space, snap, nil)
	if end != Complete || len(frames) != len(names) {
		b.Fatalf("%d frames, want %d; ended: %v", len(frames), len(names), end)
	}
	b.ReportAllocs()
	for b.Loop() {
		before(u)
		frames, _ = u.Unwind(space, snap, frames[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(frames)), "ns/frame")
	b.ReportMetric(float64(len(frames)), "frames")
}
