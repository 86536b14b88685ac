package analyze

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
)

var callsAnalyzer = Analyzer{
	Name:  "calls",
	Pack:  "calls",
	Short: "Calls of declared functions: how often, how long, by whom",
	Long: `The functions, marks and tracepoints that were recorded with -e uprobe:..., usdt:...,
tracepoint:... and so on, one by one: how often they were called, how long the calls took,
and what their arguments were.

--by makes a row for each value of an argument, or for each caller, pid, tid, comm or
outcome. The innermost caller is known when the probe was declared with {caller} or
{stack}. --rows lists the calls themselves; --tree and --caller draw their stacks, which
--format folded writes for a flame graph.

A call belongs to a window of time if it returned in it. A call that was left without a
return (longjmp, an exception), or that still ran when the recording ended, is counted, but
its time is not among the quantiles.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(callsOptions)
		fs.StringVar(&o.probe, "probe", "", "only probes whose name matches this `GLOB`")
		fs.StringVar(&o.by, "by", "", "a row for each value of `ARG`, or of caller, pid, tid, comm, outcome")
		fs.DurationVar(&o.slower, "slower", 0, "only calls that took this `TIME` or longer, as 10ms")
		fs.BoolVar(&o.rows, "rows", false, "a row for each call")
		fs.UintVar(&o.top, "top", 0, "at most `N` rows of each probe; 0 is all, in text 20")
		o.view = newTreeView(fs, callCosts)
		return o
	},
}

type callsOptions struct {
	probe, by string
	slower    time.Duration
	rows      bool
	top       uint
	view      *stackView
}

const (
	callsTextTop   = 20    // rows of a probe in text, unless --top says otherwise
	maxCallGroups  = 20000 // of a probe; there can be one per call
	maxArgValues   = 1000  // that are told apart of an argument
	maxArgText     = 80    // bytes of a value that tell it apart
	callsArgValues = 5     // of an argument that a result shows
)

// A callStat is what is known of some calls.
type callStat struct {
	latency         // of those that returned
	name     string // the value that they have in common
	calls    uint64 // all of them
	outcomes [8]uint64
	log2     [64]uint64 // calls that returned, by the bits of their ns
}

func (s *callStat) put(c *format.Call) {
	s.calls++
	s.outcomes[c.Outcome&7]++
	if c.Outcome == format.CallReturned {
		s.add(c.Duration())
		s.log2[bits.Len64(uint64(max(c.Duration(), 0)))&63]++
	}
}

// A probeStat is what is known of a probe's calls.
type probeStat struct {
	callStat
	id     format.ProbeID
	probe  format.Probe
	args   []argStat
	stacks map[format.StackID]*callCost
	groups map[string]*callStat
	other  callStat // values beyond maxCallGroups
	rows   []*callStat
}

// An argStat is what values an argument had.
type argStat struct {
	faults, cut uint64
	values      map[string]uint64
	more        bool // there were more values than are told apart
	least, most uint64
	seen        bool
}

// put counts a value. A text that is long is told apart by its beginning.
func (a *argStat) put(r *format.Reader, t format.ArgType, v *format.Arg) {
	if v.Fault {
		a.faults++
		return
	}
	if v.Cut() {
		a.cut++
	}
	if !t.IsText() && t != format.ArgSym {
		order := v.Num
		if t.Signed() {
			order ^= 1 << 63
		}
		if !a.seen || order < a.least {
			a.least = order
		}
		a.most, a.seen = max(a.most, order), true
	}
	if a.values == nil {
		a.values = map[string]uint64{}
	}
	key := argValue(r, t, v)
	if _, known := a.values[key]; !known && len(a.values) == maxArgValues {
		a.more = true
		return
	}
	a.values[key]++
}

// argValue is a value as people read it, and by which it is told apart.
func argValue(r *format.Reader, t format.ArgType, v *format.Arg) string {
	if t == format.ArgStr || t == format.ArgBuf {
		if len(v.Text) > maxArgText {
			return string(v.Text[:maxArgText]) + "…"
		}
		return string(v.Text)
	}
	return string(r.AppendArg(nil, t, v))
}

// callGroupings are what --by knows beside arguments.
var callGroupings = map[string]func(r *format.Reader, c *format.Call) string{
	"caller": func(r *format.Reader, c *format.Call) string {
		var frames [8]format.Frame
		f := r.Stack(c.Stack, frames[:0])
		if len(f) == 0 {
			return "?"
		}
		return frameName(r, &f[0])
	},
	"pid":     func(r *format.Reader, c *format.Call) string { return strconv.Itoa(int(r.Task(c.Task).Pid)) },
	"tid":     func(r *format.Reader, c *format.Call) string { return strconv.Itoa(int(r.Task(c.Task).Tid)) },
	"comm":    func(r *format.Reader, c *format.Call) string { return r.Task(c.Task).Comm },
	"outcome": func(_ *format.Reader, c *format.Call) string { return outcomeName(c.Outcome) },
}

func frameName(r *format.Reader, f *format.Frame) string {
	if f.Function != "" {
		return f.Function
	}
	at := "0x" + strconv.FormatUint(f.Offset, 16)
	if m := r.Module(f.Module).Path; m != "" {
		return path.Base(m) + "+" + at
	}
	return at
}

func outcomeName(o int) string {
	names := format.Kinds[format.KindCall].Fields[format.CallOutcome].Enum
	if o >= 0 && o < len(names) {
		return names[o]
	}
	return strconv.Itoa(o)
}

// Run makes one pass.
func (o *callsOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &callsResult{opt: *o, r: r, stats: map[format.ProbeID]*probeStat{}}
	if err := o.check(r); err != nil {
		return nil, err
	}
	n := 0
	for c, err := range r.Calls(f) {
		if isCorrupt(err) {
			continue // told by Describe
		}
		if c == nil {
			res.bad++
			continue
		}
		if o.wants(c) {
			res.put(c)
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	var err error
	if res.capture, res.complete, err = Describe(r, "calls"); err != nil {
		return nil, err
	}
	res.finish()
	return res, nil
}

// check refuses a --by that no recorded probe has.
func (o *callsOptions) check(r *format.Reader) error {
	if _, err := path.Match(o.probe, ""); err != nil {
		return fmt.Errorf("--probe %s: %w", o.probe, err)
	}
	if err := o.checkProbe(r); err != nil {
		return err
	}
	if o.by == "" || callGroupings[o.by] != nil {
		return nil
	}
	names := map[string]bool{}
	for _, p := range r.Probes() {
		if p.ArgIndex(o.by) >= 0 {
			return nil
		}
		for _, a := range p.Args {
			names[a.Name] = true
		}
	}
	return fmt.Errorf("--by %s: no recorded probe has such an argument; there are %s", o.by,
		strings.Join(append(sortedKeys(callGroupings), sortedKeys(names)...), ", "))
}

// checkProbe refuses a --probe that no recorded probe is meant by.
func (o *callsOptions) checkProbe(r *format.Reader) error {
	var names []string
	for _, p := range r.Probes() {
		if o.means(&p) {
			return nil
		}
		names = append(names, export.Escape(p.Name))
	}
	if len(names) == 0 {
		return nil // the answer says that there are none
	}
	return fmt.Errorf("--probe %s: no recorded probe has such a name; there are %s", o.probe, strings.Join(names, ", "))
}

// means reports whether --probe selects a probe.
func (o *callsOptions) means(p *format.Probe) bool {
	if o.probe == "" {
		return true
	}
	// Paths in names are no directories here.
	hide := strings.NewReplacer("/", "\x01")
	ok, _ := path.Match(hide.Replace(o.probe), hide.Replace(p.Name))
	return ok
}

func (o *callsOptions) wants(c *format.Call) bool {
	return c.Duration() >= int64(o.slower) && o.means(c.Probe)
}

// callsResult implements Result.
type callsResult struct {
	opt      callsOptions
	r        *format.Reader
	capture  Capture
	complete Completeness
	stats    map[format.ProbeID]*probeStat
	list     []*probeStat
	rows     []callRow
	bad      uint64 // calls that could not be decoded
}

func (r *callsResult) put(c *format.Call) {
	s := r.stats[c.ID]
	if s == nil {
		s = &probeStat{id: c.ID, probe: *c.Probe, args: make([]argStat, len(c.Args)), groups: map[string]*callStat{},
			stacks: map[format.StackID]*callCost{}}
		s.name, s.other.name = c.Probe.Name, "(other)"
		r.stats[c.ID] = s
	}
	s.callStat.put(c)
	s.putStack(c)
	for i := range c.Args {
		s.args[i].put(r.r, c.Probe.Args[i].Type, &c.Args[i])
	}
	if r.opt.by != "" {
		s.group(r.by(c)).put(c)
	}
	if r.opt.rows && (r.opt.top == 0 || uint(len(r.rows)) < r.opt.top) {
		r.rows = append(r.rows, r.row(c))
	}
}

// by is the value of a call that --by asks for.
func (r *callsResult) by(c *format.Call) string {
	if f := callGroupings[r.opt.by]; f != nil {
		return f(r.r, c)
	}
	i := c.Probe.ArgIndex(r.opt.by)
	if i < 0 {
		return "(no " + r.opt.by + ")"
	}
	if c.Args[i].Fault {
		return "?"
	}
	return argValue(r.r, c.Probe.Args[i].Type, &c.Args[i])
}

func (s *probeStat) group(value string) *callStat {
	g := s.groups[value]
	switch {
	case g != nil:
	case len(s.groups) == maxCallGroups:
		g = &s.other
	default:
		g = &callStat{name: value}
		s.groups[value] = g
	}
	return g
}

// finish sorts: probes by their number, their rows by the time that they took in
// all, then by calls.
func (r *callsResult) finish() {
	for _, s := range r.stats {
		for _, g := range s.groups {
			s.rows = append(s.rows, g)
		}
		if s.other.calls > 0 {
			s.rows = append(s.rows, &s.other)
		}
		slices.SortFunc(s.rows, func(a, b *callStat) int {
			return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(b.calls, a.calls), cmp.Compare(a.name, b.name))
		})
		r.list = append(r.list, s)
	}
	slices.SortFunc(r.list, func(a, b *probeStat) int { return cmp.Compare(a.id, b.id) })
}

// Completeness implements Result.
func (r *callsResult) Completeness() Completeness { return r.complete }
