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
//
// MariaDB's pool of threads takes a query from its thread where it would wait for the
// disk, and goes on with it in another call, perhaps of another thread.
type queryStream struct {
	r        *format.Reader
	put      func(*query)
	buf      format.Call
	prints   map[string]string // of texts, as many as are kept
	prepared map[statementKey]statement
	inner    map[uint32]innerCall // by thread: the newest execution inside the server
	answered map[uint32][]answer  // by thread: where the server began its answers, since the last query
	blocked  map[string]*query    // by connection: a query that was begun, and will be resumed

	all    bool // commands without SQL, too
	wanted bool // queries were recorded

	unfinished uint64            // still running at the end, or ended by a way that was not seen
	texts      [textKinds]uint64 // queries by what is known of their text
}

// textKind is what is known of a query's text.
type textKind int

const (
	textWhole   textKind = iota
	textNone             // a command without SQL
	textUnknown          // an execution of what was prepared before the recording
	textCut              // only the beginning was recorded
	textHidden           // nothing is there but the length, as in a redacted capture
	textFault            // it could not be read
	textKinds
)

type statementKey struct {
	pid     uint32
	pointer uint64
}

type statement struct {
	text    string // as much as was recorded
	length  int    // bytes that there were
	atLeast bool   // and may have been more
}

func statementOf(a *format.Arg) statement { return statement{string(a.Text), a.Len, a.AtLeast} }

// cut reports whether there was more of it, or may have been.
func (st *statement) cut() bool { return st.length > len(st.text) || st.atLeast }

type innerCall struct {
	entry, end int64
	key        statementKey
	executed   answer // what the server counted of it; it answers later
}

const (
	maxPrints   = 1 << 14 // fingerprints that are kept
	maxPrepared = 1 << 18 // statements that are kept
	maxBlocked  = 1 << 16 // queries that wait to be resumed; their connections are no more
)

func newQueryStream(r *format.Reader, put func(*query)) *queryStream {
	return &queryStream{
		r: r, put: put, prints: map[string]string{}, prepared: map[statementKey]statement{}, inner: map[uint32]innerCall{},
		answered: map[uint32][]answer{}, blocked: map[string]*query{},
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
	case format.RolePrepare:
		s.prepare(c)
	case format.RoleExecute:
		if p, ok := c.Uint("statement"); ok {
			t := s.r.Task(c.Task)
			s.inner[t.Tid] = innerCall{c.Entry, c.Return, statementKey{t.Pid, p}, readings(c, c.Return)}
		}
	case format.RoleAnswer:
		s.answer(c)
	case format.RoleQuery:
		s.query(c, f)
	}
}

func (s *queryStream) prepare(c *format.Call) {
	p, ok := c.Uint("statement")
	text := c.Arg("sql")
	if !ok || text == nil {
		return
	}
	if len(s.prepared) >= maxPrepared {
		clear(s.prepared) // rather unknown texts than no memory
	}
	s.prepared[statementKey{s.r.Task(c.Task).Pid, p}] = statementOf(text)
}

// query takes a call that executes a query, or begins or resumes one.
func (s *queryStream) query(c *format.Call, f format.Filter) {
	if c.Outcome == format.CallUnentered {
		return
	}
	cmd, isMySQL := c.Uint("command")
	result, ok := c.Int("result")
	blocks := ok && isMySQL && result == mysqlWouldBlock && c.Outcome == format.CallReturned
	q := s.resumed(c, cmd, isMySQL, f)
	if q == nil && !blocks && !s.matches(c.Task, c.Return, f) {
		s.take(c)
		return
	}
	if q == nil {
		q = s.begun(c, cmd, isMySQL)
	}
	q.parts++
	q.last = c.Task
	s.measure(q, c)
	switch {
	case blocks:
		s.block(q, c.Return, f)
	case !s.matches(q.task, c.Return, f) && !s.matches(q.last, c.Return, f):
	case q.kind == textNone && !s.all:
	default:
		s.done(q, c.Outcome)
	}
}

func (s *queryStream) matches(task format.TaskID, at int64, f format.Filter) bool {
	return f.Match(s.r, &format.Event{Kind: format.KindCall, Task: task, Time: at})
}

// begun makes a query of the first call that executes it.
func (s *queryStream) begun(c *format.Call, cmd uint64, isMySQL bool) *query {
	q := &query{start: c.Entry, task: c.Task, command: cmd, conn: s.connection(c), user: textArg(c, "user"), db: textArg(c, "database")}
	switch command := mysqlCommand(cmd); {
	case !isMySQL, command == "query", command == "prepare":
		s.text(c, q, isMySQL)
		if command == "prepare" {
			q.print = "prepare: " + q.print
		}
	case command == "execute", command == "bulk execute":
		s.execution(q, c.Return)
	default:
		q.kind, q.print = textNone, "("+command+")"
	}
	return q
}

// done passes a query on, with its time.
func (s *queryStream) done(q *query, outcome int) {
	s.texts[q.kind]++
	if outcome == format.CallUnfinished {
		s.unfinished++
		return
	}
	q.finish()
	s.put(q)
}

// text gives a query its own text.
func (s *queryStream) text(c *format.Call, q *query, mysql bool) {
	a := c.Arg("sql")
	if a == nil {
		q.kind, q.print = textFault, "(text unreadable)"
		return
	}
	s.set(q, statementOf(a), mysql)
}

// execution gives a query the text that was prepared.
func (s *queryStream) execution(q *query, end int64) {
	in, ok := s.inner[s.r.Task(q.task).Tid]
	if ok && in.entry >= q.start && in.end <= end {
		q.executed = in.executed
		if st, ok := s.prepared[in.key]; ok {
			s.set(q, st, true)
			return
		}
	}
	q.kind, q.print = textUnknown, "(execute: prepared before the recording)"
}

func (s *queryStream) set(q *query, st statement, mysql bool) {
	q.statement = st
	if st.text == "" && st.cut() {
		q.kind, q.print = textHidden, "(text not kept)"
		return
	}
	q.known = true
	key, cut := st.text, st.cut()
	if cut {
		q.kind = textCut
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
	if q.print = sql.Fingerprint(st.text, cut, d); q.print == "" {
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
