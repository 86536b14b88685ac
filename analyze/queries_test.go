package analyze

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// The scenarios of queries:
//
//	sessions at once, prepared statements, cut and binary text, a pool of threads    queries-mysql
//	the clock of the server, and parts of queries                                    queries-clock
//	another server's pack                                                            queries-postgres
//	a capture without them                                                           queries-none
func TestQueriesScenarios(t *testing.T) { golden(t, "queries") }

// TestQueriesSelection: filters select queries; what they depend on is known
// all the same.
func TestQueriesSelection(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/queries-mysql.txtar")
	at := func(ms int64) int64 { return tracetest.Start.Mono + 1e9 + ms*1e6 }
	res := runAnalysis(t, "queries", s.Reader, format.Filter{From: at(316), To: at(317)}).(*queriesResult)
	if len(res.rows) != 1 || res.rows[0].name != "delete from t where id = ?" || res.stream.texts[textUnknown] != 0 {
		t.Errorf("one execution: %+v", res.rows)
	}
	res = runAnalysis(t, "queries", s.Reader, format.Filter{Tids: []uint32{402}}, "--slower", "10ms").(*queriesResult)
	if res.sum.count != 6 { // 10, 12, ... 20 ms
		t.Errorf("%d slow queries of thread 402, want 6", res.sum.count)
	}
	for _, tid := range []uint32{406, 407} { // which began it, and which ended it
		res = runAnalysis(t, "queries", s.Reader, format.Filter{Tids: []uint32{tid}}).(*queriesResult)
		if len(res.rows) != 1 || res.rows[0].name != "select resumed" || res.sum.total != 3e6 || res.stream.unfinished != 0 {
			t.Errorf("thread %d: %+v", tid, res.rows)
		}
	}
	// What was begun and never seen to end is of the thread that began it.
	s = tracetest.Read(t, "../testdata/scenarios/queries-clock.txtar")
	for want, f := range map[uint64]format.Filter{3: {}, 0: {Tids: []uint32{500}}} {
		if got := runAnalysis(t, "queries", s.Reader, f).(*queriesResult).stream.unfinished; got != want {
			t.Errorf("%v: %d queries are said to be running, want %d", f.Tids, got, want)
		}
	}
}

// TestQueriesBounded: rows do not grow with the number of different texts.
func TestQueriesBounded(t *testing.T) {
	o := timedOptions{by: choice{is: "fingerprint"}, examples: 2}
	r := &queriesResult{timedRows: newTimedRows[*query](o), opt: queriesOptions{timedOptions: o}}
	const n = maxTimedGroups + 5000
	for i := range n {
		r.put(&query{print: fmt.Sprint("q", i), duration: int64(i)})
	}
	r.finish()
	if len(r.rows) > maxTimedGroups+1 || r.sum.count != n || r.rows[0].name != otherGroups || r.rows[0].count != 5000 {
		t.Errorf("%d rows of %d queries, the first %+v", len(r.rows), r.sum.count, r.rows[0])
	}
	if g := r.rows[0]; len(g.slowest) != 2 || g.slowest[0].duration != n-1 || g.slowest[1].duration != n-2 {
		t.Errorf("slowest %+v", g.slowest)
	}
	g := &timedGroup[*query]{}
	for _, d := range []int64{5, 9, 5, 7, 9} {
		g.example(&query{duration: d, start: int64(len(g.slowest))}, 3)
	}
	if !slices.IsSortedFunc(g.slowest, func(a, b *query) int { return int(b.duration - a.duration) }) || g.slowest[1].duration != 9 {
		t.Errorf("slowest %+v", g.slowest)
	}
}

// docKeys: the document names every key of these types.
func docKeys(t *testing.T, values ...any) {
	t.Helper()
	keys := document(t, "json.md")
	for _, v := range values {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("json")
			if key != "" && key != "capture" && key != "completeness" && !strings.Contains(keys, "`"+key+"`") {
				t.Errorf("docs/json.md does not name %s of %s", key, typ.Name())
			}
		}
	}
}

func TestQueriesDocs(t *testing.T) { docKeys(t, queriesDocument{}, queryRow{}, queryExample{}) }

// TestQueriesContract: the keys that scripts depend on.
func TestQueriesContract(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/queries-mysql.txtar")
	var doc struct {
		Queries []struct {
			Fingerprint string
			Count       uint64
			TotalNs     uint64 `json:"total_ns"`
			P50         int64  `json:"p50_ns"`
			P95         int64  `json:"p95_ns"`
			P99         int64  `json:"p99_ns"`
			Max         int64  `json:"max_ns"`
			Examples    []json.RawMessage
		}
	}
	if err := json.Unmarshal(render(t, runAnalysis(t, "queries", s.Reader, format.Filter{}), "json", 0), &doc); err != nil {
		t.Fatal(err)
	}
	q := doc.Queries[0]
	if q.Fingerprint != "select c from sbtest where id = ? and k = ?" || q.Count != 20 || q.TotalNs != 210e6 || q.P50 != 10e6 ||
		q.P95 != 19e6 || q.P99 != 20e6 || q.Max != 20e6 || len(q.Examples) != 3 {
		t.Errorf("%+v", q)
	}
}
