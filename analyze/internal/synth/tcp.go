package synth

import (
	"fmt"
	"io"

	"github.com/tcap-dev/tcap/format"
)

// holders is how many connections a process of WriteTCP holds.
const holders = 16000

// WriteTCP writes a capture of connections between pairs of processes, both of whose ends
// are recorded and open when the recording ends: what `capture/bench -only million` records.
func WriteTCP(w io.Writer, connections int) error {
	start := format.ClockAnchor{Mono: 1_000_000_000_000, Wall: 1_767_225_600_000_000_000}
	fw, err := format.NewWriter(w, format.Header{Tool: "tcap", ToolVersion: "synth", Kernel: "6.18", Start: start}, format.WriterOptions{})
	if err != nil {
		return fmt.Errorf("begin capture: %w", err)
	}
	c := crowd{w: fw, now: start.Mono}
	for i := range connections {
		c.open(i)
	}
	for i := range connections {
		c.snapshot(i)
	}
	end := format.ClockAnchor{Mono: c.now, Wall: start.Wall + c.now - start.Mono}
	if cerr := fw.Close(format.Trailer{End: end, Reason: "interrupted"}); c.err == nil {
		c.err = cerr
	}
	if c.err != nil {
		return fmt.Errorf("write capture: %w", c.err)
	}
	return nil
}

// A crowd are the processes that hold the connections. Its first error sticks.
type crowd struct {
	w   *format.Writer
	now int64
	err error
}

func (c *crowd) append(kind format.Kind, task format.TaskID, v ...uint64) {
	e := format.Event{Kind: kind, Time: c.now, Task: task}
	copy(e.V[:], v)
	c.now += 700
	if err := c.w.Append(&e); c.err == nil {
		c.err = err
	}
}

// tasks are the two processes of a connection.
func (c *crowd) tasks(i int) (client, server format.TaskID) {
	pair := uint32(i / holders)
	return c.w.Task(format.Task{Pid: 1000 + 2*pair, Tid: 1000 + 2*pair, Space: 1, Comm: "client"}),
		c.w.Task(format.Task{Pid: 1001 + 2*pair, Tid: 1001 + 2*pair, Space: 2, Comm: "server"})
}

const netns, service = 4026532000, 7000

func (c *crowd) open(i int) {
	client, server := c.tasks(i)
	out, in := uint64(2*i+1), uint64(2*i+2)
	local, port := uint64(c.w.String("127.0.0.1")), uint64(10000+i%holders)
	peer := uint64(c.w.String(fmt.Sprintf("127.0.1.%d", 1+i/holders)))
	state := func(task format.TaskID, conn, old, new, process uint64) {
		c.append(format.KindTCPState, task, conn, old, new, 0, 0, 0, 0, 0, 40, 20, process)
	}
	c.append(format.KindTCPEndpoints, client, out, netns, format.FamilyIPv4, local, 0, peer, service, 0)
	state(client, out, format.TCPClose, format.TCPSynSent, format.ProcessConnect)
	c.append(format.KindTCPEndpoints, 0, in, netns, format.FamilyIPv4, peer, service, local, port, 0)
	state(0, in, format.TCPSynRecv, format.TCPEstablished, format.ProcessNo)
	c.append(format.KindTCPEndpoints, client, out, netns, format.FamilyIPv4, local, port, peer, service, 0)
	state(0, out, format.TCPSynSent, format.TCPEstablished, format.ProcessNo)
	c.append(format.KindTCPConnect, client, out, uint64(3+i%holders), 0, 9000, 0, peer, service, format.FamilyIPv4, netns)
	c.append(format.KindTCPAccept, server, in, uint64(4+i%holders), 0)
}

func (c *crowd) snapshot(i int) {
	client, server := c.tasks(i)
	for n, task := range []format.TaskID{client, server} {
		c.append(format.KindTCPSnapshot, task, uint64(2*i+1+n), format.SnapshotEnd, format.TCPEstablished, uint64(3+n+i%holders), 0, 0, 0, 0, 40, 20)
	}
}
