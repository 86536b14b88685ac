package analyze

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// FuzzHostile runs the heap analyses over events whose fields are extreme or
// refer to nothing, and renders every format. Nothing may panic, and JSON stays
// JSON.
func FuzzHostile(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 4))
		s := &stream{start: 1e12}
		values := []uint64{0, 1, 2, 16, 4095, 4096, 1 << 20, 1 << 31, 1<<32 - 1, 1 << 40, math.MaxInt64, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}
		kinds := []format.Kind{
			format.KindAlloc, format.KindRealloc, format.KindFree, format.KindMap, format.KindUnmap, format.KindRemap,
			format.KindBrk, format.KindFork, format.KindExec, format.KindExit, format.KindLoss,
			format.KindTCPEndpoints, format.KindTCPState, format.KindTCPAccept, format.KindTCPDestroy, format.KindTCPReset, format.KindCall,
		}
		pick := func() uint64 { return values[rng.IntN(len(values))] }
		for range 60 {
			task := format.Task{Pid: uint32(pick()), Tid: uint32(pick()), Space: uint32(pick()), Start: int64(pick()), Comm: "\xff\x1b"}
			at := int64(rng.IntN(1000))
			if rng.IntN(10) == 0 {
				at = int64(pick())
			}
			e := make([]uint64, format.MaxFields)
			for i := range e {
				e[i] = pick()
			}
			kind := kinds[rng.IntN(len(kinds))]
			s.add(task, at, kind, e...)
			if kind == format.KindAlloc { // and some that are as they should be
				s.add(task, at, format.KindFree, e[0])
			}
		}
		r := capture(t, 1+rng.IntN(30), s.writeRaw)
		runs := [][]string{{"leaks", "--mmap"}, {"leaks", "--group-by", "age", "--to", "500"}, {"leaks", "--group-by", "thread"}, {"heap"},
			{"closes"}, {"queries", "--all"}, {"commands"}, {"timeline"}}
		for _, run := range runs {
			res, _ := runLine(t, r, run[0], run[1:], nil)
			for _, name := range Formats(res) {
				var buf bytes.Buffer
				if err := Render(&buf, res, name, 80); err != nil {
					t.Fatalf("%v as %s: %v", run, name, err)
				}
				if name == "json" && !json.Valid(buf.Bytes()) {
					t.Errorf("%v: not JSON: %s", run, buf.Bytes())
				}
				if name == "text" && bytes.ContainsAny(buf.Bytes(), "\x1b\xff") {
					t.Errorf("%v: text holds what it should escape", run)
				}
			}
		}
	})
}
