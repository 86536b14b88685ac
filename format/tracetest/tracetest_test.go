package tracetest

import (
	"testing"

	"github.com/tcap-dev/tcap/format"
)

func TestScenario(t *testing.T) {
	for _, s := range Glob(t, "testdata/*.txtar") {
		var kinds []byte
		for e, err := range s.Reader.Events(format.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Time < Start.Mono {
				t.Errorf("event at %d, before the start", e.Time)
			}
			kinds = append(append(kinds, s.Reader.KindInfo(e.Kind).Name...), '\n')
		}
		s.Golden(t, "want/kinds.txt", kinds)
	}
}

func TestCaptureOfText(t *testing.T) {
	r := Capture(t, "1.0 7/8 x heap.free addr=0x10 fn=free\n")
	for e, err := range r.Events(format.Filter{}) {
		if err != nil || r.Task(e.Task).Pid != 7 || e.V[format.FreeAddr] != 16 {
			t.Fatalf("got %+v, %v", e, err)
		}
	}
}
