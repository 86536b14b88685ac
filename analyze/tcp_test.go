package analyze

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/format"
	"github.com/tcap-dev/tcap/format/tracetest"
)

const tcpPair = `
0.1 100/100 curl tcp.endpoints conn=1 netns=1 family=ipv4 laddr=10.0.0.1 raddr=10.0.0.2 rport=80 uid=7
0.1 100/100 curl tcp.state conn=1 old=CLOSE new=SYN_SENT process=yes
0.1 100/100 curl tcp.endpoints conn=1 netns=1 family=ipv4 laddr=10.0.0.1 lport=4000 raddr=10.0.0.2 rport=80 uid=7
0.2 0/0 swapper/0 tcp.state conn=1 old=SYN_SENT new=ESTABLISHED
0.3 200/201 nginx tcp.endpoints conn=2 netns=1 family=ipv4 laddr=10.0.0.1 lport=80 raddr=10.0.0.3 rport=5000
0.3 100/100 curl tcp.state conn=2 old=LISTEN new=SYN_RECV
0.4 100/100 curl tcp.state conn=2 old=SYN_RECV new=ESTABLISHED
0.5 200/201 nginx tcp.accept conn=2 fd=4 uid=33
0.8 100/100 curl tcp.state conn=1 old=ESTABLISHED new=FIN_WAIT1 shutdown=3 process=yes tx=10 rx=20
0.9 0/0 swapper/0 tcp.state conn=1 old=FIN_WAIT1 new=CLOSE shutdown=3 tx=10 rx=20
1.0 0/0 swapper/0 tcp.retransmit conn=2 state=ESTABLISHED
`

// TestTCPSelection: filters apply to the owner and the life of a connection,
// not to the task and the time of one of its events.
func TestTCPSelection(t *testing.T) {
	at := func(s float64) int64 { return tracetest.Start.Mono + int64(s*1e9) }
	for _, c := range []struct {
		name   string
		filter format.Filter
		args   string
		want   []uint64
	}{
		{name: "all", want: []uint64{1, 2}},
		{name: "owner's pid", filter: format.Filter{Pids: []uint32{100}}, want: []uint64{1}},
		{name: "packet processor's pid", filter: format.Filter{Pids: []uint32{0}}},
		{name: "tid", filter: format.Filter{Tids: []uint32{201}}, want: []uint64{2}},
		{name: "comm", filter: format.Filter{Comms: []string{"nginx"}}, want: []uint64{2}},
		{name: "window after the close", filter: format.Filter{From: at(0.95)}, want: []uint64{2}},
		{name: "window before the accept", filter: format.Filter{To: at(0.25)}, want: []uint64{1}},
		{name: "window inside both", filter: format.Filter{From: at(0.6), To: at(0.7)}, want: []uint64{1, 2}},
		{name: "owner's pid as a flag", args: "-p 200,300", want: []uint64{2}},
		{name: "local port", args: "-L 80,81", want: []uint64{2}},
		{name: "remote port", args: "-D 80", want: []uint64{1}},
		{name: "open", args: "--open", want: []uint64{2}},
		{name: "failed", args: "--failed"},
		{name: "verdict", args: "--verdict local_close", want: []uint64{1}},
		{name: "two verdicts", args: "--verdict local_close,still_open", want: []uint64{1, 2}},
		{name: "closed by", args: "--closed-by local", want: []uint64{1}},
		{name: "IPv6", args: "-6"},
		{name: "IPv4", args: "-4", want: []uint64{1, 2}},
		{name: "both families", args: "-4 -6", want: []uint64{1, 2}},
		{name: "by bytes", args: "--sort bytes --top 1", want: []uint64{1}},
		{name: "by duration", args: "--sort duration", want: []uint64{1, 2}},
		{name: "by pid", args: "--sort pid", want: []uint64{1, 2}},
		{name: "as tcplife", args: "-s", want: []uint64{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := runTCP(t, tracetest.Capture(t, tcpPair), c.filter, strings.Fields(c.args)...)
			var got []uint64
			for _, conn := range res.conns {
				got = append(got, conn.id)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got connections %v, want %v", got, c.want)
			}
		})
	}
}

func TestTCPBadFlags(t *testing.T) {
	for _, args := range []string{
		"--sort size", "--closed-by me", "--verdict closed", "--verdict local_close,", "--top -1", "-L 65536", "-D x", "-L ,",
	} {
		fs := pflag.NewFlagSet("tcp", pflag.ContinueOnError)
		tcpAnalyzer.New(fs)
		if err := fs.Parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}

func TestTCPCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := new(tcpOptions).Run(ctx, tracetest.Capture(t, tcpPair), format.Filter{}); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestTCPManyRefusals: 1,200 refused connects are 1,200 rows, with or without
// an identity, and leave nothing that is still alive.
func TestTCPManyRefusals(t *testing.T) {
	var b strings.Builder
	for i := range 1200 {
		at := float64(i) / 1000
		if i%2 == 0 {
			fmt.Fprintf(&b, "%.9f 5/5 c tcp.connect errno=101 duration=10 raddr=192.0.2.1 rport=1 family=ipv4\n", at)
			continue
		}
		fmt.Fprintf(&b, "%.9f 5/5 c tcp.state conn=%d old=CLOSE new=SYN_SENT process=yes\n", at, i)
		fmt.Fprintf(&b, "%.9f 5/5 c tcp.state conn=%d old=SYN_SENT new=CLOSE err=111\n", at, i)
		fmt.Fprintf(&b, "%.9f 5/5 c tcp.destroy conn=%d\n", at, i)
	}
	res := runTCP(t, tracetest.Capture(t, b.String()), format.Filter{}, "--verdict", "refused")
	if len(res.conns) != 1200 {
		t.Errorf("%d refused, want 1200", len(res.conns))
	}
	for _, c := range res.conns {
		if !c.over() {
			t.Fatalf("connection %d is open", c.id)
		}
	}
}

// TestTCPHostileNames: what a process calls itself reaches neither the terminal
// nor a spreadsheet's formulas.
func TestTCPHostileNames(t *testing.T) {
	trace := `0.1 5/5 "=1\x1b[2J\n" tcp.state conn=1 old=CLOSE new=SYN_SENT process=yes` + "\n" +
		`0.1 5/5 "x\xff\u202e" tcp.endpoints conn=1 laddr="\x1b]0;a" raddr="@b" rport=1 family=ipv4` + "\n"
	res := runTCP(t, tracetest.Capture(t, trace), format.Filter{})
	sum := runTCP(t, tracetest.Capture(t, trace), format.Filter{}, "--summary")
	for _, out := range [][]byte{render(t, res, "text", export.Wide), render(t, res, "csv", 0), render(t, sum, "text", 80), render(t, sum, "csv", 0)} {
		if bytes.ContainsAny(out, "\x1b\xff") || bytes.Contains(out, []byte(",=")) || bytes.Contains(out, []byte(",@")) {
			t.Errorf("unsafe output:\n%q", out)
		}
	}
}

// TestTCPClock: -T is wall time of the analyzing machine's zone.
func TestTCPClock(t *testing.T) {
	got := render(t, runTCP(t, tracetest.Capture(t, tcpPair), format.Filter{}, "-T", "-p", "100"), "text", 80)
	want := time.Unix(0, tracetest.Start.Wall).Add(100 * time.Millisecond).Format("15:04:05")
	if _, row, _ := bytes.Cut(got, []byte("\n")); !bytes.HasPrefix(row, []byte(want+" 100 curl")) {
		t.Errorf("want %s first:\n%s", want, got)
	}
}

func TestTCPBytesShort(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 99999: "99999", 100000: "97.7K", 1 << 20: "1.0M", 1023 << 10: "1.0M", 5 << 30: "5.0G", 1<<64 - 1: "16.0E",
	} {
		if got := bytesShort(&n); got != want || len(got) > 5 {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestTCPReasonsOfKernels(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-cloud-amd64": true, "6.12": true, "7.0.1": true, "6.11.9": false, "6.1.0-53": false, "5.15": false, "": false, "x.y": false,
	} {
		if got := knowsRstReasons(release); got != want {
			t.Errorf("%q: got %v", release, got)
		}
	}
}

func TestTCPWindows(t *testing.T) {
	ws := newWindows([]window{{30, 40}, {10, 20}, {15, 25}})
	if len(ws) != 2 {
		t.Fatalf("%v: want two windows", ws)
	}
	for _, c := range []struct {
		from, to int64
		want     bool
	}{{0, 9, false}, {0, 10, true}, {25, 29, true}, {26, 29, false}, {26, 30, true}, {41, 90, false}, {0, 90, true}} {
		if got := ws.overlap(c.from, c.to); got != c.want {
			t.Errorf("%d..%d: got %v", c.from, c.to, got)
		}
	}
}

// randomTCP makes an event out of bytes, so that few sockets and few values meet
// often.
func randomTCP(b []byte) format.Event {
	kinds := []format.Kind{
		format.KindTCPEndpoints, format.KindTCPState, format.KindTCPState, format.KindTCPState, format.KindTCPConnect,
		format.KindTCPAccept, format.KindTCPRetransmit, format.KindTCPReset, format.KindTCPDestroy, format.KindTCPSnapshot,
	}
	e := format.Event{Kind: kinds[int(b[0])%len(kinds)], Task: format.TaskID(b[1] % 4), Time: int64(b[2]) << 4}
	e.V[format.TCPConn] = uint64(b[3] % 5)
	for i := 1; i < format.MaxFields; i++ {
		v := uint64(b[3+i])
		if v > 250 {
			v = ^uint64(0) - (v - 250)
		} else if i <= 2 {
			v %= 14 // states
		}
		e.V[i] = v
	}
	return e
}

// tcpEventLen is how many bytes randomTCP reads.
const tcpEventLen = 3 + format.MaxFields

type noNames struct{}

func (noNames) String(format.StringID) string             { return "" }
func (noNames) Task(format.TaskID) format.Task            { return format.Task{} }
func (noNames) Probe(format.ProbeID) (format.Probe, bool) { return format.Probe{}, false }

// FuzzTCP: whatever the events, nothing panics, a socket has no more rows than
// beginnings, and no figure is impossible.
func FuzzTCP(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		seed := make([]byte, 40*tcpEventLen)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tracker := newTCPTracker()
		begun := map[uint64]int{} // how often a socket may have begun a session, at most
		for ; len(data) >= tcpEventLen; data = data[tcpEventLen:] {
			e := randomTCP(data)
			tracker.event(&e)
			switch e.Kind {
			case format.KindTCPState, format.KindTCPConnect, format.KindTCPEndpoints:
				begun[e.V[0]]++
			}
		}
		tracker.direct(noNames{})
		view := &tcpView{names: noNames{}, judge: &tcpJudge{end: tracker.last, losses: windows{{100, 200}}, reasons: true}}
		rows := map[uint64]int{}
		res := &tcpResult{view: view}
		tracker.all(func(c *tcpConn) {
			if c.reported() {
				checkTCP(t, view, c)
				rows[c.id]++
				res.conns = append(res.conns, c)
			}
		})
		for id, n := range rows {
			if n > begun[id]+1 {
				t.Errorf("socket %d: %d rows from %d beginnings", id, n, begun[id])
			}
		}
		for _, name := range []string{"text", "csv", "json"} {
			if err := Render(io.Discard, res, name, 80); err != nil {
				t.Fatal(err)
			}
		}
		res.summarize()
	})
}

func checkTCP(t *testing.T, v *tcpView, c *tcpConn) {
	t.Helper()
	row := v.row(c)
	e := v.judge.ending(c)
	if e.verdict >= verdictCount || row.Close.Verdict == "" {
		t.Errorf("no verdict: %+v", row)
	}
	if e.verdict == verdictStillOpen && c.over() {
		t.Errorf("open and over: %+v", row)
	}
	if !row.Incomplete && (row.TxBytes == nil || row.RxBytes == nil) {
		t.Errorf("complete without its bytes: %+v", row)
	}
	if row.life < 0 {
		t.Errorf("negative life: %+v", row)
	}
	if _, err := json.Marshal(row); err != nil {
		t.Error(err)
	}
}

// lifecycle appends the events of a connection that n names, as the recorder
// does: about seven.
func lifecycle(w *format.Writer, n int, task format.TaskID, now int64, emit func(*format.Event) error) error {
	laddr, raddr := w.String("10.0.0.1"), w.String(fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255))
	conn, lport := uint64(n+1), uint64(1024+n%60000)
	step := func(old, new, shut, proc uint64) format.Event {
		return format.Event{Kind: format.KindTCPState, V: [format.MaxFields]uint64{
			conn, old, new, 0, shut, 100 * (shut & 1), 2000 * (shut & 1), 0, 80, 70, proc}}
	}
	for i, e := range []format.Event{
		{Kind: format.KindTCPEndpoints, V: [format.MaxFields]uint64{conn, 4026531840, 1, uint64(laddr), lport, uint64(raddr), 80, 1000}},
		step(format.TCPClose, format.TCPSynSent, 0, 1),
		step(format.TCPSynSent, format.TCPEstablished, 0, 0),
		{Kind: format.KindTCPConnect, V: [format.MaxFields]uint64{conn, 3, 0, 200, 1000}},
		step(format.TCPEstablished, format.TCPFinWait1, 3, 1),
		step(format.TCPFinWait1, format.TCPFinWait2, 3, 0),
		step(format.TCPFinWait2, format.TCPClose, 3, 0),
		{Kind: format.KindTCPDestroy, V: [format.MaxFields]uint64{conn, 100, 2000, 0, 70}},
	} {
		e.Task, e.Time = task, now+int64(i)*1000
		if err := emit(&e); err != nil {
			return err
		}
	}
	return nil
}

// tcpCapture writes a capture of n connections.
func tcpCapture(tb testing.TB, n int) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := format.NewWriter(&buf, format.Header{Tool: "tcap", Kernel: "6.18", Start: tracetest.Start}, format.WriterOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	task := w.Task(format.Task{Pid: 100, Tid: 100, Space: 100, Comm: "curl"})
	for i := range n {
		if err := lifecycle(w, i, task, tracetest.Start.Mono+int64(i)*10_000, w.Append); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(format.Trailer{Reason: "exit"}); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// BenchmarkTCP analyzes 1,000,000 connections and renders them.
func BenchmarkTCP(b *testing.B) {
	const n = 1_000_000
	file := tcpCapture(b, n)
	r, err := format.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	run := func(b *testing.B) *tcpResult { return runTCP(b, r, format.Filter{}) }
	b.Run("analyze", func(b *testing.B) {
		var res *tcpResult
		for b.Loop() {
			if res = run(b); len(res.conns) != n {
				b.Fatalf("%d connections", len(res.conns))
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "conns/s")
		b.ReportMetric(float64(len(file))/n, "file-B/conn")
		b.ReportMetric(float64(heapNow())/(1<<20), "heap-MiB")
		runtime.KeepAlive(res)
	})
	res := run(b)
	for _, name := range []string{"text", "csv", "json"} {
		b.Run(name, func(b *testing.B) {
			start := time.Now()
			for b.Loop() {
				if err := Render(io.Discard, res, name, 80); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/time.Since(start).Seconds(), "rows/s")
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/(1<<20), "sys-MiB")
		})
	}
}

// heapNow is what lives on the heap, in bytes.
func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestTCPDamagedBlock: a block that cannot be read is a window of loss. Only
// what lived in it is incomplete, and what was last seen before it is neither
// open nor closed.
func TestTCPDamagedBlock(t *testing.T) {
	var b strings.Builder
	fmt.Fprintln(&b, "0.1 5/5 c tcp.state conn=90 old=CLOSE new=SYN_SENT process=yes")
	fmt.Fprintln(&b, "0.1 5/5 c tcp.state conn=90 old=SYN_SENT new=ESTABLISHED")
	for i := 1; i <= 30; i++ {
		fmt.Fprintf(&b, "%d.1 5/5 c tcp.state conn=%d old=CLOSE new=SYN_SENT process=yes\n", i, i)
		fmt.Fprintf(&b, "%d.2 5/5 c tcp.state conn=%d old=SYN_SENT new=CLOSE err=111\n", i, i)
	}
	file := tracetest.Bytes(t, b.String(), format.WriterOptions{BlockEvents: 10})
	r := reopen(t, file)
	blocks := slices.DeleteFunc(slices.Clone(r.Blocks()), func(b format.BlockInfo) bool { return b.Events == 0 })
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of events: too few to damage one in the middle", len(blocks))
	}
	bad := blocks[len(blocks)/2]
	file[bad.End()-1] ^= 0xff

	res := runTCP(t, reopen(t, file), format.Filter{})
	if res.complete.DamagedBlocks != 1 {
		t.Fatalf("%d damaged blocks, want 1", res.complete.DamagedBlocks)
	}
	rows := 0
	for _, c := range res.conns {
		row := res.view.row(c)
		if c.id == 90 {
			if !row.Incomplete || row.Close.Verdict != "unknown" {
				t.Errorf("lived through the damage: %q, incomplete %v", row.Close.Verdict, row.Incomplete)
			}
			continue
		}
		rows++
		before, after := c.closed < bad.FirstTime, c.first > bad.LastTime
		if (before && c.closed < blocks[len(blocks)/2-1].LastTime || after) && row.Incomplete {
			t.Errorf("connection %d, seen whole, is incomplete", c.id)
		}
	}
	if rows < 20 || rows >= 30 {
		t.Errorf("%d connections left of 30", rows)
	}
}

func reopen(t *testing.T, file []byte) *format.Reader {
	t.Helper()
	r, err := format.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
