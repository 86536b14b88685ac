package tcp

import "github.com/tcap-dev/tcap/format"

// A task is what the tests' sink makes of a task.
type task struct {
	pid, tid uint32
	comm     string
	uid      uint32
}

// memory is a Sink that keeps everything. Row 0 of each table is the empty one.
type memory struct {
	events  []format.Event
	strings []string
	tasks   []task
	rows    map[any]int
}

func newMemory() *memory {
	return &memory{strings: []string{""}, tasks: []task{{}}, rows: map[any]int{}}
}

func (m *memory) Append(e *format.Event) error { m.events = append(m.events, *e); return nil }

func (m *memory) String(s string) format.StringID {
	id, ok := m.rows[s]
	if !ok {
		id = len(m.strings)
		m.strings = append(m.strings, s)
		m.rows[s] = id
	}
	return format.StringID(id)
}

func (m *memory) KernelStack(addrs []uint64) format.StackID { return format.StackID(len(addrs)) }

func (m *memory) TaskOf(pid, tid uint32, comm string, uid uint32) format.TaskID {
	t := task{pid, tid, comm, uid}
	id, ok := m.rows[t]
	if !ok {
		id = len(m.tasks)
		m.tasks = append(m.tasks, t)
		m.rows[t] = id
	}
	return format.TaskID(id)
}
