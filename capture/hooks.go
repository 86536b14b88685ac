package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/bpf"
)

// Hooks names the places in the kernel where a recording attaches, as
// tp_btf:inet_sock_set_state or tracepoint:syscalls:sys_enter_mmap. The places
// in programs depend on the program.
func Hooks() ([]string, error) {
	spec, err := bpf.LoadRaw()
	if err != nil {
		return nil, fmt.Errorf("read BPF programs: %w", err)
	}
	var names []string
	for _, p := range spec.Programs {
		if kind, place, ok := strings.Cut(p.SectionName, "/"); ok {
			names = append(names, kind+":"+strings.ReplaceAll(place, "/", ":"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
