package analyze

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

// runTCP analyzes a capture with the analyzer's flags.
func runTCP(t testing.TB, r *format.Reader, f format.Filter, args ...string) *tcpResult {
	t.Helper()
	fs := pflag.NewFlagSet("tcp", pflag.ContinueOnError)
	runner := tcpAnalyzer.New(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	res, err := runner.Run(context.Background(), r, f)
	if err != nil {
		t.Fatal(err)
	}
	return res.(*tcpResult)
}

func render(t testing.TB, res Result, name string, width int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, res, name, width); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The scenarios follow the list of what TCP tracers get wrong:
//
//	the server closes first; who runs is not who owns     tcp-server-closes-first
//	socket addresses and 4-tuples are used again          tcp-address-reuse
//	ports that read 0                                     tcp-address-reuse
//	order of RST and CLOSE; RSTs of no connection         tcp-reset-order
//	orphans in FIN_WAIT, simultaneous close               tcp-fin-wait
//	half-close both ways, RST in CLOSE_WAIT               tcp-half-close
//	listener closes over its queue, SO_REUSEPORT          tcp-never-accepted
//	two listeners at one port                              tcp-twin-listeners
//	refused, timed out, unreachable, abandoned, killed    tcp-connect-failures
//	a thousand refusals                                   TestTCPManyRefusals
//	TCP Fast Open                                         tcp-fast-open
//	v4-mapped, ::1, link-local                            tcp-families
//	one 4-tuple in two network namespaces                 tcp-netns
//	fork and dup: the closer is not the accepter          tcp-fork
//	older than the recording, still open, in between      tcp-preexisting
//	ss -K, TCP_USER_TIMEOUT, keepalive                    tcp-killed-and-timeouts
//	listeners are no sessions                             tcp-listeners
//	loss in mid-life, damage, a cut file                  tcp-loss, TestTCPDamagedBlock, tcp-cut
//	kernels whose resets have no reason                   tcp-abort-without-reasons
//
// That MPTCP and SCTP share the tracepoint is the recorder's to filter: no
// event of theirs reaches a capture.

// TestTCPScenarios renders each scenario in every form. A section whose name
// begins with flags. is the command line of one more text output. JSON is
// compared where a scenario has a section for it, and held against CSV in all.
func TestTCPScenarios(t *testing.T) {
	for _, s := range tracetest.Glob(t, "../testdata/scenarios/tcp-*.txtar") {
		t.Run(strings.TrimSuffix(s.Path[strings.LastIndex(s.Path, "/")+1:], ".txtar"), func(t *testing.T) {
			res := runTCP(t, s.Reader, format.Filter{})
			s.Golden(t, "want/text", render(t, res, "text", 80))
			s.Golden(t, "want/wide", render(t, res, "text", export.Wide))
			s.Golden(t, "want/csv", render(t, res, "csv", 0))
			s.Golden(t, "want/summary", render(t, runTCP(t, s.Reader, format.Filter{}, "--summary"), "text", 80))
			for _, name := range []string{"a", "b", "c"} {
				flags, ok := s.Section("flags." + name)
				if !ok {
					continue
				}
				got := runAnalysis(t, "tcp", s.Reader, format.Filter{}, strings.Fields(flags)...)
				s.Golden(t, "want/"+name, render(t, got, "text", 80))
				for _, other := range []string{"json", "csv", "folded"} {
					if _, ok := s.Section("want/" + name + "." + other); ok {
						s.Golden(t, "want/"+name+"."+other, render(t, got, other, 0))
					}
				}
			}
			if _, ok := s.Section("want/json"); ok {
				s.Golden(t, "want/json", render(t, res, "json", 0))
				sum := runTCP(t, s.Reader, format.Filter{}, "--summary")
				s.Golden(t, "want/summary.json", render(t, sum, "json", 0))
				s.Golden(t, "want/summary.csv", render(t, sum, "csv", 0))
			}
			checkJSON(t, res)
		})
	}
}

// checkJSON holds the JSON form against the CSV form, which the golden
// sections pin: the same values under the same names in the same order.
func checkJSON(t *testing.T, res *tcpResult) {
	t.Helper()
	streamed := render(t, res, "json", 0)
	whole, err := json.Marshal(res.JSON())
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, bytes.TrimSpace(streamed)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(compact.Bytes(), whole) {
		t.Errorf("streamed JSON differs from JSON():\n%s\n%s", compact.Bytes(), whole)
	}
	var doc struct {
		Connections []json.RawMessage
	}
	if err := json.Unmarshal(streamed, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Connections) != len(res.conns) {
		t.Fatalf("%d connections in JSON, %d analyzed", len(doc.Connections), len(res.conns))
	}
	for i, raw := range doc.Connections {
		row := res.view.row(res.conns[i])
		want := row.record()
		got, names := flatten(t, raw)
		for j := range want {
			if names[j] != tcpCSVHeader[j] || got[j] != strings.TrimPrefix(want[j], "'") {
				t.Errorf("connection %d: JSON has %s=%q, CSV %s=%q", i, names[j], got[j], tcpCSVHeader[j], want[j])
			}
		}
	}
}

// flatten lists the values and names of a connection's JSON in their order;
// those of close get the names they have in CSV.
func flatten(t *testing.T, raw json.RawMessage) (values, names []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	inClose := map[string]string{"verdict": "verdict", "by": "closed_by", "errno": "close_errno", "pid": "close_pid", "comm": "close_comm"}
	depth, key, prefix := 0, "", false
	for {
		tok, err := dec.Token()
		if err != nil {
			return values, names
		}
		switch d, isDelim := tok.(json.Delim); {
		case isDelim && d == '{':
			depth++
			prefix = depth == 2
			key = ""
			continue
		case isDelim:
			depth--
			prefix = false
			continue
		}
		if key == "" {
			key = tok.(string)
			continue
		}
		if prefix {
			key = inClose[key]
		}
		names = append(names, key)
		key = ""
		switch v := tok.(type) {
		case nil:
			values = append(values, "")
		case bool:
			values = append(values, map[bool]string{true: "true", false: "false"}[v])
		case json.Number:
			values = append(values, v.String())
		case string:
			values = append(values, v)
		}
	}
}

// TestTCPDocs: the documents name every verdict, owner, column and key.
func TestTCPDocs(t *testing.T) {
	for file, words := range map[string][]string{
		"verdicts.md": tcpVerdicts[:],
		"json.md":     append(slices.Clone(tcpOwners[1:]), tcpDirections...),
	} {
		text := document(t, file)
		for _, w := range words {
			if !strings.Contains(text, "`"+w+"`") {
				t.Errorf("docs/%s does not name %s", file, w)
			}
		}
	}
	keys := document(t, "json.md")
	row := reflect.TypeFor[tcpRow]()
	for i := range row.NumField() {
		if key := row.Field(i).Tag.Get("json"); key != "" && key != "close" && !strings.Contains(keys, "`"+key+"`") {
			t.Errorf("docs/json.md does not name %s", key)
		}
	}
	columns := document(t, "analyze.md")
	for _, c := range tcpColumns {
		if !strings.Contains(columns, c.name) {
			t.Errorf("docs/analyze.md does not name column %s", c.name)
		}
	}
}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
