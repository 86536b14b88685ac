package analyze

import (
	"context"
	"math/bits"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var heapAnalyzer = Analyzer{
	Name:  "heap",
	Pack:  "heap",
	Short: "What the heap was used for: peak, growth, temporary allocations",
	Long: `Heap shows when the live heap was largest and which stacks it then belonged
to, how it grew, which stacks allocate most, which allocations are temporary
(freed by the thread that made them, after at most one other allocation of that
thread), and how sizes are distributed.

Only blocks allocated in the recording, from --from on, count. --pid, --tid and
--comm select by who allocated.`,
	New: newHeapRunner,
}

type heapOptions struct {
	top  int
	view *stackView
}

func newHeapRunner(fs *pflag.FlagSet) Runner {
	o := &heapOptions{}
	fs.IntVar(&o.top, "top", -1, "at most `N` stacks, 0 for all; unless given, 5 of each kind in text")
	o.view = newStackView(fs, heapCosts, "stack").withTrees(fs)
	fs.Lookup("top").DefValue = "0" // the help text shows no default then
	return o
}

// heapCosts are over the values of the samples.
var heapCosts = []cost{
	inBytes("peak", "At the peak", 2),
	inBytes("live", "Live at the end", 4),
	inBytes("leaked", "Not freed by the end, or by the exit of its process", 8),
	inBytes("allocated", "Allocated", 0),
	inBlocks("allocs", "Allocations", 0),
	inBlocks("temporary", "Temporary allocations", 6),
}

// Run implements Runner.
func (o *heapOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &Heap{opt: *o}
	var err error
	if res.Capture, res.completeness, err = Describe(r, "heap"); err != nil {
		return nil, err
	}
	c := &heapCollector{threads: newThreads(r)}
	p := newPass(r, f, c)
	c.want = p.want
	c.line.buckets = newBuckets(max(p.want.from, r.Header().Start.Mono), p.end)
	p.ex.keep = true
	p.onBlock = func(floor int64) {
		if floor > minTime+settleNs {
			c.line.settle(min(floor, maxTime-1) - settleNs)
		}
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	c.line.finish(p.end)
	unknown, err := p.sortUnknown(ctx)
	if err != nil {
		return nil, err
	}
	res.completeness.addDamage(r)
	res.fill(p, c, unknown)
	return res, nil
}

// A heapCollector follows the live heap.
type heapCollector struct {
	want      selection
	threads   threads
	line      timeline
	temporary tally
	exited    tally // what a process still had when it exited
	temp      count
	freed     count
	ends      count     // with the memory of their process
	sizes     [65]count // by bit length: sizes in [2^(i-1), 2^i)
}

// born implements blockSink. The block's mark is its thread and its number
// among the thread's allocations.
func (c *heapCollector) born(b *block) {
	thread := c.threads.of(b.task)
	b.mark = uint64(thread)<<markShift | c.threads.births[thread]&markMask
	c.threads.births[thread]++
	if !c.selects(b) {
		return
	}
	c.sizes[bits.Len64(b.size)].add(b.size)
	c.line.add(delta{time: b.birth, size: b.size, stack: b.stack})
}

const (
	markShift = 40
	markMask  = 1<<markShift - 1
)

func (c *heapCollector) selects(b *block) bool {
	return b.birth >= c.want.from && c.want.task(format.TaskID(b.task))
}

// died implements blockSink.
func (c *heapCollector) died(b *block, at int64, by uint32) {
	if !c.selects(b) {
		return
	}
	c.freed.add(b.size)
	c.line.add(delta{time: at, size: b.size, stack: b.stack, death: true})
	thread := c.threads.of(by)
	between := (c.threads.births[thread] - 1 - b.mark) & markMask
	if by != 0 && uint64(thread) == b.mark>>markShift && between <= 1 {
		c.temporary.add(b.stack, b.size)
		c.temp.add(b.size)
	}
}

// ended implements blockSink: the memory of a process that ends is no longer
// live; that of one that does not stays.
func (c *heapCollector) ended(b *block, at int64, how endOfMem) {
	if how != endCapture && c.selects(b) {
		c.ends.add(b.size)
		if how == endExit {
			c.exited.add(b.stack, b.size)
		}
		c.line.add(delta{time: at, size: b.size, stack: b.stack, death: true})
	}
}

// threads numbers threads and counts their allocations.
type threads struct {
	r      *format.Reader
	ids    map[threadKey]uint32
	tasks  map[uint32]uint32
	last   uint32 // the task asked for last, and its thread
	lastIs uint32
	births []uint64
}

type threadKey struct {
	pid, tid uint32
	start    int64
}

func newThreads(r *format.Reader) threads {
	t := threads{r: r, ids: map[threadKey]uint32{{}: 0}, tasks: map[uint32]uint32{0: 0}}
	t.births = append(t.births, 0)
	return t
}

// of returns the number of a task's thread. It has one even where the tasks of
// a hostile file are more than the mark has room for: then they share.
func (t *threads) of(task uint32) uint32 {
	if task == t.last {
		return t.lastIs
	}
	id, ok := t.tasks[task]
	if !ok {
		row := t.r.Task(format.TaskID(task))
		k := threadKey{row.Pid, row.Tid, row.Start}
		if id, ok = t.ids[k]; !ok {
			id = uint32(len(t.births)) & (1<<(64-markShift) - 1)
			t.ids[k] = id
			if int(id) == len(t.births) {
				t.births = append(t.births, 0)
			}
		}
		t.tasks[task] = id
	}
	t.last, t.lastIs = task, id
	return id
}
