package capture

import (
	"regexp"
	"testing"

	"github.com/tcap-dev/tcap/capture/call"
	"github.com/tcap-dev/tcap/capture/pack"
	"github.com/tcap-dev/tcap/format"
)

// TestTrial: a call that fails a check is recorded, its rubbish is not, and what comes
// after the trial is as it is. That a site whose calls fail is refused is shown by
// TestPackOfAnotherVersion in cmd/tcap.
func TestTrial(t *testing.T) {
	site := &callSite{program: &call.Program{Args: []format.Argument{{Name: "command"}, {Name: "count"}}}, spec: &Probe{}}
	probes := &callProbes{}
	try := &trial{checks: []pack.Check{{Arg: "command", Text: regexp.MustCompile(`^[a-z]+$`)}, {Arg: "count", Min: 1, Max: 10}}}
	faults := 0
	for i := range 2 * trialCalls {
		name, count := "get", uint64(3)
		if i%4 == 3 {
			name = "\x00\x7f"
		}
		if i%8 == 0 {
			count = 11
		}
		probes.args = []format.Arg{{Text: []byte(name)}, {Num: count}}
		ok, err := try.passes(probes, site)
		if err != nil || !ok {
			t.Fatalf("call %d is not recorded: %v", i, err)
		}
		if checked := i < trialCalls; probes.args[0].Fault != (checked && name != "get") || probes.args[1].Fault != (checked && count == 11) {
			t.Errorf("call %d: %+v", i, probes.args)
		}
		if probes.args[0].Fault || probes.args[1].Fault {
			faults++
		}
	}
	if want := trialCalls/4 + trialCalls/8; faults != want {
		t.Errorf("%d calls had what could not be read, want %d", faults, want)
	}
}
