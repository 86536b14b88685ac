package analyze

import (
	"fmt"

	"github.com/tcap-dev/tcap/analyze/sql"
	"github.com/tcap-dev/tcap/format"
)

// queryStream makes queries of calls.
//
// The execution of a prepared statement names it by a number only. Its text is
// found by way of the server's own object: the call that prepares and the call
// that executes, inside the server, have the same pointer to it, and the latter
// lies within the execution, on its thread.
//
// A query's time ends where the server begins its answer, if that was recorded: what
// it does after that, as waiting for its turn to write the slow log, no client waits
// for, and no server counts it.
type queryStream struct {
	r        *format.Reader
	put      func(*query)
	buf      format.Call
	prints   map[string]string // of texts, as many as are kept
	prepared map[statementKey]statement
	inner    map[uint32]innerCall // by thread: the newest execution inside the server
	answered map[uint32]int64     // by thread: when the server began its newest answer

	all    bool // commands without SQL, too
	wanted bool // queries were recorded

	unfinished uint64 // still running at the end, or ended by a way that was not seen
	unknown    uint64 // executions of statements that were prepared before the recording
	cut        uint64 // texts of which only the beginning was recorded
	hidden     uint64 // texts of which nothing is there but the length, as in a redacted capture
	faults     uint64 // texts that could not be read
}

type statementKey struct {
	pid     uint32
	pointer uint64
}

type statement struct {
	text   string
	length int
}

type innerCall struct {
	entry, end int64
	key        statementKey
}

const (
	maxPrints   = 1 << 14 // fingerprints that are kept
	maxPrepared = 1 << 18 // statements that are kept
)

func newQueryStream(r *format.Reader, put func(*query)) *queryStream {
	return &queryStream{
		r: r, put: put, prints: map[string]string{}, prepared: map[statementKey]statement{}, inner: map[uint32]innerCall{},
		answered: map[uint32]int64{},
	}
}

// event takes an event of any kind.
func (s *queryStream) event(e *format.Event, f format.Filter) {
	if e.Kind != format.KindCall {
		return
	}
	if err := s.r.Call(e, &s.buf); err == nil { // one that cannot be decoded is a matter of print and verify
		s.call(&s.buf, f)
	}
}

// call takes a call of any probe. The filter selects queries, not what they
// depend on.
func (s *queryStream) call(c *format.Call, f format.Filter) {
	switch c.Probe.Role {
	case rolePrepare:
		s.prepare(c)
	case roleExecute:
		if p, ok := c.Uint("statement"); ok {
			t := s.r.Task(c.Task)
			s.inner[t.Tid] = innerCall{c.Entry, c.Return, statementKey{t.Pid, p}}
		}
	case roleAnswer:
		s.answered[s.r.Task(c.Task).Tid] = c.Entry
	case roleQuery:
		s.query(c, f)
	}
}

func (s *queryStream) prepare(c *format.Call) {
	p, ok := c.Uint("statement")
	text, n, have := c.Text("sql")
	if !ok || !have {
		return
	}
	if len(s.prepared) >= maxPrepared {
		clear(s.prepared) // rather unknown texts than no memory
	}
	s.prepared[statementKey{s.r.Task(c.Task).Pid, p}] = statement{string(text), n}
}

func (s *queryStream) query(c *format.Call, f format.Filter) {
	if c.Outcome == format.CallUnentered || !f.Match(s.r, &format.Event{Kind: format.KindCall, Task: c.Task, Time: c.Return}) {
		return
	}
	cmd, isMySQL := c.Uint("command")
	if result, ok := c.Int("result"); ok && isMySQL && result == mysqlWouldBlock {
		return // MariaDB's pool of threads goes on with it later, in another call
	}
	q := query{start: c.Entry, duration: c.Duration(), task: c.Task, conn: s.connection(c)}
	if at := s.answered[s.r.Task(c.Task).Tid]; at > c.Entry && at <= c.Return && c.Outcome == format.CallReturned {
		q.duration = at - c.Entry
	}
	q.user, q.db = textArg(c, "user"), textArg(c, "database")
	switch command := mysqlCommand(cmd); {
	case !isMySQL, command == "query", command == "prepare":
		s.text(c, &q, isMySQL)
		if command == "prepare" {
			q.print = "prepare: " + q.print
		}
	case command == "execute", command == "bulk execute":
		s.execution(&q, c.Return)
	case s.all:
		q.print = "(" + command + ")"
	default:
		return
	}
	if c.Outcome == format.CallUnfinished {
		s.unfinished++
		return
	}
	s.put(&q)
}

// text gives a query its own text.
func (s *queryStream) text(c *format.Call, q *query, mysql bool) {
	b, n, ok := c.Text("sql")
	if !ok {
		s.faults++
		q.print = "(text unreadable)"
		return
	}
	s.set(q, string(b), n, mysql)
}

// execution gives a query the text that was prepared.
func (s *queryStream) execution(q *query, end int64) {
	in, ok := s.inner[s.r.Task(q.task).Tid]
	if ok && in.entry >= q.start && in.end <= end {
		if st, ok := s.prepared[in.key]; ok {
			s.set(q, st.text, st.length, true)
			return
		}
	}
	s.unknown++
	q.print = "(execute: prepared before the recording)"
}

func (s *queryStream) set(q *query, text string, length int, mysql bool) {
	if text == "" && length > 0 {
		s.hidden++
		q.length, q.print = length, "(text not kept)"
		return
	}
	q.text, q.length, q.known = text, length, true
	if length > len(text) {
		s.cut++
	}
	key := text
	if length > len(text) {
		key += "\x00cut"
	}
	if p, ok := s.prints[key]; ok {
		q.print = p
		return
	}
	d := sql.MySQL
	if !mysql {
		d = sql.Standard
	}
	if q.print = sql.Fingerprint(text, length > len(text), d); q.print == "" {
		q.print = "(empty)"
	}
	if len(s.prints) >= maxPrints {
		clear(s.prints)
	}
	s.prints[key] = q.print
}

// connection names the session of a query: by the server's number of it, else
// by the server's object, else by the thread.
func (s *queryStream) connection(c *format.Call) string {
	t := s.r.Task(c.Task)
	if id, ok := c.Uint("connection"); ok {
		return fmt.Sprintf("%d:%d", t.Pid, id)
	}
	if p, ok := c.Uint("session"); ok {
		return fmt.Sprintf("%d:0x%x", t.Pid, p)
	}
	return fmt.Sprintf("%d:tid %d", t.Pid, t.Tid)
}

func textArg(c *format.Call, name string) string {
	b, _, _ := c.Text(name)
	return string(b)
}

// mysqlWouldBlock is what MariaDB's dispatch_command returns when the command is
// to be resumed (sql/sql_parse.h).
const mysqlWouldBlock = 2

// mysqlCommand names a command of the protocol (include/my_command.h of MySQL,
// include/mysql_com.h of MariaDB).
func mysqlCommand(n uint64) string {
	if name, ok := mysqlCommands[n]; ok {
		return name
	}
	return fmt.Sprintf("command %d", n)
}

var mysqlCommands = map[uint64]string{
	0: "sleep", 1: "quit", 2: "init db", 3: "query", 4: "field list", 5: "create db", 6: "drop db", 7: "refresh", 8: "shutdown",
	9: "statistics", 10: "process info", 11: "connect", 12: "process kill", 13: "debug", 14: "ping", 15: "time", 16: "delayed insert",
	17: "change user", 18: "binlog dump", 19: "table dump", 20: "connect out", 21: "register replica", 22: "prepare", 23: "execute",
	24: "send long data", 25: "close statement", 26: "reset statement", 27: "set option", 28: "fetch", 29: "daemon",
	30: "binlog dump gtid", 31: "reset connection", 32: "clone", 250: "bulk execute", 254: "multi",
}
