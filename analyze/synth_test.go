package analyze

import (
	"bytes"
	"testing"

	"github.com/tcap-dev/tcap/analyze/internal/synth"
	"github.com/tcap-dev/tcap/format"
)

// TestSynthTCP: the capture on which docs/performance.md measures is what it is said to be.
func TestSynthTCP(t *testing.T) {
	var file bytes.Buffer
	if err := synth.WriteTCP(&file, 100); err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := runTCP(t, r, format.Filter{}).summarize()
	if s.Connections != 200 || s.Open != 200 || s.Incomplete != 0 || s.Failed != 0 {
		t.Errorf("%d connections, %d open, %d incomplete, %d failed", s.Connections, s.Open, s.Incomplete, s.Failed)
	}
}
