package main

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// A watched file remembers what was read of it.
type watched struct {
	io.ReaderAt
	reads [][2]int64 // offset, end
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.reads = append(w.reads, [2]int64{off, off + int64(len(p))})
	return w.ReaderAt.ReadAt(p, off)
}

// What info tells of a complete capture it knows without reading an event, so
// that it takes as long for 10 GB as for 10 MB.
func TestSurveyReadsNoEvents(t *testing.T) {
	f, err := os.Open(writeCapture(t, 5000, 100))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{ReaderAt: f}
	r, err := format.NewReader(w, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if s := survey(r); s.Events != 10004 || s.CountedFrom != "end" {
		t.Errorf("%d events counted from %s", s.Events, s.CountedFrom)
	}
	n := 0
	for _, b := range r.Blocks() {
		if b.Type != format.BlockEvents {
			continue
		}
		n++
		for _, read := range w.reads {
			search := read[1] == st.Size() // for the end block
			if !search && read[0] < b.End() && read[1] > b.Offset {
				t.Fatalf("read %d to %d, in the block of events at %d", read[0], read[1], b.Offset)
			}
		}
	}
	if n != 101 {
		t.Errorf("%d blocks of events", n)
	}
}

func BenchmarkSurvey(b *testing.B) {
	for _, blocks := range []int{1000, 100_000} { // 100,000 blocks of the usual size are 15 GB
		b.Run(fmt.Sprintf("blocks=%d", blocks), func(b *testing.B) {
			path := writeCapture(b, blocks/2, 1)
			for b.Loop() {
				r, err := format.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if s := survey(r); s.CountedFrom != "end" {
					b.Fatal(s.CountedFrom)
				}
				r.Close()
			}
		})
	}
}
