package format

import (
	"bytes"
	"testing"
	"time"
)

// A stalledDisk takes nothing after its first writes until it is let go on.
type stalledDisk struct {
	bytes.Buffer
	writes int
	resume chan struct{}
}

func (d *stalledDisk) Write(p []byte) (int, error) {
	if d.writes++; d.writes > 2 { // header and schema
		<-d.resume
	}
	return d.Buffer.Write(p)
}

// TestStalledDisk: a recorder whose disk takes nothing for a moment can go on
// appending, and cutting, for many blocks.
func TestStalledDisk(t *testing.T) {
	disk := &stalledDisk{resume: make(chan struct{})}
	const max = 100
	w, err := NewWriter(disk, Header{}, WriterOptions{BlockEvents: max})
	if err != nil {
		t.Fatal(err)
	}
	e := Event{Kind: KindAlloc, Time: 1}
	const events = (builders-2)*max + max/2
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range events {
			if err := w.Append(&e); err != nil {
				t.Error(err)
			}
			if i > events-max/4 { // more often than there are builders
				if err := w.Cut(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("the writer waits for the disk")
	}
	close(disk.resume)
	<-done
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	got, _, err := salvage(disk.Bytes())
	if err != nil || len(got) != events {
		t.Errorf("%d of %d events: %v", len(got), events, err)
	}
}
