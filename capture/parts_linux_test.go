package capture

import (
	"slices"
	"testing"

	"github.com/tcap-dev/tcap/bpf"
)

// TestParts: the parts name programs and maps that there are, each once, and a
// recording of everything leaves nothing out.
func TestParts(t *testing.T) {
	spec, err := bpf.LoadRaw()
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, p := range parts {
		for _, name := range p.programs {
			if spec.Programs[name] == nil {
				t.Errorf("there is no program %s", name)
			}
			named = append(named, name)
		}
		for _, name := range p.maps {
			if spec.Maps[name] == nil {
				t.Errorf("there is no map %s", name)
			}
			named = append(named, name)
		}
	}
	slices.Sort(named)
	if once := slices.Compact(slices.Clone(named)); len(once) != len(named) {
		t.Errorf("named twice: %q", named)
	}
	// What every recording has, and no other.
	always := []string{"code_there", "exit_brk", "exit_mmap", "exit_mprotect", "exit_mremap", "exit_munmap",
		"process_exec", "process_exit", "process_fork", "space_gone", "task_renamed"}
	for name := range spec.Programs {
		if slices.Contains(named, name) == slices.Contains(always, name) {
			t.Errorf("program %s: say in parts which recordings have it", name)
		}
	}
	r := &recorder{opts: Options{Packs: PackNames(), KernelStacks: true, Command: []string{"true"}}}
	whole := spec.Copy()
	r.leaveOut(spec)
	for name, p := range spec.Programs {
		declared := slices.Contains([]string{"call_enter", "call_return", "call_kernel", "call_kernel_return", "call_tracepoint"}, name)
		if left := len(p.Instructions) < len(whole.Programs[name].Instructions); left != declared {
			t.Errorf("program %s: left out is %t", name, left)
		}
	}
}
