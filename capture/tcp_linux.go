package capture

import (
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/capture/tcp"
	"github.com/tcap-dev/tcap/format"
)

// tcpProbes is the tcp pack while it records.
type tcpProbes struct {
	r     *recorder
	links *tcp.Links
	stack *kernelStacks // nil unless they are recorded
	dec   tcp.Decoder
	rows  [64]taskRow // by tid: of tasks that are no targets
}

// A taskRow is a task as records describe it, and its row in the file.
type taskRow struct {
	task format.Task
	id   format.TaskID
}

func (r *recorder) attachTCP() error {
	fs, err := r.tracing()
	if err != nil {
		return err
	}
	links, notes, err := tcp.Attach(&r.objs, func(group, name string, prog *ebpf.Program) (io.Closer, error) {
		return attachTracepoint(fs, group, name, prog)
	})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, links.Close)
	r.tcp = &tcpProbes{r: r, links: links}
	if r.opts.KernelStacks {
		if err := r.tcp.attachStacks(); err != nil {
			return err
		}
	}
	for _, n := range notes {
		if err := r.note(true, n); err != nil {
			return err
		}
	}
	return nil
}

// attachStacks begins the recording of the kernel's stacks, which were asked for.
func (t *tcpProbes) attachStacks() error {
	if err := t.links.AttachStacks(); err != nil {
		return fmt.Errorf("kernel stacks: %w", err)
	}
	// Read after the programs were loaded, whose frames are to be known.
	symbols, err := symbol.Kernel()
	if err != nil {
		return fmt.Errorf("kernel stacks: %w", err)
	}
	t.stack = newKernelStacks(symbols)
	return nil
}

func (t *tcpProbes) decode(rec []byte) error { return t.dec.Decode(rec, tcpSink{t.r}) }

// snapshot tells of the sockets that are open.
func (t *tcpProbes) snapshot(when int) error {
	if err := t.links.Snapshot(when, t.decode); err != nil {
		return t.r.note(true, fmt.Sprintf("%v: connections without traffic are missing", err))
	}
	return nil
}

// tcpSink is the capture as package tcp sees it.
type tcpSink struct{ r *recorder }

func (s tcpSink) Append(e *format.Event) error       { return s.r.w.Append(e) }
func (s tcpSink) String(text string) format.StringID { return s.r.w.String(text) }

func (s tcpSink) KernelStack(addrs []uint64) format.StackID { return s.r.tcp.stack.row(s.r.w, addrs) }

// TaskOf is the row of a target as it is followed, and of any other task as the
// record describes it.
func (s tcpSink) TaskOf(pid, tid uint32, comm string, uid uint32) format.TaskID {
	if s.r.alive[pid] {
		return s.r.procs.task(pid, tid)
	}
	// The same few tasks, mostly.
	t := format.Task{Pid: pid, Tid: tid, Uid: uid, Comm: comm}
	row := &s.r.tcp.rows[tid%uint32(len(s.r.tcp.rows))]
	if row.task != t {
		*row = taskRow{t, s.r.w.Task(t)}
	}
	return row.id
}

// tcpRecord decodes a record of the ring that is package tcp's.
func (r *recorder) tcpRecord(rec []byte) error {
	if r.tcp == nil {
		return fmt.Errorf("%w: of kind %d, which is not recorded", bpf.ErrRecord, rec[unsafe.Offsetof(bpf.RawHdr{}.Kind)])
	}
	return r.tcp.decode(rec)
}

// withTCP adds the rows of package tcp to the table of decoders.
func withTCP(rows [bpf.RawKindCount]decoder) [bpf.RawKindCount]decoder {
	for k := range rows {
		if kind, ok := tcp.Kind(bpf.RawKind(k)); ok {
			rows[k] = decoder{kind, (*recorder).tcpRecord}
		}
	}
	return rows
}
