package capture

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/format"
)

// A tracepointed is a program on a tracepoint. The kernel does not run it on a
// CPU where it was interrupted, or, if it hangs on a perf event, where a change
// of a map was. It counts how often that was (of those on perf events since
// Linux 6.7), but not whether the event would have been of a target: hence a
// warning and not a loss. Programs on uprobes always run.
type tracepointed struct {
	kind format.Kind // what is missing then
	prog interface {
		Stats() (*ebpf.ProgramStats, error)
	}
}

// tracepoints are the programs that may be skipped. Changes of TCP states have
// two, of which one runs while the other is interrupted.
func (r *recorder) tracepoints() []tracepointed {
	o := &r.objs
	return []tracepointed{
		{format.KindFork, o.ProcessFork}, {format.KindExec, o.ProcessExec},
		{format.KindExit, o.ProcessExit}, {format.KindComm, o.TaskRenamed},
		{format.KindMap, o.ExitMmap}, {format.KindUnmap, o.ExitMunmap},
		{format.KindRemap, o.ExitMremap}, {format.KindBrk, o.ExitBrk}, {format.KindMapping, o.ExitMprotect},
		{format.KindTCPConnect, o.EnterConnect}, {format.KindTCPConnect, o.ExitConnect},
		{format.KindTCPAccept, o.ExitAccept}, {format.KindTCPAccept, o.ExitAccept4},
		{format.KindTCPDestroy, o.TcpDestroyed}, {format.KindTCPRetransmit, o.TcpRetransmitted},
		{format.KindTCPReset, o.TcpResetSent}, {format.KindTCPReset, o.TcpResetReceived},
		{format.KindTCPStack, o.TcpStateStack}, {format.KindTCPStack, o.TcpRetransmitStack},
		{format.KindTCPStack, o.TcpResetSentStack}, {format.KindTCPStack, o.TcpResetReceivedStack},
	}
}

// skipped says what may be missing since the kernel did not run a program; ""
// when nothing is. Before Linux 5.12 it is not known.
func skipped(programs []tracepointed) string {
	var counts [256]uint64
	for _, p := range programs {
		if s, err := p.prog.Stats(); err == nil {
			counts[p.kind] += s.RecursionMisses
		}
	}
	var missing []string
	for k, n := range counts {
		if n > 0 {
			missing = append(missing, fmt.Sprintf("%d %s", n, format.Kinds[k].Name))
		}
	}
	if missing == nil {
		return ""
	}
	return "events of the machine that the kernel told no program of, some perhaps of the recorded processes: " + strings.Join(missing, ", ")
}
