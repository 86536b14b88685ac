package analyze

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var commandsAnalyzer = Analyzer{
	Name:  "commands",
	Short: "Commands of redis and valkey: calls, own time, quantiles, clients",
	Long: `The commands that a server executed (-e redis), as INFO commandstats counts them, with
what it cannot tell: the quantiles, the time without that of commands inside (EVAL,
EXEC), the slowest of each, and the client.

The time is that of the server's function, by the server's own count where the pack
reads it (docs/packs.md). What a command waited for its turn in the event loop, and a
blocking command for its data, is not in it.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(commandsOptions)
		o.register(fs, "commands", keysFirst(commandGroups, "command"), "calls", "max", "p99", "self", "total")
		return o
	},
}

type commandsOptions struct{ timedOptions }

// A command is one that was executed.
type command struct {
	name     string
	key      string // its first argument, where the pack reads it
	args     uint64 // how many words it had, its name included
	start    int64
	end      int64
	duration int64
	total    int64 // the same, as the server counts it where that is known
	self     int64 // of it, without the commands inside
	timed    bool  // total is the server's
	outside  int64 // ns between start and end that it does not count, if timed
	depth    int
	task     format.TaskID
	client   string
}

func (c *command) took() int64    { return c.duration }
func (c *command) counted() int64 { return c.total }

var commandGroups = map[string]func(r *format.Reader, c *command) string{
	"command": func(_ *format.Reader, c *command) string { return c.name },
	"client":  func(_ *format.Reader, c *command) string { return c.client },
	"process": func(r *format.Reader, c *command) string { return fmt.Sprint(r.Task(c.task).Pid) },
	"key":     func(_ *format.Reader, c *command) string { return dash(c.key) },
}

// Run makes one pass. TCP events, if there are any, name the clients.
func (o *commandsOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &commandsResult{timedRows: newTimedRows[*command](o.timedOptions), r: r, wanted: roleRecorded(r, format.RoleCommand)}
	s := newCommandStream(r, f, res.put)
	err := eachEvent(ctx, r, commandKinds, "calls", s.event)
	if err != nil {
		return nil, err
	}
	if res.capture, res.complete, err = Describe(r, ""); err != nil {
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
	inside     map[uint32][]insideCall // by thread: commands that ended and whose outermost one has not
	gaps       map[uint32]*clockGap    // by process
	clients    *clients
	unfinished uint64
}

type insideCall struct {
	name            string
	depth           int
	entry, duration int64
	counted         int64 // by the server
}

// maxInside bounds what a thread keeps of commands whose outer one is missing.
const maxInside = 1 << 16

func newCommandStream(r *format.Reader, f format.Filter, put func(*command)) *commandStream {
	return &commandStream{r: r, filter: f, put: put, inside: map[uint32][]insideCall{}, gaps: map[uint32]*clockGap{}, clients: newClients(r)}
}

func (s *commandStream) event(e *format.Event) {
	if e.Kind != format.KindCall {
		s.clients.event(e)
		return
	}
	if err := s.r.Call(e, &s.buf); err != nil || s.buf.Probe.Role != format.RoleCommand {
		return // one that cannot be read is a matter of print and verify
	}
	c := &s.buf
	if c.Outcome == format.CallUnentered {
		return
	}
	t := s.r.Task(c.Task)
	x := command{start: c.Entry, end: c.Entry + c.Duration(), depth: c.Depth, task: c.Task}
	x.name = strings.ToLower(textArg(c, "command"))
	if x.name == "" {
		x.name = "(name unreadable)"
	}
	s.time(c, t, &x)
	var counted bool
	if x.args, counted = c.Uint("argc"); !counted || x.args > 1 {
		x.key = textArg(c, "key") // of a command alone, what lies behind its name is another's
	}
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

// time works out how long a command took. Inner commands return first.
func (s *commandStream) time(c *format.Call, t format.Task, x *command) {
	own := c.Duration()
	inner, same := s.within(t.Tid, x)
	count, unit, timed := serverCount(c)
	gap := s.gaps[t.Pid]
	if gap == nil {
		gap = new(clockGap)
		s.gaps[t.Pid] = gap
	}
	if count -= same; timed && count >= 0 && c.Outcome == format.CallReturned {
		x.timed, x.total, x.outside = true, count, own-count
		x.duration = gap.within(own, count, unit)
	} else {
		x.duration = gap.less(own)
		x.total = x.duration
	}
	x.self = x.total - min(inner, x.total)
	if x.depth == 1 {
		delete(s.inside, t.Tid)
	} else if list := s.inside[t.Tid]; len(list) < maxInside {
		s.inside[t.Tid] = append(list, insideCall{x.name, x.depth, x.start, own, x.total})
	}
}

// within returns the time of the commands directly inside one, probes included, and
// what the server counted of those inside that are of the same name and so are in the
// count of the outer one as well.
func (s *commandStream) within(tid uint32, x *command) (inner, same int64) {
	list := s.inside[tid]
	for i := len(list) - 1; i >= 0 && list[i].depth > x.depth && list[i].entry >= x.start; i-- {
		if list[i].depth == x.depth+1 {
			inner += list[i].duration
		}
		if list[i].name == x.name {
			same += list[i].counted
		}
	}
	return inner, same
}

// commandsResult is the answer of "tcap analyze commands".
type commandsResult struct {
	timedRows[*command] // sum is of their own time
	r                   *format.Reader
	capture             Capture
	complete            Completeness
	wanted              bool
	nested              uint64 // commands inside others
	unfinished          uint64
	timed               uint64 // commands whose time is the server's count
	outside             int64  // ns that they took besides, by tcap's clock
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
	if c.timed {
		r.timed++
		r.outside += c.outside
	}
	r.sum.add(c.self)
	g := r.timedRows.put(commandGroups[r.opt.by.is](r.r, c), c)
	g.self = addSat(g.self, uint64(max(c.self, 0)))
}
