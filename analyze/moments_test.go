package analyze

import (
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

func TestTimelineScenarios(t *testing.T) { golden(t, "timeline") }

func TestTimelineDocs(t *testing.T) { docKeys(t, moment{}) }

// TestTimelineSums: what the rows have is what the analyses of each have in all,
// and of one process it is that process's.
func TestTimelineSums(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/timeline-server.txtar")
	for _, tt := range []struct {
		f                     format.Filter
		queries, commands     uint64
		opened, closed, alive uint64
		growth                int64
	}{
		{format.Filter{}, 31, 43, 4, 3, 1, 90000 + 1000000},
		{format.Filter{Pids: []uint32{400}}, 30, 43, 4, 3, 1, 90000},
	} {
		res := runAnalysis(t, "timeline", s.Reader, tt.f).(*timelineResult)
		var queries, commands, opened, closed uint64
		var growth int64
		end := int64(0)
		for _, m := range res.moments {
			queries += *m.Queries
			commands += *m.Commands
			opened += *m.Opened
			closed += *m.Closed
			growth += *m.GrowthB
			if m.FromNs != end || m.ToNs < m.FromNs {
				t.Errorf("a stretch from %d to %d after %d", m.FromNs, m.ToNs, end)
			}
			end = m.ToNs
		}
		open := *res.moments[len(res.moments)-1].Open
		if queries != tt.queries || commands != tt.commands || opened != tt.opened || closed != tt.closed || open != tt.alive || growth != tt.growth {
			t.Errorf("%+v: %d queries, %d commands, %d opened, %d closed, %d open, %d bytes", tt.f, queries, commands, opened, closed, open, growth)
		}
	}
}

// A process that is not in the capture is told from one that did nothing for a while.
func TestTimelineOfNobody(t *testing.T) {
	s := tracetest.Read(t, "../testdata/scenarios/timeline-server.txtar")
	for pid, want := range map[uint32]bool{400: false, 99999: true} {
		got := string(render(t, runAnalysis(t, "timeline", s.Reader, format.Filter{Pids: []uint32{pid}}), "text", 80))
		if strings.Contains(got, "Nothing of this is of what was asked for.") != want {
			t.Errorf("pid %d:\n%s", pid, got)
		}
	}
}
