package analyze

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// TestShuffled is pitfall 24: the recorder may see the events of different CPUs
// in any order that keeps each thread's own and each address's history. Every
// report is the same for all of them, to the byte.
func TestShuffled(t *testing.T) {
	runs := [][]string{{"leaks", "text"}, {"leaks", "json"}, {"leaks", "folded"}, {"heap", "text"}, {"heap", "json"}, {"heap", "csv"}}
	swapped := 0
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := legal(rng, 0)
		var want [][]byte
		for round := range 4 {
			r := capture(t, 1+int(seed), s.write)
			for i, run := range runs {
				res, width := runLine(t, r, run[0], nil, nil)
				var got bytes.Buffer
				if err := Render(&got, res, run[1], width); err != nil {
					t.Fatal(err)
				}
				if round == 0 {
					want = append(want, bytes.Clone(got.Bytes()))
				} else if !bytes.Equal(got.Bytes(), want[i]) {
					t.Fatalf("seed %d, round %d, %v:\n%s\nin the order of time:\n%s", seed, round, run, got.Bytes(), want[i])
				}
			}
			swapped += s.shuffle(rng)
		}
	}
	if swapped < 1000 {
		t.Errorf("only %d events were moved", swapped)
	}
}

// shuffle swaps neighbours that no rule keeps in order, and returns how many.
func (s *stream) shuffle(rng *rand.Rand) int {
	n := 0
	if len(s.events) < 2 {
		return 0 // the only process ended at once
	}
	for range 20 * len(s.events) {
		i := rng.IntN(len(s.events) - 1)
		if s.ordered(i, i+1) {
			continue
		}
		s.events[i], s.events[i+1] = s.events[i+1], s.events[i]
		s.tasks[i], s.tasks[i+1] = s.tasks[i+1], s.tasks[i]
		n++
	}
	return n
}

// ordered reports whether event i must stay before event j, its neighbour.
func (s *stream) ordered(i, j int) bool {
	a, b := &s.events[i], &s.events[j]
	if s.tasks[i].Tid == s.tasks[j].Tid || a.Kind > format.KindFree || b.Kind > format.KindFree {
		return true
	}
	if s.tasks[i].Space != s.tasks[j].Space {
		return false
	}
	if touched(a) == touched(b) {
		return true
	}
	return b.Kind == format.KindRealloc && b.V[format.ReallocOld] == touched(a) && a.Kind != format.KindFree &&
		a.Time <= b.Time-int64(b.V[format.ReallocDuration])
}

// touched is the address whose history an event is part of when it is written.
func touched(e *format.Event) uint64 {
	if e.Kind == format.KindRealloc {
		return e.V[format.ReallocAddr]
	}
	return e.V[0]
}

// testStack gives an event a stack of its own kind of caller.
func testStack(w *format.Writer, e *format.Event) uint64 {
	name := fmt.Sprintf("caller_%d", e.V[0]/16%5)
	return uint64(w.Stack(w.Stack(0, w.Frame(format.Frame{Function: "main"})), w.Frame(format.Frame{Function: name})))
}
