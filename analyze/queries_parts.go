package analyze

import "github.com/tcap-dev/tcap/format"

// block keeps a query of which a part was executed until then, to be resumed.
func (s *queryStream) block(q *query, at int64) {
	q.blocked = at
	if len(s.blocked) >= maxBlocked {
		s.unfinished += uint64(len(s.blocked))
		clear(s.blocked)
	}
	s.blocked[q.conn] = q
}

// resumed is the query that a call goes on with; nil when it begins one. A connection
// has one query at a time, so what it has begun is what it goes on with. Unless that call
// was lost: then this is another command, or one that the server began after the
// first part had ended.
func (s *queryStream) resumed(c *format.Call, cmd uint64, isMySQL bool) *query {
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
			s.unfinished++
			return nil
		}
	}
	if q.command != cmd {
		s.unfinished++
		return nil
	}
	return q
}
