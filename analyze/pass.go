package analyze

import (
	"context"
	"errors"
	"fmt"

	"github.com/tcap-dev/tcap/format"
)

// A pass reads a capture once: blocks are decoded and thinned out on all
// cores, what is left goes through the matcher in file order.
type pass struct {
	r      *format.Reader
	want   selection
	ex     *extractor
	m      *matcher
	tasks  taskSpaces
	tally  tally
	allocs count
	frees  uint64
	end    int64 // of the window, ns on the clock of the events

	onMem   func(e *format.Event, space uint32)
	onBlock func(floor int64)             // after each block: no later event is before floor
	onLoss  func(windows []format.Damage) // damage was found
}

func newPass(r *format.Reader, f format.Filter, sink blockSink) *pass {
	want := newSelection(r, f)
	p := &pass{r: r, want: want, ex: newExtractor(r, want)}
	p.m = newMatcher(sink, func(task uint32) uint32 { return r.Task(format.TaskID(task)).Pid })
	p.tasks = taskSpaces{r: r, m: p.m}
	p.end = min(captureEnd(r), want.to)
	return p
}

// captureEnd is when the recording ended: what the recorder said, or the last
// event of a file that was cut.
func captureEnd(r *format.Reader) int64 {
	end := r.Header().Start.Mono
	for _, b := range r.Blocks() {
		if b.Events > 0 {
			end = max(end, b.LastTime)
		}
	}
	if t, ok := r.Trailer(); ok {
		end = max(end, t.End.Mono)
	}
	return end
}

func (p *pass) run(ctx context.Context) error {
	floors := newFloors(p.r.Blocks())
	for res, err := range p.r.Batches(format.Filter{Kinds: p.ex.kinds()}, p.ex.work) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if isCorrupt(err) {
			if p.onLoss != nil {
				p.onLoss(p.r.Damage())
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read heap events: %w", err)
		}
		h := res.Value.(*heapOps)
		p.sequential(res.Batch, h)
		p.ex.put(h)
		floor := floors.after(res.Batch.Info.Offset)
		if floor > minTime+settleNs {
			p.m.settle(floor - settleNs)
		}
		if p.onBlock != nil {
			p.onBlock(floor)
		}
	}
	p.m.finish(p.end)
	p.allocs = p.tally.sum()
	return nil
}

// sequential applies what is left of a block of the file.
func (p *pass) sequential(b *format.Batch, h *heapOps) {
	p.frees = addSat(p.frees, h.frees)
	p.tally.merge(&h.tally)
	p.m.begin(h.start)
	var (
		near [ahead]nearOp
		o    op
	)
	births := h.births
	for refs := h.ops; len(refs) > 0; {
		next := refs[:min(len(refs), ahead)]
		refs = refs[len(next):]
		for i := range next {
			near[i].task = uint32(b.Task[next[i].event()])
			near[i].space = p.tasks.space(near[i].task)
		}
		p.m.warm(next, &near)
		for i := range next {
			r, n := &next[i], &near[i]
			var birth birthRef
			if r.born() {
				birth, births = births[0], births[1:]
			}
			if p.m.take(r, n, birth) {
				continue
			}
			if r.code() == opMem {
				var e format.Event
				b.Event(r.event(), &e)
				p.onMem(&e, n.space)
				continue
			}
			h.cols.op(&o, b, r, n.space)
			p.m.apply(&o)
		}
	}
}

// isCorrupt reports whether an iteration's error is about a damaged part of
// the file, after which it goes on.
func isCorrupt(err error) bool {
	var c *format.CorruptError
	return errors.As(err, &c)
}

// taskSpaces remembers the address space of each task.
type taskSpaces struct {
	r     *format.Reader
	m     *matcher
	last  uint64   // the task asked for last + 1, and its space
	is    uint32   //
	index []uint32 // task -> space+1, for the tasks below denseTasks
	rest  map[uint32]uint32
}

// denseTasks bounds the index by task number, to 4 MiB.
const denseTasks = 1 << 20

func (t *taskSpaces) space(task uint32) uint32 {
	if t.last != uint64(task)+1 {
		t.last, t.is = uint64(task)+1, t.find(task)
	}
	return t.is
}

func (t *taskSpaces) find(task uint32) uint32 {
	if task < uint32(len(t.index)) {
		if s := t.index[task]; s != 0 {
			return s - 1
		}
	} else if s, ok := t.rest[task]; ok {
		return s
	}
	row := t.r.Task(format.TaskID(task))
	s := t.m.spaceIndex(spaceKey(row.Space, row.Pid))
	if task >= denseTasks {
		if t.rest == nil {
			t.rest = map[uint32]uint32{}
		}
		t.rest[task] = s
		return s
	}
	for uint32(len(t.index)) <= task {
		t.index = append(t.index, make([]uint32, max(len(t.index), 64))...)
	}
	t.index[task] = s + 1
	return s
}

// floors knows, for each place in the file, the least time of all that follows.
type floors struct {
	offsets []int64 // of the blocks with events
	least   []int64 // least time of the events behind each
	next    int
}

func newFloors(blocks []format.BlockInfo) *floors {
	f := &floors{}
	for _, b := range blocks {
		if b.Type == format.BlockEvents {
			f.offsets = append(f.offsets, b.Offset)
			f.least = append(f.least, b.FirstTime)
		}
	}
	least := maxTime
	for i := len(f.least) - 1; i >= 0; i-- {
		least, f.least[i] = min(least, f.least[i]), least
	}
	return f
}

// after returns the least time of the events behind the block at an offset;
// offsets must ascend from call to call.
func (f *floors) after(offset int64) int64 {
	for f.next < len(f.offsets) && f.offsets[f.next] < offset {
		f.next++
	}
	if f.next == len(f.offsets) {
		return maxTime
	}
	return f.least[f.next]
}
