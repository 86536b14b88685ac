package analyze

import "github.com/tcap-dev/tcap/format"

// block keeps a query of which a part was executed until then, to be resumed.
func (s *queryStream) block(q *query, at int64, f format.Filter) {
	q.blocked = at
	if len(s.blocked) >= maxBlocked {
		s.forgetBlocked(f)
	}
	s.blocked[q.conn] = q
}

// resumed is the query that a call goes on with; nil when it begins one. A connection
// has one query at a time, so what it has begun is what it goes on with. Unless that call
// was lost: then this is another command, or one that the server began after the
// first part had ended.
func (s *queryStream) resumed(c *format.Call, cmd uint64, isMySQL bool, f format.Filter) *query {
	if !isMySQL || len(s.blocked) == 0 {
		return nil
	}
	conn := s.connection(c)
	q := s.blocked[conn]
	if q == nil {
		return nil
	}
	delete(s.blocked, conn)
	for _, a := range s.answered[s.r.Task(c.Task).Tid] {
		if a.at > c.Entry && a.read && !a.bad && a.begin > q.blocked {
			s.lose(q, f)
			return nil
		}
	}
	if q.command != cmd {
		s.lose(q, f)
		return nil
	}
	return q
}

// lose counts a query that was begun and whose end was not seen, if it is selected.
func (s *queryStream) lose(q *query, f format.Filter) {
	if s.matches(q.task, q.blocked, f) || s.matches(q.last, q.blocked, f) {
		s.unfinished++
	}
}

// forgetBlocked loses all queries that wait to be resumed.
func (s *queryStream) forgetBlocked(f format.Filter) {
	for _, q := range s.blocked {
		s.lose(q, f)
	}
	clear(s.blocked)
}
