package capture

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/tcap-dev/tcap/capture/declare"
)

// A part is programs, with maps that no other has a use for, that only some
// recordings attach.
type part struct {
	programs, maps []string
	wanted         func(*recorder) bool
}

// parts are all programs but those of processes and their mappings. The verifier
// walks the largest of them for a second where it is slow, and tables of a million
// rows are cleared when they are made: who records nothing but uprobes does not
// wait for that. Loops of declared probes take 5.17, besides.
var parts = []part{
	{
		[]string{"heap_enter", "heap_free", "heap_return"}, nil,
		func(r *recorder) bool { return r.wants("heap") },
	},
	{
		[]string{
			"tcp_changed", "tcp_changed_again", "tcp_destroyed", "tcp_reset_received", "tcp_reset_sent", "tcp_retransmitted", "tcp_sockets",
			"enter_connect", "exit_connect", "exit_accept", "exit_accept4", "enter_close", "enter_shutdown",
		},
		[]string{"connections", "connects", "accepted"},
		func(r *recorder) bool { return r.wants("tcp") },
	},
	{
		[]string{"tcp_state_stack", "tcp_reset_sent_stack", "tcp_reset_received_stack", "tcp_retransmit_stack"}, nil,
		func(r *recorder) bool { return r.wants("tcp") && r.opts.KernelStacks },
	},
	{
		[]string{"call_enter", "call_return"}, nil,
		func(r *recorder) bool { return r.declares(declare.Uprobe, declare.Uretprobe, declare.USDT) },
	},
	{
		[]string{"call_kernel", "call_kernel_return"}, nil,
		func(r *recorder) bool { return r.declares(declare.Kprobe, declare.Kretprobe) },
	},
	{
		[]string{"call_tracepoint"}, nil,
		func(r *recorder) bool { return r.declares(declare.Tracepoint) },
	},
	{
		nil, []string{"stacks"}, // of whole stacks by frame pointers, and of callers alone
		func(r *recorder) bool { return r.opts.Stacks == StacksFP || r.tellsCode() },
	},
	{
		nil, []string{"signatures"},
		func(r *recorder) bool { return r.opts.Stacks == StacksDwarf && (r.wants("heap") || r.tellsCode()) },
	},
}

// wants reports whether a built-in pack is recorded.
func (r *recorder) wants(pack string) bool {
	return slices.Contains(r.opts.packs(), pack)
}

// declares reports whether a probe of these kinds is declared.
func (r *recorder) declares(kinds ...declare.Kind) bool {
	return slices.ContainsFunc(r.opts.Probes, func(p Probe) bool { return slices.Contains(kinds, p.Decl.Kind) })
}

// leaveOut makes nothing of the parts that this recording does without.
func (r *recorder) leaveOut(spec *ebpf.CollectionSpec) {
	for _, p := range parts {
		if p.wanted(r) {
			continue
		}
		for _, name := range p.programs {
			spec.Programs[name].Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol(name), asm.Return()}
		}
		for _, name := range p.maps {
			spec.Maps[name].MaxEntries = 1
		}
	}
}
