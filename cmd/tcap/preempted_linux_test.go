package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/format"
)

// Two clocks that read the same interval differ by what happens between one reading
// and the other. For a thread that runs this is a trap; for one that the scheduler
// takes from its CPU right there it can be anything. So that is recorded, too: an
// interval may be longer than the server's by as much as its thread was kept from
// running, and no more.

// switchesOf declares what it takes: when which thread of a program left a CPU, in
// which state, and when one came.
func switchesOf(comm string) string {
	return fmt.Sprintf("tracepoint:sched:sched_switch(prev_pid=prev_pid, prev_state=prev_state, next_pid=next_pid) /prev_comm == %q || next_comm == %[1]q/", comm)
}

// An outage is a stretch of time in which a thread did not run though it waited for
// nothing that the program asked for: it was preempted, or the kernel had it wait, as for
// the lock on its address space, which traps and page faults take.
type outage struct{ from, to int64 }

// preempted are the outages of each thread, in ns since the start of the recording.
func (r *recorder) preempted() map[uint32][]outage {
	r.t.Helper()
	file, err := format.Open(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	out := map[uint32][]outage{}
	since := map[uint32]int64{}
	start := file.Header().Start.Mono
	for c, err := range file.Calls(format.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		prev, ok := c.Uint("prev_pid")
		state, ok2 := c.Int("prev_state")
		next, ok3 := c.Uint("next_pid")
		if !ok || !ok2 || !ok3 {
			continue // a query
		}
		const running, preempted, uninterruptible = 0, 0x100, 2 // TASK_RUNNING, TASK_REPORT_MAX, TASK_UNINTERRUPTIBLE
		if state == running || state == preempted || state == uninterruptible {
			since[uint32(prev)] = c.Entry - start
		}
		if from, ok := since[uint32(next)]; ok {
			out[uint32(next)] = append(out[uint32(next)], outage{from, c.Entry - start})
			delete(since, uint32(next))
		}
	}
	if len(out) == 0 {
		r.t.Error("no thread was ever preempted")
	}
	return out
}

// kept is how long a query's thread was kept from running between the two readings of
// the clock at its beginning, and between those at its end. They differ by more, so they
// lie no further than that from the ends.
func kept(q *query, more time.Duration, list []outage) (sum time.Duration) {
	end := q.start + int64(q.time)
	for _, o := range list {
		for _, window := range [][2]int64{{q.start, min(q.start+int64(more), end-int64(more))}, {max(end-int64(more), q.start), end}} {
			sum += time.Duration(max(0, min(o.to, window[1])-max(o.from, window[0])))
		}
	}
	return sum
}

// deviations are how much longer queries took than the server says.
//
// What the scheduler did is measured. What the machine did to a CPU is not: an
// interrupt, a hypervisor that has other guests. That hits few, and not the same
// statement each time that it is repeated.
type deviations struct {
	list        []time.Duration
	late        int            // beyond the bound
	worst       time.Duration  // of them
	unexplained map[string]int // times by statement that a thread which ran all the time was late
}

// slack is what two readings of an interval may differ by, and share of it.
const (
	slack = 200 * time.Microsecond
	share = 0.01
)

// add compares a query with the server's own account. It is never shorter, but for
// the microsecond in which the server counts.
func (d *deviations) add(t *testing.T, name string, got, want query, off map[uint32][]outage) {
	t.Helper()
	more := got.time - want.time
	d.list = append(d.list, more)
	if more < -time.Microsecond {
		t.Errorf("%s: it took %v, the slow log says %v", name, got.time, want.time)
	}
	if within(got.time, want.time, share, slack) {
		return
	}
	d.late++
	d.worst = max(d.worst, more)
	kept := kept(&got, more, off[got.tid])
	if !within(got.time-min(kept, more), want.time, share, slack) {
		t.Logf("%s: it took %v, the slow log says %v; its thread was kept from running for %v", name, got.time, want.time, kept)
		d.unexplained[name]++
	}
}

// check tells how the deviations are distributed, and fails where they are the
// recording's.
func (d *deviations) check(t *testing.T) {
	t.Helper()
	sum := 0
	for name, n := range d.unexplained {
		if sum += n; n >= repeats {
			t.Errorf("%s is late each time, and its thread was not preempted", name)
		}
	}
	slices.Sort(d.list)
	n := len(d.list)
	if n == 0 || sum*100 > n {
		t.Fatalf("%d of %d durations differ from the slow log's without a reason", sum, n)
	}
	t.Logf("%d durations are %v to %v longer than the slow log's, half of them by at most %v, 90 %% by %v, 99 %% by %v; %d by more than 1 %% and 200 us, up to %v, of which %d were not preempted",
		n, d.list[0], d.list[n-1], d.list[n/2], d.list[n*9/10], d.list[n*99/100], d.late, d.worst, sum)
}
