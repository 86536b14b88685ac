package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/tracefs"
	"github.com/tcap-dev/tcap/format"
	"golang.org/x/sys/unix"
)

const (
	// pollEvery is how often a ring of its usual size is emptied; nothing
	// wakes the reader, since a wake-up costs the target more than a record does,
	// and itself some 50 us. The ring holds five times as much.
	pollEvery = 100 * time.Millisecond
	// checkEvery is the resolution of loss windows and of the limits.
	checkEvery = 200 * time.Millisecond
	// flushEvery bounds what a kill of the recorder costs.
	flushEvery = 400 * time.Millisecond
)

// recorder is one recording. All its methods run in the goroutine of [Record].
type recorder struct {
	opts    Options
	file    *output
	w       *format.Writer
	objs    bpf.RawObjects
	ring    *ring
	poll    time.Duration     // how often the ring is emptied
	closers []func() error    // of what is attached
	rooms   map[string]uint32 // entries of maps, where a test wants another number

	procs   *processes
	modules *modules
	stacks  *stackTable
	snaps   *snapshots // nil unless stacks are unwound
	names   *symbolizer
	loss    *ledger
	tell    *teller
	fs      *tracefs.FS
	heap    *heapProbes // nil when the pack is not recorded
	tcp     *tcpProbes
	calls   *callProbes

	cmd        *command
	alive      map[uint32]bool // target processes; recording ends when the last is gone
	counted    uint64          // losses up to when alive was counted anew
	begun      int64           // monotonic ns
	ended      int64           // monotonic ns; 0 while recording
	ev         format.Event    // the event being built; one, since Append copies
	early      []remark        // made before there was a writer
	reason     string
	exitStatus int

	undecoded      uint64 // records
	firstUndecoded error
}

// Record makes a capture. It returns when one of the ends in [Options] is
// reached or ctx is done, with a complete file; the error is nil unless
// recording could not begin or its result is not to be had.
func Record(ctx context.Context, o Options) (*Summary, error) {
	r := &recorder{opts: o, alive: map[uint32]bool{}, tell: newTeller(o.Stderr, o.Progress)}
	defer r.tell.finish()
	if err := r.begin(); err != nil {
		r.abandon()
		return nil, err
	}
	defer outrun()()
	runErr := r.run(ctx)
	sum, err := r.finish()
	if r.failed() && r.cmd != nil {
		r.outlast(ctx, sum, runErr)
	}
	return sum, errors.Join(runErr, err)
}

// begin does everything up to the first event of the running targets.
func (r *recorder) begin() error {
	if err := r.opts.check(); err != nil {
		return err
	}
	if err := checkFiles(); err != nil {
		return err
	}
	if len(r.opts.Command) > 0 {
		cmd, err := launch(r.opts.Command)
		if err != nil {
			return err
		}
		r.cmd = cmd
	}
	file, err := create(r.opts.Output, r.opts.Force)
	if err != nil {
		return err
	}
	r.file = file
	if err := r.resolveCalls(); err != nil {
		return err
	}
	if err := r.load(); err != nil {
		return err
	}
	r.modules = newModules()
	start := anchor()
	pids, err := r.attach()
	if err != nil {
		return err
	}
	if r.cmd != nil {
		start = anchor() // it was held until now
	}
	if err := r.newWriter(start); err != nil {
		return err
	}
	if err := r.adopt(pids, start.Mono); err != nil {
		return err
	}
	r.begun = start.Mono
	if err := r.ready(); err != nil {
		return err
	}
	if r.cmd != nil {
		r.cmd.run(r.ring.wake)
	}
	return nil
}

// abandon undoes a beginning that went wrong. The file, which has nothing in it,
// goes too.
func (r *recorder) abandon() {
	r.detach()
	if r.cmd != nil {
		r.cmd.abandon()
	}
	r.snaps.finish()
	if r.names != nil {
		r.names.finish(r.w)
	}
	if r.modules != nil {
		r.modules.close()
	}
	if r.ring != nil {
		r.ring.Close()
	}
	r.objs.Close()
	if r.w != nil {
		r.w.Close(format.Trailer{})
	}
	if r.file != nil {
		r.file.discard()
	}
}

// run is the one loop: records in, events out.
func (r *recorder) run(ctx context.Context) error {
	ends := newEnds(ctx, r)
	defer ends.stop()
	lastCheck, lastFlush := time.Now(), time.Now()
	empty := false
	for {
		if empty {
			if err := r.ring.wait(ends.left(r.poll)); err != nil {
				return r.fail(err)
			}
		}
		var err error
		if empty, err = r.drain(lastCheck.Add(checkEvery)); err != nil {
			return r.fail(err)
		}
		now := time.Now()
		if now.Sub(lastCheck) >= checkEvery {
			if err := r.check(); err != nil {
				return r.fail(err)
			}
			lastCheck = time.Now() // after it: or one that takes long would come again at once
		}
		if now.Sub(lastFlush) >= flushEvery {
			lastFlush = now
			if err := r.w.Cut(); err != nil { // a slow disk is not waited for while the ring fills
				return r.fail(err)
			}
		}
		if r.reason = ends.reached(); r.reason != "" {
			return nil
		}
	}
}

// drain takes records until the ring is empty, which it reports, or until the
// time has come to do something else.
func (r *recorder) drain(until time.Time) (empty bool, err error) {
	for n := 1; ; n++ {
		rec, err := r.ring.next()
		if err != nil {
			return true, fmt.Errorf("read the ring: %w", err)
		}
		if rec == nil {
			return true, nil
		}
		if err := r.decode(rec); err != nil && !r.spoilt(rec, err) {
			return true, err
		}
		if n&0x3ff == 0 && (r.full() || time.Now().After(until)) {
			return false, nil
		}
	}
}

// full reports whether the file has reached its limit.
func (r *recorder) full() bool {
	return r.opts.MaxSize > 0 && r.ended == 0 && r.w.Size() >= r.opts.MaxSize
}

// spoilt reports whether err says that a record is none that the programs send.
// That is a fault of tcap's and costs the record, not the recording: it is
// counted as lost, and a remark says so.
func (r *recorder) spoilt(rec []byte, err error) bool {
	if !errors.Is(err, bpf.ErrRecord) {
		return false
	}
	if r.undecoded++; r.undecoded == 1 {
		r.firstUndecoded = err
	}
	var kind, cpu int
	if h, err := view[bpf.RawHdr](rec); err == nil {
		kind, cpu = int(h.Kind), int(h.Cpu)
	}
	r.loss.spoilt(kind, cpu)
	return true
}

// outlast stays with a command after its recording could not go on: who started
// it through tcap waits for tcap, and its terminal is lent to tcap's group.
func (r *recorder) outlast(ctx context.Context, sum *Summary, cause error) {
	r.tell.warn(fmt.Sprintf("recording has ended, the command goes on: %v", cause))
	e := &ends{r: r}
	for {
		select {
		case sum.ExitStatus = <-r.cmd.done:
			sum.Running = 0
			return
		case <-ctx.Done():
			return
		case in := <-r.opts.Interrupts:
			if e.interrupt(in) {
				return
			}
		}
	}
}

// check does what is done a few times a second.
func (r *recorder) check() error {
	if err := r.file.check(); err != nil {
		return err
	}
	if err := r.loss.check(monotonic(), r.w.Append); err != nil {
		return err
	}
	r.recount()
	r.names.collect(r.w)
	r.stacks.age()
	r.snaps.collect()
	r.snaps.age(r.ring.positions())
	if err := r.walkHitters(); err != nil {
		return err
	}
	if r.opts.Progress != nil {
		r.tell.show(*r.summary())
	}
	return nil
}

// recount takes the list of targets from the kernel's, which is right, when
// records of births and ends of processes may have been lost since it was done.
func (r *recorder) recount() {
	if r.loss.total == r.counted {
		return
	}
	alive := map[uint32]bool{}
	var pid uint32
	var one uint8
	it := r.objs.Targets.Iterate()
	for it.Next(&pid, &one) {
		alive[pid] = true
	}
	if it.Err() == nil { // else it changed all the while, and the next time will do
		r.alive, r.counted = alive, r.loss.total
	}
}

// fail ends the recording: what could be written stays a valid capture.
func (r *recorder) fail(err error) error {
	r.reason = EndWrite
	if errors.Is(err, errKernel) {
		r.reason = EndKernel
	}
	return r.explain(err)
}

// failed reports whether the recording could not go on.
func (r *recorder) failed() bool { return r.reason == EndWrite || r.reason == EndKernel }

// errKernel is that the kernel's side cannot be read any more.
var errKernel = errors.New("the kernel's part of the recording cannot be read")

// explain says what an error of the file means and what to do.
func (r *recorder) explain(err error) error {
	const valid = "the capture ends here and is valid up to this point"
	switch {
	case errors.Is(err, errRemoved):
		return fmt.Errorf("record to %s: %w: the recording ends, and nothing is left of it", r.opts.Output, err)
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %s; free space or record elsewhere", err, valid)
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %s; raise the limit of file sizes (ulimit -f)", err, valid)
	}
	return fmt.Errorf("record to %s: %w: %s", r.opts.Output, err, valid)
}

// finish detaches, takes what is left in the ring, and completes the file.
func (r *recorder) finish() (*Summary, error) {
	end := anchor()
	r.ended = end.Mono
	var err error
	if !r.failed() {
		err = r.leftovers()
	}
	r.detach()
	_ = r.w.Flush() // naming may take seconds, in which tcap may be killed; the error is Close's too
	err = errors.Join(err, r.snaps.finish(), r.snaps.remark(r.note))
	r.names.finish(r.w)
	err = errors.Join(err, r.w.Close(format.Trailer{
		End: end, Reason: r.reason, ExitStatus: r.exitStatus, Lost: r.loss.total, Truncated: r.failed(),
		StackEnds: r.snaps.ends(),
	}))
	sum := r.summary()
	written := r.w.Stats().Written
	sum.Events, sum.Unwritten = written, sum.Events-written
	r.ring.Close()
	r.modules.close()
	r.objs.Close()
	err = errors.Join(err, r.file.finish())
	sum.Bytes = r.file.at
	switch {
	case r.failed():
		return sum, nil // the error is told already
	case err != nil:
		return sum, r.explain(err)
	}
	return sum, nil
}

// leftovers are the connections that stay open, what is in the ring, and what
// is to be said about the recording.
func (r *recorder) leftovers() error {
	if r.tcp != nil {
		if err := r.tcp.snapshot(format.SnapshotEnd); err != nil {
			return err
		}
	}
	r.detach()
	for until := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := r.drain(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		// No program begins a record any more. One may be finishing its last, on a
		// CPU that has other things to do.
		if !r.ring.pending() || time.Now().After(until) {
			break
		}
	}
	if r.calls != nil {
		if err := r.calls.unfinished(); err != nil {
			return err
		}
	}
	if err := r.loss.check(monotonic(), r.w.Append); err != nil {
		return err
	}
	return r.remarks()
}

// remarks are what a reader of the capture should know beside the loss.
func (r *recorder) remarks() error {
	if r.calls != nil {
		if err := r.calls.remarks(); err != nil {
			return err
		}
	}
	if r.stacks.Unknown > 0 {
		if err := r.note(true, fmt.Sprintf("%d events have no stack: its frames were lost in the ring", r.stacks.Unknown)); err != nil {
			return err
		}
	}
	if n := r.undecoded; n > 0 {
		text := fmt.Sprintf("%d records of the kernel could not be decoded and are counted as lost, the first: %v; this is a fault of tcap, please report it", n, r.firstUndecoded)
		if err := r.note(true, text); err != nil {
			return err
		}
	}
	if n := r.modules.Unnamed; n > 0 {
		text := fmt.Sprintf("%d mappings are of files beyond half the limit of open files: their functions have no names; raise it (ulimit -n)", n)
		if err := r.note(true, text); err != nil {
			return err
		}
	}
	if text := skipped(r.tracepoints()); text != "" {
		return r.note(true, text)
	}
	return nil
}

// A remark is a note that is to go into the capture.
type remark struct {
	warning bool
	text    string
}

// note puts a remark into the capture, once there is one, and, when it is a
// warning, before the user.
func (r *recorder) note(warning bool, text string) error {
	text = strings.ReplaceAll(text, "\n", "; ") // of joined errors
	if warning {
		r.tell.warn(text)
	}
	if r.w == nil {
		r.early = append(r.early, remark{warning, text})
		return nil
	}
	e := format.Event{Kind: format.KindNote, Time: monotonic()}
	if r.ended != 0 { // naming what was recorded takes its time, in which nothing was
		e.Time = r.ended
	}
	e.V[format.NoteLevel] = flag(warning)
	e.V[format.NoteText] = uint64(r.w.String(text))
	return r.w.Append(&e)
}

// detach ends all hooks. Taking one out, the kernel waits until no CPU can be in
// it any more, some 30 ms; all at once, they wait together.
func (r *recorder) detach() {
	var wg sync.WaitGroup
	for _, c := range r.closers {
		wg.Go(func() { c() })
	}
	wg.Wait()
	r.closers = nil
	if r.fs != nil {
		r.fs.Close()
		r.fs = nil
	}
}

func (r *recorder) summary() *Summary {
	st := r.w.Stats()
	end := r.ended
	if end == 0 {
		end = monotonic()
	}
	s := &Summary{
		Path: r.opts.Output, Events: st.Events, Lost: r.loss.total, Bytes: r.w.Size(),
		Duration: time.Duration(end - r.begun), Reason: r.reason, ExitStatus: r.exitStatus,
	}
	if r.cmd != nil && r.reason != EndCommand {
		s.Running = r.cmd.pid()
	}
	return s
}

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// anchor reads both clocks together.
func anchor() format.ClockAnchor {
	return format.ClockAnchor{Mono: monotonic(), Wall: time.Now().UnixNano()}
}
