package analyze

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

var leaksAnalyzer = Analyzer{
	Name:  "leaks",
	Pack:  "heap",
	Short: "Heap blocks that were never freed, by the stack that made them",
	Long: `Leaks lists the heap blocks that were allocated while recording and not freed
by its end (or by --to), grouped by the stack that allocated them. Blocks that
a process still had when it exited are leaks; those that went with an exec are
counted apart, and so are frees of blocks from before the recording.

--older, --younger, --min-size and --max-size select by age and size, --from
and --to by the time of allocation, --pid, --tid and --comm by who allocated.
A block's age runs from the return of its allocation to the end of the
recording, to --to or to the exit of its process.`,
	New: newLeaksRunner,
}

// leakCosts are over the values of the samples.
var leakCosts = []cost{
	inBytes("leaked", "Leaked", 2),
	inBytes("allocated", "Allocated", 0),
	inBlocks("allocs", "Allocations", 0),
}

// leakOptions are the flags of the leaks analysis.
type leakOptions struct {
	older, younger   time.Duration // 0: any age
	minSize, maxSize sizeFlag      // both ends belong to it
	stackRegex       regexpFlag
	view             *stackView
	sortBy           choice
	top              int
	suppressions     []string
	builtin          bool
	mmap             bool
}

func newLeaksRunner(fs *pflag.FlagSet) Runner {
	o := &leakOptions{
		maxSize: math.MaxUint64,
		sortBy:  choice{is: "bytes", of: []string{"bytes", "blocks", "age", "first"}},
	}
	fs.DurationVar(&o.older, "older", 0, "only blocks at least as old as `AGE` (500ms, 10s)")
	fs.DurationVar(&o.younger, "younger", 0, "only blocks younger than `AGE`")
	fs.Var(&o.minSize, "min-size", "only blocks of at least `SIZE` (4096, 4KiB)")
	fs.Var(&o.maxSize, "max-size", "only blocks of at most `SIZE`")
	fs.Var(&o.stackRegex, "stack-regex", "only stacks with a frame whose function, file or module matches `RE`")
	o.view = newStackView(fs, leakCosts, "stack", "size", "thread", "age").withTrees(fs)
	fs.Var(&o.sortBy, "sort", "`ORDER` of the rows: bytes, blocks, age or first")
	fs.IntVar(&o.top, "top", -1, "at most `N` rows, 0 for all; unless given, 20 in text")
	fs.StringArrayVar(&o.suppressions, "suppressions", nil, "leave out what a LeakSanitizer suppression `FILE` names")
	fs.BoolVar(&o.builtin, "builtin-suppressions", true, "leave out what the C runtime itself keeps; counted in the report")
	fs.BoolVar(&o.mmap, "mmap", false, "also list memory that the program mapped itself and did not unmap")
	for _, name := range []string{"top", "max-size"} {
		fs.Lookup(name).DefValue = "0" // the help text shows no default then
	}
	return o
}

// Run implements Runner.
func (o *leakOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	c, err := o.collector(r)
	if err != nil {
		return nil, err
	}
	res := &Leaks{opt: *o}
	if res.Capture, res.completeness, err = Describe(r, "heap"); err != nil {
		return nil, err
	}
	p := newPass(r, f, c)
	c.want, c.windows = p.want, newFreeLoss(res.Capture, res.completeness, r.Damage())
	var regions *regionTracker
	if o.mmap {
		regions = newRegionTracker(c)
		p.ex.mem, p.onMem, p.m.onEnd = true, regions.event, regions.ended
	}
	p.onLoss = func(d []format.Damage) { c.windows = newFreeLoss(res.Capture, res.completeness, d) }
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	unknown, err := p.sortUnknown(ctx)
	if err != nil {
		return nil, err
	}
	res.completeness.addDamage(r)
	if regions != nil {
		res.Mmap = regions.finish(p.end, res.Capture)
	}
	res.fill(p, c, unknown)
	return res, nil
}

// collector makes the collector that the flags ask for.
func (o *leakOptions) collector(r *format.Reader) (*leakCollector, error) {
	by := o.view.groupBy.is
	if o.view.byCode() != "" {
		by = "stack" // its rows are merged when all are there
	}
	c := &leakCollector{
		opt: o, key: groupings[by], stacks: newStackTable(r),
		rows: map[groupKey]*leakRow{}, verdicts: map[uint32]verdict{},
	}
	for _, name := range o.suppressions {
		list, err := readSuppressions(name)
		if err != nil {
			return nil, err
		}
		c.rules = append(c.rules, list...)
	}
	if o.builtin {
		c.rules = append(c.rules, builtinSuppressions...)
	}
	c.matched = make([]count, len(c.rules))
	return c, nil
}

func readSuppressions(name string) ([]Suppression, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open suppressions: %w", err)
	}
	defer f.Close()
	list, err := ParseSuppressions(f)
	if err != nil {
		return nil, fmt.Errorf("suppressions %s: %w", name, err)
	}
	return list, nil
}

// A freeLoss is a stretch of time in which the death of a block may have been
// lost, on the clock of the events.
type freeLoss struct{ from, to int64 }

type freeLosses struct {
	windows []freeLoss
	at, to  int64 // the last answer of horizon
	cached  bool
}

func newFreeLoss(c Capture, q Completeness, damage []format.Damage) freeLosses {
	var f freeLosses
	for _, w := range q.LossWindows {
		if losesFrees(w.Kind) {
			f.windows = append(f.windows, freeLoss{w.FromNs + c.StartMonoNs, w.ToNs + c.StartMonoNs})
		}
	}
	for _, d := range damage {
		if d.Events == 0 || d.Block != format.BlockEvents && d.Block != format.BlockInvalid {
			continue
		}
		w := freeLoss{d.From, d.To}
		if d.To == 0 {
			w.to = maxTime
		}
		f.windows = append(f.windows, w)
	}
	return f
}

func losesFrees(kind string) bool {
	return kind == kindName(format.KindFree) || kind == kindName(format.KindRealloc) || kind == unknownKind
}

func losesBirths(kind string) bool {
	return kind == kindName(format.KindAlloc) || kind == kindName(format.KindRealloc) || kind == unknownKind
}

func kindName(k format.Kind) string { return format.Kinds[k].Name }

// horizon returns the time up to which births are uncertain for blocks that
// were followed until a time: the death of any block born by then may have
// been lost.
func (f *freeLosses) horizon(end int64) int64 {
	if !f.cached || f.at != end {
		f.at, f.to, f.cached = end, minTime, true
		for _, w := range f.windows {
			if w.from <= end {
				f.to = max(f.to, w.to)
			}
		}
	}
	return f.to
}

// anyFrameMatches is --stack-regex.
func anyFrameMatches(re *regexp.Regexp, frames []export.Frame) bool {
	for i := range frames {
		f := &frames[i]
		if re.MatchString(f.Name()) || f.File != "" && re.MatchString(f.File) || f.Module != "" && re.MatchString(f.Module) {
			return true
		}
	}
	return false
}
