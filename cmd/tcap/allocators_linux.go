package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/tcap-dev/tcap/capture/probe"
)

// listAllocators lists the allocator functions that a process has mapped.
func listAllocators(w io.Writer, pid int) error {
	if pid <= 0 {
		return usagef("probes list: -p %d: a pid is positive", pid)
	}
	objects, err := probe.FindAllocators(pid)
	if len(objects) == 0 {
		return errors.Join(err, fmt.Errorf("process %d: it has no allocator whose symbols are known", pid))
	}
	for _, o := range objects {
		fmt.Fprintln(w, escape(o.Path))
		for _, f := range o.Functions {
			p := f.Entry.Placement
			if f.Recycles { // one instruction, which is a call
				fmt.Fprintf(w, "  %-28s at 0x%x, where the end of a thread frees again what was free\n", "call of "+escape(f.Name), f.Entry.Offset)
				continue
			}
			fmt.Fprintf(w, "  %-28s +%-4d %-11v %s\n", escape(f.Name), p.Delta, p.Class, p.Instruction)
		}
	}
	return err
}
