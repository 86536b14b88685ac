package capture

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// A kernelList is the kernel's list of the stacks that it has sent.
type kernelList map[uint64]bool

func (k kernelList) Delete(key any) error {
	if !k[key.(uint64)] {
		return errors.New("no such key")
	}
	delete(k, key.(uint64))
	return nil
}

func testStacks(t *testing.T) (*stackTable, kernelList) {
	t.Helper()
	w, err := format.NewWriter(new(bytes.Buffer), format.Header{}, format.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(format.Trailer{}) })
	sent := kernelList{}
	return newStackTable(w, nil, sent), sent
}

// TestStackLostOnce: that the frames of a stack were lost once costs the events
// until they are sent again their stack, and each of those is counted.
func TestStackLostOnce(t *testing.T) {
	st, _ := testStacks(t)
	s := &space{id: 1}
	for range 3 {
		if row := st.row(7, s); row != 0 {
			t.Fatalf("row %d of a stack that is not known", row)
		}
	}
	if st.Unknown != 3 {
		t.Errorf("%d events without a stack, want 3", st.Unknown)
	}
	st.add(7, []uint64{0x1000, 0x2000})
	if st.row(7, s) == 0 || st.Unknown != 3 {
		t.Error("the stack stays unknown after its frames came")
	}
}

// TestStackGenerations: a recording that sees ever new stacks holds a bounded
// number of them, and never one that the kernel believes to be known is missing.
func TestStackGenerations(t *testing.T) {
	const generation = 1 << 10
	st, sent := testStacks(t)
	st.limit = generation
	next := uint64(0)
	see := func(hash uint64) {
		if !sent[hash] { // as send_stack in bpf/heap.h
			st.add(hash, []uint64{0x1000})
			sent[hash] = true
		}
		next++
		if st.row(hash, &space{id: uint32(next)}) == 0 { // each a new process
			t.Fatalf("stack %d is not known", hash)
		}
	}
	for next < 20*generation {
		for range generation / 4 {
			see(next + 1)
		}
		see(1)
		st.age()
	}
	if n := len(st.young) + len(st.old); n > 3*generation {
		t.Errorf("%d stacks are held, of generations of %d", n, generation)
	}
	if len(sent) > 3*generation {
		t.Errorf("the kernel's list has %d stacks", len(sent))
	}
	if st.Unknown != 0 {
		t.Errorf("%d unknown stacks", st.Unknown)
	}
}
