package format

// An Event is one thing that happened.
//
// V holds the fields of its kind, in the order of the table of kinds; the
// constants beside the kinds (AllocAddr, AllocSize, ...) name the indexes.
// A signed field is stored as its two's complement.
type Event struct {
	Kind Kind
	Task TaskID // who: a row of the task table; 0 is unknown
	Time int64  // when: CLOCK_MONOTONIC of the recording machine, ns
	Seq  uint64 // which: the event's place in the file, counted from 0; set by readers
	V    [MaxFields]uint64

	// Data are the bytes of the kind's field of TypeBytes, whose V is their
	// length; nil when there is none. They belong to the reader and are valid
	// until the next event is asked for.
	Data []byte
}

// Rows of the tables. Row 0 of each is the empty one: "", no stack, unknown.
type (
	StringID uint32
	ModuleID uint32
	FrameID  uint32
	StackID  uint32
	TaskID   uint32
	ProbeID  uint32
)

// A Task is a thread at one stage of its life: it gets a new row when its
// name, its address space or its identity changes.
type Task struct {
	Pid   uint32 // process (thread group) id
	Tid   uint32 // thread id; 0 with Pid 0 is the idle task
	Space uint32 // address space: unique in the capture; shared by threads and vfork children; 0 unknown
	Uid   uint32 // effective user id
	Comm  string // at most 15 bytes on Linux
	Start int64  // birth of the thread, CLOCK_MONOTONIC ns; 0 unknown
}

// A Module is an executable or library file that was mapped.
type Module struct {
	Path    string
	BuildID string // lower-case hexadecimal; "" when it has none

	code uint64 // column of the table: 0 unknown, else 1 + zigzag of address - offset
}

// WithCode returns the module with where its code is: the virtual address, as
// symbol tables and DWARF have it, of an offset in its executable segment. A debug
// file that is found later does not tell offsets any more.
func (m Module) WithCode(addr, offset uint64) Module {
	m.code = 1 + zigzag(int64(addr-offset))
	return m
}

// Address turns an offset in the file into a virtual address of the module;
// false when the capture does not tell.
func (m Module) Address(offset uint64) (uint64, bool) {
	return offset + uint64(unzigzag(m.code-1)), m.code != 0
}

// A Frame is one line of a stack, resolved on the recording machine as far as
// that was possible. Inlined calls are frames of their own with Inlined set,
// whose caller is their parent in the stack.
type Frame struct {
	Module   ModuleID // 0 when the address lay in no known file
	Offset   uint64   // file offset in the module; the raw address when Module is 0
	Function string   // demangled; "" when unknown
	File     string
	Line     uint32
	Inlined  bool
}

// A Symbol is what is known of a [Frame] beyond its address, often later than
// the frame itself. A frame has several when calls were inlined there.
type Symbol struct {
	Function string // demangled
	File     string
	Line     uint32
	Inlined  bool // into the symbol after it
}

// A StackNode is a row of the stack table: a frame and the row of its caller.
// Stacks are trees of such edges: equal callers are stored once.
type StackNode struct {
	Parent StackID // the caller; 0 at the outermost frame
	Frame  FrameID
}
