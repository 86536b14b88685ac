package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var commandsAnalyzer = Analyzer{
	Name:  "commands",
	Short: "Commands of redis and valkey: calls, inclusive and own time, p50, p99, p99.9, slowest, by client",
	Long: `The commands that a server executed (-e redis), as INFO commandstats counts them, with
what it cannot tell: the quantiles, the time without that of commands inside (EVAL,
EXEC), the slowest of each, and the client.

The time is that of the server's function. What a command waited for its turn in the
event loop, and a blocking command for its data, is not in it.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(commandsOptions)
		o.by.of, o.sort.of = sortedKeys(commandGroups), sortedKeys(commandOrders)
		fs.SortFlags = false
		fs.Var(&o.by, "by", "a row per `WHAT` instead of per command: "+strings.Join(o.by.of, ", "))
		fs.Var(&o.sort, "sort", "`ORDER` of the rows: "+strings.Join(o.sort.of, ", ")+" (total)")
		fs.DurationVar(&o.slower, "slower", 0, "only commands that took this `TIME` or longer, as 1ms")
		fs.UintVar(&o.top, "top", 0, "at most `N` rows; 0 is all, in text 20")
		fs.UintVar(&o.examples, "examples", 3, "the `N` slowest of each row")
		return o
	},
}

type commandsOptions struct {
	by, sort choice
	slower   time.Duration
	top      uint
	examples uint
}

// roleCommand is the role of probes on functions that execute a command;
// docs/packs.md describes their arguments.
const roleCommand = "command"

// A command is one that was executed.
type command struct {
	name     string
	key      string // its first argument, where the pack reads it
	args     uint64 // how many words it had, its name included
	start    int64
	duration int64
	self     int64 // without the commands inside
	depth    int
	task     format.TaskID
	client   string
}

var commandGroups = map[string]func(r *format.Reader, c *command) string{
	"command": func(_ *format.Reader, c *command) string { return c.name },
	"client":  func(_ *format.Reader, c *command) string { return c.client },
	"process": func(r *format.Reader, c *command) string { return fmt.Sprint(r.Task(c.task).Pid) },
	"key":     func(_ *format.Reader, c *command) string { return dash(c.key) },
}

var commandOrders = map[string]func(a, b *commandGroup) int{
	"total": func(a, b *commandGroup) int { return cmp.Compare(b.total, a.total) },
	"self":  func(a, b *commandGroup) int { return cmp.Compare(b.self, a.self) },
	"calls": func(a, b *commandGroup) int { return cmp.Compare(b.count, a.count) },
	"max":   func(a, b *commandGroup) int { return cmp.Compare(b.most, a.most) },
	"p99":   func(a, b *commandGroup) int { return cmp.Compare(b.quantile(0.99), a.quantile(0.99)) },
}

// A commandGroup is the commands of one row.
type commandGroup struct {
	latency
	name    string
	self    uint64    // ns
	slowest []command // longest first
}

func (g *commandGroup) example(c *command, keep int) {
	if keep == 0 || len(g.slowest) == keep && c.duration <= g.slowest[keep-1].duration {
		return
	}
	at, _ := slices.BinarySearchFunc(g.slowest, c, func(a command, c *command) int {
		return cmp.Or(cmp.Compare(c.duration, a.duration), -1)
	})
	g.slowest = slices.Insert(g.slowest, at, *c)
	g.slowest = g.slowest[:min(len(g.slowest), keep)]
}

// maxCommandGroups bounds the rows, of which there can be one per key.
const maxCommandGroups = 20000

// Run makes one pass. TCP events, if there are any, name the clients.
func (o *commandsOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &commandsResult{opt: *o, r: r, groups: map[string]*commandGroup{}, wanted: roleRecorded(r, roleCommand)}
	if res.opt.by.is == "" {
		res.opt.by.is = "command"
	}
	s := newCommandStream(r, f, res.put)
	err := eachEvent(ctx, r, commandKinds, "calls", s.event)
	if err != nil {
		return nil, err
	}
	if res.capture, res.complete, err = Describe(r); err != nil {
		return nil, err
	}
	res.unfinished = s.unfinished
	res.finish()
	return res, nil
}

// commandKinds are the events that commands and their clients are made of.
var commandKinds = format.NewKindSet(format.KindCall, format.KindTCPEndpoints, format.KindTCPAccept)

// commandStream makes commands of calls.
type commandStream struct {
	r          *format.Reader
	filter     format.Filter
	put        func(*command)
	buf        format.Call
	inside     map[uint32][]insideCall // by thread: commands that ended and whose outer one has not
	clients    *clients
	unfinished uint64
}

type insideCall struct {
	depth           int
	entry, duration int64
}

// maxInside bounds what a thread keeps of commands whose outer one is missing.
const maxInside = 1 << 16

func newCommandStream(r *format.Reader, f format.Filter, put func(*command)) *commandStream {
	return &commandStream{r: r, filter: f, put: put, inside: map[uint32][]insideCall{}, clients: newClients(r)}
}

func (s *commandStream) event(e *format.Event) {
	if e.Kind != format.KindCall {
		s.clients.event(e)
		return
	}
	if err := s.r.Call(e, &s.buf); err != nil || s.buf.Probe.Role != roleCommand {
		return // one that cannot be read is a matter of print and verify
	}
	c := &s.buf
	if c.Outcome == format.CallUnentered {
		return
	}
	t := s.r.Task(c.Task)
	x := command{start: c.Entry, duration: c.Duration(), depth: c.Depth, task: c.Task}
	x.self = x.duration - s.within(t.Tid, &x)
	x.name = strings.ToLower(textArg(c, "command"))
	if x.name == "" {
		x.name = "(name unreadable)"
	}
	x.key = textArg(c, "key")
	x.args, _ = c.Uint("argc")
	fd, ok := c.Int("fd")
	switch {
	case c.Depth > 1:
		x.client = "(script or transaction)"
	case ok:
		x.client = s.clients.name(t.Pid, fd)
	default:
		x.client = "-"
	}
	if !s.filter.Match(s.r, e) {
		return
	}
	if c.Outcome == format.CallUnfinished {
		s.unfinished++
		return
	}
	s.put(&x)
}

// within returns the time of the commands directly inside one, and remembers it
// for the one around it. Inner calls return first.
func (s *commandStream) within(tid uint32, x *command) int64 {
	list := s.inside[tid]
	inner := int64(0)
	for len(list) > 0 && list[len(list)-1].depth > x.depth {
		last := list[len(list)-1]
		list = list[:len(list)-1]
		if last.depth == x.depth+1 && last.entry >= x.start {
			inner += last.duration
		}
	}
	if x.depth > 1 && len(list) < maxInside {
		list = append(list, insideCall{x.depth, x.start, x.duration})
	}
	if len(list) == 0 {
		delete(s.inside, tid)
	} else {
		s.inside[tid] = list
	}
	return min(inner, x.duration)
}

// commandsResult is the answer of "tcap analyze commands".
type commandsResult struct {
	opt        commandsOptions
	r          *format.Reader
	capture    Capture
	complete   Completeness
	wanted     bool
	groups     map[string]*commandGroup
	rows       []*commandGroup
	all        int // rows before --top
	sum        latency
	nested     uint64 // commands inside others
	unfinished uint64
}

// Completeness is that of the capture.
func (r *commandsResult) Completeness() Completeness { return r.complete }

func (r *commandsResult) put(c *command) {
	if c.duration < int64(r.opt.slower) {
		return
	}
	if c.depth > 1 {
		r.nested++
	}
	r.sum.add(c.self)
	name := commandGroups[r.opt.by.is](r.r, c)
	g := r.groups[name]
	if g == nil && len(r.groups) >= maxCommandGroups {
		name = otherQueries
		g = r.groups[name]
	}
	if g == nil {
		g = &commandGroup{name: name}
		r.groups[name] = g
	}
	g.add(c.duration)
	g.self = addSat(g.self, uint64(max(c.self, 0)))
	g.example(c, int(min(r.opt.examples, 1000)))
}

func (r *commandsResult) finish() {
	for _, g := range r.groups {
		r.rows = append(r.rows, g)
	}
	order := commandOrders["total"]
	if r.opt.sort.is != "" {
		order = commandOrders[r.opt.sort.is]
	}
	slices.SortFunc(r.rows, func(a, b *commandGroup) int { return cmp.Or(order(a, b), cmp.Compare(a.name, b.name)) })
	r.all = len(r.rows)
	if r.opt.top > 0 {
		r.rows = r.rows[:int(min(r.opt.top, uint(r.all)))]
	}
}
