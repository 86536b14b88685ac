package tcp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/bpf"
)

// A TracepointAttacher attaches a program to a trace event of tracefs.
type TracepointAttacher func(group, name string, prog *ebpf.Program) (io.Closer, error)

// Links are the attached programs.
type Links struct {
	objs  *bpf.RawObjects
	links []io.Closer
}

// A Hook is a place in the kernel at which this package runs a program.
type Hook struct {
	Group string // of a trace event; "" is a raw tracepoint with BTF
	Name  string
}

// Hooks are all of them, as often as programs run there.
var Hooks = []Hook{
	{"", "tcp_destroy_sock"}, {"", "inet_sock_set_state"}, {"", "inet_sock_set_state"},
	{"", "tcp_send_reset"}, {"", "tcp_receive_reset"}, {"", "tcp_retransmit_skb"},
	{"syscalls", "sys_enter_connect"}, {"syscalls", "sys_exit_connect"},
	{"syscalls", "sys_exit_accept"}, {"syscalls", "sys_exit_accept4"},
	{"syscalls", "sys_enter_close"}, {"syscalls", "sys_enter_shutdown"},
}

// Attach attaches everything that tells of TCP. Without the changes of state
// and the end of sockets there is no recording, which is an error; what else is
// missing is a note for the user, one sentence each.
//
// The first Snapshot belongs right after it: a connection of between is then
// seen by both.
func Attach(objs *bpf.RawObjects, tracepoint TracepointAttacher) (*Links, []string, error) {
	l := &Links{objs: objs}
	// What is known has to be forgotten at its end, so that comes first. Where
	// targets listen is known before the first change is seen, or the children
	// of their listeners would go unnoticed until the first Snapshot.
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"attach to tcp_destroy_sock", func() error { return l.tracing(objs.TcpDestroyed) }},
		{"look for listeners", l.findListeners},
		{"attach to inet_sock_set_state", func() error { return l.tracing(objs.TcpChanged) }},
		{"attach to inet_sock_set_state again", func() error { return l.tracing(objs.TcpChangedAgain) }},
	} {
		if err := step.do(); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", step.name, err), l.Close())
		}
	}
	return l, l.attachOptional(tracepoint), nil
}

// AttachStacks attaches what tells of the kernel's stacks. It comes after [Attach],
// so that what these programs are told of is known already.
func (l *Links) AttachStacks() error {
	for _, p := range []struct {
		name string
		prog *ebpf.Program
	}{
		{"inet_sock_set_state", l.objs.TcpStateStack}, {"tcp_retransmit_skb", l.objs.TcpRetransmitStack},
		{"tcp_send_reset", l.objs.TcpResetSentStack}, {"tcp_receive_reset", l.objs.TcpResetReceivedStack},
	} {
		if err := l.tracing(p.prog); err != nil {
			return fmt.Errorf("attach to %s: %w", p.name, err)
		}
	}
	return nil
}

// attachOptional attaches what a recording can do without, and says what that
// is if it cannot.
func (l *Links) attachOptional(tracepoint TracepointAttacher) []string {
	objs := l.objs
	var notes []string
	for _, p := range []struct {
		name, lack string
		prog       *ebpf.Program
	}{
		{"tcp_send_reset", "resets that this machine sends are not recorded", objs.TcpResetSent},
		{"tcp_receive_reset", "resets that arrive are not recorded", objs.TcpResetReceived},
		{"tcp_retransmit_skb", "single retransmissions are not recorded, only their number", objs.TcpRetransmitted},
	} {
		if err := l.tracing(p.prog); err != nil {
			notes = append(notes, fmt.Sprintf("%s (attach to %s: %v)", p.lack, p.name, err))
		}
	}
	for _, p := range []struct {
		name, lack string
		prog       *ebpf.Program
	}{
		{"sys_enter_connect", "connect calls are not recorded", objs.EnterConnect},
		{"sys_exit_connect", "connect calls are not recorded", objs.ExitConnect},
		{"sys_exit_accept", "who calls accept is not recorded", objs.ExitAccept},
		{"sys_exit_accept4", "who calls accept4 is not recorded", objs.ExitAccept4},
		{"sys_enter_close", "how long a close takes to reach the kernel's connection is not recorded", objs.EnterClose},
		{"sys_enter_shutdown", "how long a shutdown takes to reach the kernel's connection is not recorded", objs.EnterShutdown},
	} {
		c, err := tracepoint("syscalls", p.name, p.prog)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s (attach to syscalls:%s: %v)", p.lack, p.name, err))
			continue
		}
		l.links = append(l.links, c)
	}
	return notes
}

func (l *Links) tracing(prog *ebpf.Program) error {
	t, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return err
	}
	l.links = append(l.links, t)
	return nil
}

// Close detaches the programs, those last that others rely on: what comes meanwhile may
// lack its stack, and no stack what it is of.
func (l *Links) Close() error {
	var errs []error
	for _, c := range slices.Backward(l.links) {
		errs = append(errs, c.Close())
	}
	l.links = nil
	return errors.Join(errs...)
}

// Snapshot walks the file tables of all tasks, and decodes a record for each
// socket of a recorded connection; when is format.SnapshotStart or SnapshotEnd.
// The first one also makes the connections of targets, or all, known.
//
// It may write to the ring, so that has to be read on afterwards; and it calls
// decode in its own goroutine.
func (l *Links) Snapshot(when int, decode func(rec []byte) error) error {
	if err := l.walk(uint32(when), decode); err != nil {
		return fmt.Errorf("list the open sockets: %w", err)
	}
	return nil
}

// listenersOnly is the third thing that file tables are walked for, beside
// format.SnapshotStart and SnapshotEnd: as bpf/tcp_iter.h has it.
const listenersOnly = 2

func (l *Links) findListeners() error {
	return l.walk(listenersOnly, func([]byte) error { return nil })
}

func (l *Links) walk(what uint32, decode func(rec []byte) error) error {
	if err := l.objs.Walk.Set(what); err != nil {
		return err
	}
	it, err := link.AttachIter(link.IterOptions{Program: l.objs.TcpSockets})
	if err != nil {
		return err
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return split(r, decode)
}

// split cuts the iterator's output into records.
func split(from io.Reader, decode func(rec []byte) error) error {
	r := bufio.NewReaderSize(iterator{from}, 1<<16)
	var buf [max(unsafe.Sizeof(bpf.RawTcpEndpoints{}), unsafe.Sizeof(bpf.RawTcpSnapshot{}))]byte
	for {
		head, err := r.Peek(int(unsafe.Sizeof(bpf.RawHdr{})))
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		h, err := view[bpf.RawHdr](head)
		if err != nil {
			return err
		}
		var rec []byte
		switch bpf.RawKind(h.Kind) {
		case bpf.RawKindTcpEndpoints:
			rec = buf[:unsafe.Sizeof(bpf.RawTcpEndpoints{})]
		case bpf.RawKindTcpSnapshot:
			rec = buf[:unsafe.Sizeof(bpf.RawTcpSnapshot{})]
		default:
			return fmt.Errorf("record of unexpected kind %d", h.Kind)
		}
		if _, err := io.ReadFull(r, rec); err != nil {
			return err
		}
		if err := decode(rec); err != nil {
			return err
		}
	}
}

// iterator reads a BPF iterator's file. The kernel answers EAGAIN when it went
// through a million objects without finding anything to tell (bpf_seq_read).
type iterator struct{ io.Reader }

func (it iterator) Read(p []byte) (int, error) {
	for {
		n, err := it.Reader.Read(p)
		if n > 0 || !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
}
