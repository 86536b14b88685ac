package capture

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// A skippedProgram was skipped so many times; -1: that is not known.
type skippedProgram int

func (n skippedProgram) Stats() (*ebpf.ProgramStats, error) {
	if n < 0 {
		return nil, errors.New("not counted")
	}
	return &ebpf.ProgramStats{RecursionMisses: uint64(n)}, nil
}

func TestSkipped(t *testing.T) {
	got := skipped([]tracepointed{
		{format.KindTCPConnect, skippedProgram(2)}, {format.KindTCPConnect, skippedProgram(3)},
		{format.KindMap, skippedProgram(1)}, {format.KindUnmap, skippedProgram(0)}, {format.KindBrk, skippedProgram(-1)},
	})
	if !strings.HasSuffix(got, ": 1 mem.map, 5 tcp.connect") {
		t.Error(got)
	}
	if got := skipped([]tracepointed{{format.KindMap, skippedProgram(0)}}); got != "" {
		t.Error(got)
	}
}

// TestSkippedPrograms: every program of a tracepoint is asked, but for the two
// that stand in for each other.
func TestSkippedPrograms(t *testing.T) {
	kerneltest.Require(t)
	r := &recorder{opts: Options{RingSize: 1 << 16}}
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	defer r.objs.Close()
	defer r.ring.Close()
	hooks, err := Hooks()
	if err != nil {
		t.Fatal(err)
	}
	// Not asked: one of inet_sock_set_state, exit_mmap, of which nothing is told,
	// and the entries of close and shutdown, whose absence costs a state its
	// since_call and no event. Asked beside those: four that take stacks.
	want := -4 + 4
	for _, h := range hooks {
		if strings.HasPrefix(h, "tp_btf:") || strings.HasPrefix(h, "tracepoint:") {
			want++
		}
	}
	programs := r.tracepoints()
	if len(programs) != want {
		t.Errorf("%d programs are asked, of %d on tracepoints", len(programs), want)
	}
	for _, p := range programs {
		if _, err := p.prog.Stats(); err != nil {
			t.Errorf("%v: %v", p.prog, err)
		}
	}
}
