package tcp

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A recording is the programs at work for one test.
type recording struct {
	t     testing.TB
	objs  bpf.RawObjects
	links *Links
	ring  *ringbuf.Reader
	dec   Decoder
	*memory
	records, bytes int // read from the ring, headers of the ring included
}

// record starts a recording: of the machine, or of the processes given and
// what they become.
func record(t testing.TB, pids ...int) *recording {
	t.Helper()
	return recordWith(t, 0, pids...)
}

// recordWith is record with a ring of so many bytes; 0 is the usual size.
func recordWith(t testing.TB, ring uint32, pids ...int) *recording {
	t.Helper()
	kerneltest.Require(t)
	spec, err := bpf.LoadRaw()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables["tcp_all"].Set(len(pids) == 0); err != nil {
		t.Fatal(err)
	}
	if ring != 0 {
		spec.Maps["events"].MaxEntries = ring
	}
	spec.Maps["lost"].MaxEntries *= uint32(ebpf.MustPossibleCPU())
	for name, prog := range spec.Programs { // their maps have a size only where probes are declared
		if strings.HasPrefix(name, "call_") {
			prog.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol(name), asm.Return()}
		}
	}
	r := &recording{t: t, memory: newMemory()}
	if err := spec.LoadAndAssign(&r.objs, nil); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { r.objs.Close() })
	if r.ring, err = ringbuf.NewReader(r.objs.Events); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.ring.Close() })
	for _, pid := range pids {
		if err := r.objs.Targets.Put(uint32(pid), uint8(1)); err != nil {
			t.Fatal(err)
		}
	}
	r.follow()
	links, notes, err := Attach(&r.objs, func(group, name string, prog *ebpf.Program) (io.Closer, error) {
		return link.Tracepoint(group, name, prog, nil)
	})
	if err != nil || len(notes) > 0 {
		t.Fatalf("attach: %v, notes %q", err, notes)
	}
	r.links = links
	t.Cleanup(func() { links.Close() })
	r.snapshot(format.SnapshotStart)
	return r
}

// follow makes the targets' children targets.
func (r *recording) follow() {
	r.t.Helper()
	for _, p := range []*ebpf.Program{r.objs.ProcessFork, r.objs.ProcessExit} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { l.Close() })
	}
}

func (r *recording) decode(rec []byte) error {
	if _, ours := Kind(bpf.RawKind((*bpf.RawHdr)(unsafe.Pointer(&rec[0])).Kind)); !ours {
		return nil
	}
	return r.dec.Decode(rec, r)
}

func (r *recording) snapshot(when int) {
	r.t.Helper()
	if err := r.links.Snapshot(when, r.decode); err != nil {
		r.t.Fatal(err)
	}
	r.drain()
}

// drain decodes what the ring holds.
func (r *recording) drain() {
	r.t.Helper()
	if err := r.ring.Flush(); err != nil {
		r.t.Fatal(err)
	}
	var rec ringbuf.Record
	for {
		err := r.ring.ReadInto(&rec)
		if errors.Is(err, ringbuf.ErrFlushed) {
			return
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.records++
		r.bytes += len(rec.RawSample) + 8
		if err := r.decode(rec.RawSample); err != nil {
			r.t.Fatal(err)
		}
	}
}

// until drains the ring until the condition holds.
func (r *recording) until(what string, cond func() bool) {
	r.t.Helper()
	r.within(patience, what, cond)
}

// within is until with another patience.
func (r *recording) within(patience time.Duration, what string, cond func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		r.drain()
		if cond() {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s did not happen; recorded:\n%s", what, r.dump(nil))
		}
	}
}

// during drains the ring while an actor does something that takes a while.
func (r *recording) during(a *actor, format string, args ...any) int {
	r.t.Helper()
	a.begin(format, args...)
	done := make(chan struct{})
	var n, errno int
	go func() { n, errno = a.result(); close(done) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		r.drain()
		select {
		case <-done:
			if errno != 0 {
				r.t.Fatalf("%s: errno %d", a.name, errno)
			}
			return n
		case <-tick.C:
		}
	}
}

// lost returns how many records found no room.
func (r *recording) lost() uint64 {
	r.t.Helper()
	sum := 0
	for k := range bpf.RawKindCount {
		sum += r.lostOf(k)
	}
	return uint64(sum)
}

// left returns how many entries a map has.
func left(t testing.TB, m *ebpf.Map) int {
	t.Helper()
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	n := 0
	it := m.Iterate()
	for it.Next(&key, &value) {
		n++
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// A conn is everything recorded of one connection.
type conn struct {
	id           uint64
	netns        uint64
	family       uint64
	laddr, raddr string
	lport, rport uint64
	events       []format.Event
}

// conns groups the events by connection, in the order of their first events.
// Listeners are left out.
func (r *recording) conns() []*conn {
	list := r.sockets()
	return slices.DeleteFunc(list, (*conn).listens)
}

// listens reports whether it is a listener's socket and no connection.
func (c *conn) listens() bool {
	for _, e := range c.of(format.KindTCPState) {
		if e.V[format.StateNew] == format.TCPListen || e.V[format.StateOld] == format.TCPListen {
			return true
		}
	}
	for _, e := range c.of(format.KindTCPSnapshot) {
		if e.V[format.SnapshotState] == format.TCPListen {
			return true
		}
	}
	return false
}

func (r *recording) sockets() []*conn {
	by := map[uint64]*conn{}
	var list []*conn
	for _, e := range r.events {
		id := e.V[format.TCPConn]
		if id == 0 {
			continue
		}
		c := by[id]
		if c == nil {
			c = &conn{id: id}
			by[id] = c
			list = append(list, c)
		}
		c.events = append(c.events, e)
		if e.Kind == format.KindTCPEndpoints {
			c.netns, c.family = e.V[format.EndpointsNetns], e.V[format.EndpointsFamily]
			c.laddr, c.raddr = r.strings[e.V[format.EndpointsLaddr]], r.strings[e.V[format.EndpointsRaddr]]
			// A snapshot does not come through the ring, and may come before what
			// was told earlier, when the local port was not known.
			c.lport, c.rport = cmp.Or(e.V[format.EndpointsLport], c.lport), cmp.Or(e.V[format.EndpointsRport], c.rport)
		}
	}
	for _, c := range list {
		sort.SliceStable(c.events, func(i, j int) bool { return c.events[i].Time < c.events[j].Time })
	}
	return list
}

// of returns the events of a kind.
func (c *conn) of(k format.Kind) []format.Event {
	var es []format.Event
	for _, e := range c.events {
		if e.Kind == k {
			es = append(es, e)
		}
	}
	return es
}

// transitions writes the changes of state as "7>2 2>1", with ! behind what the
// task did and /errno behind what had one.
func (c *conn) transitions() string {
	var b []string
	for _, e := range c.of(format.KindTCPState) {
		s := fmt.Sprintf("%d>%d", e.V[format.StateOld], e.V[format.StateNew])
		if e.V[format.StateErr] != 0 {
			s += fmt.Sprintf("/%d", e.V[format.StateErr])
		}
		if e.V[format.StateProcess] != 0 {
			s += "!"
		}
		b = append(b, s)
	}
	return strings.Join(b, " ")
}

// dump writes events as lines, of all connections or one.
func (r *recording) dump(only *conn) string {
	events := r.events
	if only != nil {
		events = only.events
	}
	var b strings.Builder
	for i, e := range events {
		if i == 300 {
			b.WriteString("...\n")
			break
		}
		k := format.Kinds[e.Kind]
		t := r.tasks[e.Task]
		fmt.Fprintf(&b, "%d %-14s %d/%d %s uid=%d", e.Time, k.Name, t.pid, t.tid, t.comm, t.uid)
		for j, f := range k.Fields {
			switch v := e.V[j]; f.Type {
			case format.TypeString:
				fmt.Fprintf(&b, " %s=%s", f.Name, r.strings[v])
			case format.TypeEnum:
				fmt.Fprintf(&b, " %s=%s", f.Name, f.Enum[v])
			default:
				fmt.Fprintf(&b, " %s=%d", f.Name, int64(v))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
