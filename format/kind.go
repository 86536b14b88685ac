package format

// A Kind says what happened. Its number is its number on the wire: it is never
// reused, and kinds are only ever added.
type Kind uint8

// The event kinds of format version 1.
const (
	KindInvalid Kind = iota

	KindAlloc   // a heap block was born
	KindRealloc // a heap block died and another was born in one call
	KindFree    // a heap block died
	KindMap     // mmap succeeded
	KindUnmap   // munmap succeeded
	KindRemap   // mremap succeeded
	KindBrk     // brk moved the program break

	KindFork    // a process was made
	KindExec    // a process replaced its image
	KindExit    // a process (not a thread) ended
	KindComm    // a task changed its name
	KindMapping // an executable mapping appeared
	KindUnmapping

	KindTCPEndpoints  // the addresses of a connection became known or changed
	KindTCPState      // inet_sock_set_state
	KindTCPConnect    // connect(2) on a TCP socket returned
	KindTCPAccept     // accept(2) returned a TCP socket
	KindTCPRetransmit // a segment was retransmitted
	KindTCPReset      // an RST was sent or received
	KindTCPDestroy    // the kernel freed the socket
	KindTCPSnapshot   // a socket that an iterator found open

	KindLoss // the recorder knows that it lost events
	KindNote // the recorder says something about this capture

	KindCall // a probe fired: a declared function returned, or was entered

	KindTCPStack // the kernel's stack at something that happened to a connection
)

// FieldType says how a field's 64-bit value is to be understood, and thereby
// how a column of such values is stored.
type FieldType uint8

// Field types. Their numbers are on the wire.
const (
	TypeInvalid FieldType = iota
	TypeUint              // unsigned number
	TypeInt               // signed number (two's complement in the 64 bits)
	TypeDelta             // unsigned number that is close to the one before it
	TypeAddr              // an address
	TypeBlock             // the address at which a heap block is born
	TypeFreed             // the address of a heap block that dies
	TypeEnum              // an index into Field.Enum
	TypeString            // row of the string table; 0 is ""
	TypeStack             // row of the stack table; 0 is none
	TypeModule            // row of the module table; 0 is none
	TypeProbe             // row of the table of probes; 0 is none
	TypeBytes             // length of the bytes in Event.Data; at most one field of a kind
)

// A Unit is the unit of a field's value.
type Unit string

// Units of fields.
const (
	UnitNone  Unit = ""
	UnitBytes Unit = "bytes"
	UnitNs    Unit = "ns"
	UnitUs    Unit = "us"
)

// A Field is one value of an event kind.
type Field struct {
	Name string    // snake_case, as in text and JSON
	Type FieldType //
	Unit Unit      //
	Hex  bool      // text shows it in hexadecimal
	Enum []string  // names of the values of a TypeEnum field
}

// A KindInfo is a row of the table of kinds.
type KindInfo struct {
	Kind   Kind
	Name   string // dotted, as in text and JSON: heap.alloc
	Doc    string // one sentence
	Since  uint16 // first minor version of the format that has it
	Fields []Field
}

// MaxFields bounds the fields of a kind.
const MaxFields = 12

// Values of the fn field of heap events: the function that the program called.
const (
	FnMalloc = iota
	FnCalloc
	FnRealloc
	FnReallocarray
	FnPosixMemalign
	FnAlignedAlloc
	FnMemalign
	FnValloc
	FnPvalloc
	FnNew
	FnNewArray
	FnMallocx
	FnRallocx
	FnFree
	FnCfree
	FnFreeSized
	FnFreeAlignedSized
	FnDelete
	FnDeleteArray
	FnSdallocx
	FnDallocx
	fnCount
)

var heapFns = []string{
	"malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
	"new", "new[]", "mallocx", "rallocx",
	"free", "cfree", "free_sized", "free_aligned_sized", "delete", "delete[]", "sdallocx", "dallocx",
}

// TCP states as the kernel numbers them (include/net/tcp_states.h).
const (
	TCPEstablished = 1
	TCPSynSent     = 2
	TCPSynRecv     = 3
	TCPFinWait1    = 4
	TCPFinWait2    = 5
	TCPTimeWait    = 6
	TCPClose       = 7
	TCPCloseWait   = 8
	TCPLastAck     = 9
	TCPListen      = 10
	TCPClosing     = 11
	TCPNewSynRecv  = 12
)

var tcpStates = []string{
	"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
	"CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV", "BOUND_INACTIVE",
}

// Directions of KindTCPReset.
const (
	ResetSent = iota
	ResetReceived
)

// Values of the disconnected field of KindTCPDestroy. tcp_disconnect, which
// SO_LINGER 0 and connect(AF_UNSPEC) lead to, clears the socket's own counters
// and an ordinary close does not (net/ipv4/tcp.c): the only trace of an abort on
// kernels whose resets have no reason.
const (
	DisconnectUnknown = iota
	DisconnectNo      // the counters were what they had been at CLOSE, and not all 0
	DisconnectYes     // they were 0, and had not all been 0 at CLOSE
)

// Values of the process field of KindTCPState: what the task did.
const (
	ProcessNo    = iota // nothing: a packet or a timer changed the state
	ProcessOther        // a system call that has no name here; older recorders say no more
	ProcessClose
	ProcessCloseRange
	ProcessShutdown
	ProcessExit // it ended by itself, and the kernel closed what it had left open
	ProcessKill // the same, ended by a signal
	ProcessExec // a descriptor with FD_CLOEXEC
	ProcessDup  // dup2 put another file in its place
	ProcessConnect
)

// Values of the at field of KindTCPStack.
const (
	StackAtState = iota
	StackAtRetransmit
	StackAtResetSent
	StackAtResetReceived
)

// Values of the when field of KindTCPSnapshot.
const (
	SnapshotStart = iota // found when the recording began
	SnapshotEnd          // still open when it ended
)

// Values of the outcome field of KindCall.
const (
	CallReturned   = iota // entry and return were seen
	CallEntered           // the probe is one of the entry only; no duration
	CallLeft              // left without a return: longjmp, an exception, another stack. Duration ends when that was noticed
	CallUnfinished        // still running when the recording ended, which is where duration ends
	CallUnentered         // only the return was seen; no duration, and what belongs to the entry is at fault
)

// Fields of the heap kinds, as indexes into Event.V.
const (
	AllocAddr, AllocSize, AllocStack, AllocFn                                      = 0, 1, 2, 3
	ReallocOld, ReallocAddr, ReallocSize, ReallocStack, ReallocFn, ReallocDuration = 0, 1, 2, 3, 4, 5
	FreeAddr, FreeFn                                                               = 0, 1
	MapAddr, MapLength, MapProt, MapFlags, MapFd, MapNested, MapStack              = 0, 1, 2, 3, 4, 5, 6
	UnmapAddr, UnmapLength, UnmapNested                                            = 0, 1, 2
	RemapOld, RemapOldLength, RemapAddr, RemapLength, RemapNested                  = 0, 1, 2, 3, 4
	BrkOld, BrkNew, BrkNested                                                      = 0, 1, 2
	ForkChildPid, ForkChildTid, ForkChildSpace, ForkSharedVM, ForkThread           = 0, 1, 2, 3, 4
	ExecPath, ExecSpace                                                            = 0, 1
	ExitCode, ExitSpaceGone                                                        = 0, 1
	CommName                                                                       = 0
	MappingStart, MappingEnd, MappingOffset, MappingModule                         = 0, 1, 2, 3
	UnmappingStart, UnmappingEnd                                                   = 0, 1
	LossKind, LossCPU, LossCount, LossFrom, LossTo                                 = 0, 1, 2, 3, 4
	NoteLevel, NoteText                                                            = 0, 1

	CallProbe, CallOutcome, CallDuration, CallDepth, CallFaults, CallStack, CallArgs = 0, 1, 2, 3, 4, 5, 6
)

// Fields of the TCP kinds. The connection is always field 0.
const (
	TCPConn = 0

	EndpointsNetns, EndpointsFamily, EndpointsLaddr, EndpointsLport, EndpointsRaddr, EndpointsRport, EndpointsUid = 1, 2, 3, 4, 5, 6, 7

	StateOld, StateNew, StateErr, StateShutdown, StateTx, StateRx, StateRetransmits, StateSrtt, StateMinRtt = 1, 2, 3, 4, 5, 6, 7, 8, 9
	StateProcess, StateSinceCall                                                                            = 10, 11

	ConnectFd, ConnectErrno, ConnectDuration, ConnectUid, ConnectRaddr, ConnectRport, ConnectFamily, ConnectNetns = 1, 2, 3, 4, 5, 6, 7, 8
	AcceptFd, AcceptUid                                                                                           = 1, 2
	RetransmitState                                                                                               = 1
	ResetDirection, ResetReason, ResetState                                                                       = 1, 2, 3
	DestroyTx, DestroyRx, DestroyRetransmits, DestroyMinRtt, DestroyDisconnected, DestroyIdle                     = 1, 2, 3, 4, 5, 6

	TCPStackAt, TCPStackOld, TCPStackNew, TCPStackStack = 1, 2, 3, 4

	SnapshotWhen, SnapshotState, SnapshotFd, SnapshotUid, SnapshotTx, SnapshotRx, SnapshotRetransmits, SnapshotSrtt, SnapshotMinRtt = 1, 2, 3, 4, 5, 6, 7, 8, 9
)

var (
	boolNames = []string{"no", "yes"}
	families  = []string{"unknown", "ipv4", "ipv6"} // values 4 and 6 are stored as 1 and 2

	processActs = []string{"no", "yes", "close", "close_range", "shutdown", "exit", "kill", "exec", "dup", "connect"}
)

// IP families as stored in TypeEnum fields.
const (
	FamilyUnknown = iota
	FamilyIPv4
	FamilyIPv6
)

// Kinds is the table of event kinds, in wire order; Kinds[k].Kind == k.
// Appending a row, or a field to a row, is all that a new kind or field needs
// here; rows and fields are never removed, reordered or given another type.
var Kinds = []KindInfo{
	{Kind: KindInvalid, Name: "invalid"},
	{KindAlloc, "heap.alloc", "A heap block was born; the time is the call's return.", 0, []Field{
		{Name: "addr", Type: TypeBlock, Hex: true},
		{Name: "size", Type: TypeUint, Unit: UnitBytes},
		{Name: "stack", Type: TypeStack},
		{Name: "fn", Type: TypeEnum, Enum: heapFns},
	}},
	{KindRealloc, "heap.realloc", "A heap block died when the call began and another was born when it returned; the time is the return.", 0, []Field{
		{Name: "old", Type: TypeFreed, Hex: true},
		{Name: "addr", Type: TypeBlock, Hex: true},
		{Name: "size", Type: TypeUint, Unit: UnitBytes},
		{Name: "stack", Type: TypeStack},
		{Name: "fn", Type: TypeEnum, Enum: heapFns},
		{Name: "duration", Type: TypeUint, Unit: UnitNs},
	}},
	{KindFree, "heap.free", "A heap block died; the time is the call's entry.", 0, []Field{
		{Name: "addr", Type: TypeFreed, Hex: true},
		{Name: "fn", Type: TypeEnum, Enum: heapFns},
	}},
	{KindMap, "mem.map", "mmap(2) succeeded.", 0, []Field{
		{Name: "addr", Type: TypeAddr, Hex: true},
		{Name: "length", Type: TypeUint, Unit: UnitBytes},
		{Name: "prot", Type: TypeUint},
		{Name: "flags", Type: TypeUint, Hex: true},
		{Name: "fd", Type: TypeInt},
		{Name: "nested", Type: TypeEnum, Enum: boolNames}, // inside an allocator call
		{Name: "stack", Type: TypeStack},
	}},
	{KindUnmap, "mem.unmap", "munmap(2) succeeded.", 0, []Field{
		{Name: "addr", Type: TypeAddr, Hex: true},
		{Name: "length", Type: TypeUint, Unit: UnitBytes},
		{Name: "nested", Type: TypeEnum, Enum: boolNames},
	}},
	{KindRemap, "mem.remap", "mremap(2) succeeded.", 0, []Field{
		{Name: "old", Type: TypeAddr, Hex: true},
		{Name: "old_length", Type: TypeUint, Unit: UnitBytes},
		{Name: "addr", Type: TypeAddr, Hex: true},
		{Name: "length", Type: TypeUint, Unit: UnitBytes},
		{Name: "nested", Type: TypeEnum, Enum: boolNames},
	}},
	{KindBrk, "mem.brk", "brk(2) moved the program break.", 0, []Field{
		{Name: "old", Type: TypeAddr, Hex: true},
		{Name: "new", Type: TypeAddr, Hex: true},
		{Name: "nested", Type: TypeEnum, Enum: boolNames},
	}},
	{KindFork, "proc.fork", "The task made a process, or a thread.", 0, []Field{
		{Name: "child_pid", Type: TypeUint},
		{Name: "child_tid", Type: TypeUint},
		{Name: "child_space", Type: TypeUint},
		{Name: "shared_vm", Type: TypeEnum, Enum: boolNames},
		{Name: "thread", Type: TypeEnum, Enum: boolNames},
	}},
	{KindExec, "proc.exec", "The process replaced its image; its old address space is gone.", 0, []Field{
		{Name: "path", Type: TypeString},
		{Name: "space", Type: TypeUint},
	}},
	{KindExit, "proc.exit", "The process ended.", 0, []Field{
		{Name: "code", Type: TypeUint, Hex: true}, // as wait(2) would report it
		{Name: "space_gone", Type: TypeEnum, Enum: boolNames},
	}},
	{KindComm, "proc.comm", "The task changed its name.", 0, []Field{
		{Name: "name", Type: TypeString},
	}},
	{KindMapping, "proc.mapping", "An executable file mapping appeared.", 0, []Field{
		{Name: "start", Type: TypeAddr, Hex: true},
		{Name: "end", Type: TypeAddr, Hex: true},
		{Name: "offset", Type: TypeUint, Hex: true},
		{Name: "module", Type: TypeModule},
	}},
	{KindUnmapping, "proc.unmapping", "Executable mappings in a range went away.", 0, []Field{
		{Name: "start", Type: TypeAddr, Hex: true},
		{Name: "end", Type: TypeAddr, Hex: true},
	}},
	{KindTCPEndpoints, "tcp.endpoints", "The addresses of a connection became known or changed.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "netns", Type: TypeUint},
		{Name: "family", Type: TypeEnum, Enum: families},
		{Name: "laddr", Type: TypeString},
		{Name: "lport", Type: TypeUint},
		{Name: "raddr", Type: TypeString},
		{Name: "rport", Type: TypeUint},
		{Name: "uid", Type: TypeUint},
	}},
	{KindTCPState, "tcp.state", "The connection changed its state; the task is whoever processed the packet unless process says otherwise.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "old", Type: TypeEnum, Enum: tcpStates},
		{Name: "new", Type: TypeEnum, Enum: tcpStates},
		{Name: "err", Type: TypeUint},      // sk_err
		{Name: "shutdown", Type: TypeUint}, // sk_shutdown: 1 receive, 2 send
		{Name: "tx", Type: TypeUint, Unit: UnitBytes},
		{Name: "rx", Type: TypeUint, Unit: UnitBytes},
		{Name: "retransmits", Type: TypeUint},
		{Name: "srtt", Type: TypeUint, Unit: UnitUs},
		{Name: "min_rtt", Type: TypeUint, Unit: UnitUs},
		{Name: "process", Type: TypeEnum, Enum: processActs}, // what the task itself did to cause it; no: a packet or a timer did
		{Name: "since_call", Type: TypeUint, Unit: UnitNs},   // from the entry of close or shutdown to the change; 0 not known
	}},
	{KindTCPConnect, "tcp.connect", "connect(2) on a TCP socket returned.", 0, []Field{
		{Name: "conn", Type: TypeDelta}, // 0: the call failed before the kernel gave the socket an identity
		{Name: "fd", Type: TypeInt},
		{Name: "errno", Type: TypeUint},
		{Name: "duration", Type: TypeUint, Unit: UnitNs},
		{Name: "uid", Type: TypeUint},
		{Name: "raddr", Type: TypeString},
		{Name: "rport", Type: TypeUint},
		{Name: "family", Type: TypeEnum, Enum: families},
		{Name: "netns", Type: TypeUint},
	}},
	{KindTCPAccept, "tcp.accept", "accept(2) returned the connection to the task.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "fd", Type: TypeInt},
		{Name: "uid", Type: TypeUint},
	}},
	{KindTCPRetransmit, "tcp.retransmit", "A segment was sent again.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "state", Type: TypeEnum, Enum: tcpStates},
	}},
	{KindTCPReset, "tcp.reset", "An RST went out or came in.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "direction", Type: TypeEnum, Enum: []string{"sent", "received"}},
		{Name: "reason", Type: TypeUint}, // enum sk_rst_reason, 0 where the kernel has none
		{Name: "state", Type: TypeEnum, Enum: tcpStates},
	}},
	{KindTCPDestroy, "tcp.destroy", "The kernel freed the socket; its last counters.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "tx", Type: TypeUint, Unit: UnitBytes},
		{Name: "rx", Type: TypeUint, Unit: UnitBytes},
		{Name: "retransmits", Type: TypeUint},
		{Name: "min_rtt", Type: TypeUint, Unit: UnitUs},
		{Name: "disconnected", Type: TypeEnum, Enum: []string{"unknown", "no", "yes"}},
		{Name: "idle", Type: TypeUint, Unit: UnitNs}, // without payload before it left ESTABLISHED; 1 less than a tick, 0 not known
	}},
	{KindTCPSnapshot, "tcp.snapshot", "A task's open TCP socket, when the recording began or ended.", 0, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "when", Type: TypeEnum, Enum: []string{"start", "end"}},
		{Name: "state", Type: TypeEnum, Enum: tcpStates},
		{Name: "fd", Type: TypeInt},
		{Name: "uid", Type: TypeUint},
		{Name: "tx", Type: TypeUint, Unit: UnitBytes},
		{Name: "rx", Type: TypeUint, Unit: UnitBytes},
		{Name: "retransmits", Type: TypeUint},
		{Name: "srtt", Type: TypeUint, Unit: UnitUs},
		{Name: "min_rtt", Type: TypeUint, Unit: UnitUs},
	}},
	{KindLoss, "meta.loss", "Events that the recorder knows it lost.", 0, []Field{
		{Name: "kind", Type: TypeUint}, // a Kind; 0 when unknown
		{Name: "cpu", Type: TypeInt},
		{Name: "count", Type: TypeUint},
		{Name: "from", Type: TypeUint, Unit: UnitNs}, // window: between these times
		{Name: "to", Type: TypeUint, Unit: UnitNs},
	}},
	{KindNote, "meta.note", "A remark of the recorder about this capture.", 0, []Field{
		{Name: "level", Type: TypeEnum, Enum: []string{"info", "warning"}},
		{Name: "text", Type: TypeString},
	}},
	{KindCall, "call", "A probe fired; the time is the return's, or the entry's where only that is probed.", 1, []Field{
		{Name: "probe", Type: TypeProbe},
		{Name: "outcome", Type: TypeEnum, Enum: []string{"returned", "entered", "left", "unfinished", "unentered"}},
		{Name: "duration", Type: TypeUint, Unit: UnitNs},
		{Name: "depth", Type: TypeUint},             // calls of this probe by this thread that it is in, itself included
		{Name: "faults", Type: TypeUint, Hex: true}, // bit i: argument i could not be read; bit 32+i: nor where it ends, a text
		{Name: "stack", Type: TypeStack},
		{Name: "args", Type: TypeBytes}, // as the probe declares them, see Call
	}},
	{KindTCPStack, "tcp.stack", "Where the kernel was when something happened to the connection: the event is near, before or after.", 1, []Field{
		{Name: "conn", Type: TypeDelta},
		{Name: "at", Type: TypeEnum, Enum: []string{"state", "retransmit", "reset_sent", "reset_received"}},
		{Name: "old", Type: TypeEnum, Enum: tcpStates}, // of a change, else the state that it was in
		{Name: "new", Type: TypeEnum, Enum: tcpStates}, // of a change, else NONE
		{Name: "stack", Type: TypeStack},
	}},
}
