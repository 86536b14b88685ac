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
	Short: "Commands of redis and valkey: calls, inclusive and own time, p50, p99, p99.9, slowest, by client",
	Long: `The commands that a server executed (-e redis), as INFO commandstats counts them, with
what it cannot tell: the quantiles, the time without that of commands inside (EVAL,
EXEC), the slowest of each, and the client.

The time is that of the server's function. What a command waited for its turn in the
event loop, and a blocking command for its data, is not in it.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(commandsOptions)
		o.register(fs, "commands", keysFirst(commandGroups, "command"), "calls", "max", "p99", "self", "total")
		return o
	},
}

type commandsOptions struct{ timedOptions }

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

func (c *command) took() int64 { return c.duration }

var commandGroups = map[string]func(r *format.Reader, c *command) string{
	"command": func(_ *format.Reader, c *command) string { return c.name },
	"client":  func(_ *format.Reader, c *command) string { return c.client },
	"process": func(r *format.Reader, c *command) string { return fmt.Sprint(r.Task(c.task).Pid) },
	"key":     func(_ *format.Reader, c *command) string { return dash(c.key) },
}

// Run makes one pass. TCP events, if there are any, name the clients.
func (o *commandsOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &commandsResult{timedRows: newTimedRows[*command](o.timedOptions), r: r, wanted: roleRecorded(r, roleCommand)}
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
	timedRows[*command] // sum is of their own time
	r                   *format.Reader
	capture             Capture
	complete            Completeness
	wanted              bool
	nested              uint64 // commands inside others
	unfinished          uint64
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
	g := r.timedRows.put(commandGroups[r.opt.by.is](r.r, c), c)
	g.self = addSat(g.self, uint64(max(c.self, 0)))
}
