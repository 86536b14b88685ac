package analyze

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/format"
)

var queriesAnalyzer = Analyzer{
	Name:  "queries",
	Short: "SQL by fingerprint: count, total, quantiles, slowest with text",
	Long: `What the SQL servers that were recorded (-e mysql, -e postgres) executed, as the
server itself saw it: the time of a query is that of the server's function, without
the network; of MySQL and MariaDB, until the server begins its answer, and where
its own clock could be read, as of MariaDB, by that.

Queries that differ in their literals only are one row. A prepared statement shows
the text that was seen when it was prepared. COM_PING and the like are left out
unless --all is given.`,
	New: func(fs *pflag.FlagSet) Runner {
		o := new(queriesOptions)
		o.register(fs, "queries", keysFirst(queryGroups, "fingerprint"), "count", "max", "mean", "p99", "total")
		fs.StringSliceVar(&o.users, "user", nil, "only queries of this `USER` (repeatable)")
		fs.StringSliceVar(&o.conns, "connection", nil, "only queries of this connection, by its `ID` (repeatable)")
		fs.BoolVar(&o.all, "all", false, "commands without SQL, too: ping, quit, close statement, ...")
		return o
	},
}

type queriesOptions struct {
	timedOptions
	all   bool
	users []string
	conns []string
}

// wants reports whether a query is one of those asked for. A connection is named as
// the server does, or with the process in front, as in the report.
func (o *queriesOptions) wants(q *query) bool {
	if q.duration < int64(o.slower) || len(o.users) > 0 && !slices.Contains(o.users, q.user) {
		return false
	}
	_, id, _ := strings.Cut(q.conn, ":")
	return len(o.conns) == 0 || slices.Contains(o.conns, q.conn) || slices.Contains(o.conns, id)
}

// A query is one that was executed.
type query struct {
	statement
	known    bool // there is a text
	kind     textKind
	print    string // fingerprint, or the command in parentheses
	start    int64  // ns on the clock of the events
	end      int64  // where the server began its last answer, or returned
	duration int64  // ns, of the server's clock or from start to end
	byServer bool   // of the server's clock
	server   serverTime
	executed answer        // of a prepared statement, which the server counts until it was executed
	command  uint64        // MySQL's
	task     format.TaskID // which began it
	last     format.TaskID // which ended it
	parts    int           // calls that executed it
	blocked  int64         // when the first of them returned, with more to come
	conn     string
	user, db string
}

func (q *query) took() int64    { return q.duration }
func (q *query) counted() int64 { return q.duration }

// queryGroups are what rows can stand for.
var queryGroups = map[string]func(r *format.Reader, q *query) string{
	"fingerprint": func(_ *format.Reader, q *query) string { return q.print },
	"connection":  func(_ *format.Reader, q *query) string { return q.conn },
	"user":        func(_ *format.Reader, q *query) string { return dash(q.user) },
	"database":    func(_ *format.Reader, q *query) string { return dash(q.db) },
	"thread": func(r *format.Reader, q *query) string {
		t := r.Task(q.task)
		return fmt.Sprintf("%d/%d %s", t.Pid, t.Tid, t.Comm)
	},
	"process": func(r *format.Reader, q *query) string {
		t := r.Task(q.task)
		return fmt.Sprintf("%d", t.Pid)
	},
}

// Run makes one pass. Statements that were prepared before the window, or by
// others, are known in it.
func (o *queriesOptions) Run(ctx context.Context, r *format.Reader, f format.Filter) (Result, error) {
	res := &queriesResult{timedRows: newTimedRows[*query](o.timedOptions), opt: *o, r: r}
	s := newQueryStream(r, res.put)
	s.all, s.wanted = o.all, roleRecorded(r, format.RoleQuery)
	err := eachEvent(ctx, r, format.NewKindSet(format.KindCall), "calls", func(e *format.Event) { s.event(e, f) })
	if err != nil {
		return nil, err
	}
	if res.capture, res.complete, err = Describe(r, ""); err != nil {
		return nil, err
	}
	s.forgetBlocked(f)
	res.stream = s
	res.finish()
	return res, nil
}

// roleRecorded reports whether a capture has probes of a role.
func roleRecorded(r *format.Reader, role string) bool {
	return slices.ContainsFunc(r.Probes(), func(p format.Probe) bool { return p.Role == role })
}

// queriesResult is the answer of "tcap analyze queries".
type queriesResult struct {
	timedRows[*query]
	opt      queriesOptions
	r        *format.Reader
	capture  Capture
	complete Completeness
	stream   *queryStream
	byServer uint64 // queries whose time is by the server's clock
	resumed  uint64 // those of more than one part
}

// Completeness is that of the capture.
func (r *queriesResult) Completeness() Completeness { return r.complete }

// put takes a query of the stream.
func (r *queriesResult) put(q *query) {
	if r.opt.wants(q) {
		if q.byServer {
			r.byServer++
		}
		if q.parts > 1 {
			r.resumed++
		}
		r.sum.add(q.duration)
		r.timedRows.put(queryGroups[r.opt.by.is](r.r, q), q)
	}
}
