// Package call turns declarations of probes into what the BPF programs follow,
// and their records into arguments.
//
// A [Program] is data: the registers to start from, the pointers to follow, the
// comparisons to make (struct probe in bpf/declared.h). Nothing is compiled to
// machine code, so that a recorder needs no compiler and the verifier has seen
// all that can run before any probe is declared.
package call

import (
	"fmt"
	"unsafe"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// A Program is a compiled declaration.
type Program struct {
	Raw  bpf.RawProbe
	Args []format.Argument // what its records have

	fetch []int // of each argument: its place among the numbers of a record
	texts []int // fetches that are text, in the order in which it is in a record
	room  int   // bytes of a record at most
	text  int   // bytes of the longest text
}

// NeedsReturn reports whether calls are seen from entry to return.
func (p *Program) NeedsReturn() bool {
	return p.Raw.Flags&uint16(bpf.RawProbeFlagProbeReturns) != 0
}

// headerSize is what comes before the numbers of a record.
const headerSize = int(unsafe.Offsetof(bpf.RawCalled{}.Num))

// As bpf/declared.h has them.
const (
	maxFetches = len(bpf.RawProbe{}.Fetch)
	maxTerms   = len(bpf.RawProbe{}.Term)
	maxWords   = len(bpf.RawProbe{}.Word)
	maxSteps   = len(bpf.RawFetch{}.Off) - 1
	scanLen    = 4096
	atLeast    = 1 << 31
	callerSize = int(unsafe.Offsetof(bpf.RawCaller{}.Room))
	// MaxChain bounds the probes at one place.
	MaxChain = 4
)

// Rooms are the sizes that the programs and their maps are loaded with.
type Rooms struct {
	Caller int // how far into a thread's room a record may begin, bytes
	Record int // how long a record can get
	Text   int // what a text may take while it is read
}

// Value is the size of a value of the maps of callers.
func (r Rooms) Value() int { return callerSize + r.Caller + r.Record }

// RoomsFor returns what the programs need.
func RoomsFor(programs []*Program) Rooms {
	r := Rooms{Text: 64, Record: int(unsafe.Sizeof(bpf.RawCalled{})) + scanLen}
	most := 0
	for _, p := range programs {
		r.Text = max(r.Text, p.text+2)
		most = max(most, p.room)
	}
	r.Record = max(r.Record, most+r.Text+scanLen)
	// Room for the calls that a thread is in: many without texts, few with long ones.
	r.Caller = min(max(8*most, 16<<10), 64<<10) &^ 7
	return r
}

// Decode appends the arguments of a record to args. symbol gives the frame of an
// address. The texts are part of the record.
func (p *Program) Decode(rec []byte, args []format.Arg, symbol func(addr uint64) format.FrameID) ([]format.Arg, error) {
	n := int(p.Raw.Fetches)
	if len(rec) < headerSize {
		return args, fmt.Errorf("record of a call of %d bytes", len(rec))
	}
	faults := *(*uint32)(unsafe.Pointer(&rec[unsafe.Offsetof(bpf.RawCalled{}.Faults)]))
	if rec[unsafe.Offsetof(bpf.RawHdr{}.Fn)] == uint8(bpf.RawOutcomeCallUnentered) {
		for range p.Args {
			args = append(args, format.Arg{Fault: true})
		}
		return args, nil
	}
	if len(rec) < headerSize+8*n {
		return args, fmt.Errorf("record of a call of %d bytes, want %d numbers", len(rec), n)
	}
	nums := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(rec[headerSize:]))), n)
	var texts [maxFetches][]byte
	rest := rec[headerSize+8*n:]
	for _, f := range p.texts {
		if faults>>f&1 != 0 {
			continue
		}
		kept := nums[f] & 0xffffffff
		if kept > uint64(len(rest)) {
			return args, fmt.Errorf("record of a call: a text of %d bytes in %d", kept, len(rest))
		}
		texts[f], rest = rest[:kept], rest[kept:]
	}
	for i, f := range p.fetch {
		a := format.Arg{Fault: faults>>f&1 != 0}
		switch t := p.Args[i].Type; {
		case a.Fault:
		case t.IsText():
			a.Text, a.Len = texts[f], int(nums[f]>>32&^atLeast)
			a.AtLeast = nums[f]>>32&atLeast != 0
		case t == format.ArgSym:
			a.Num = uint64(symbol(nums[f]))
		default:
			a.Num = nums[f]
		}
		args = append(args, a)
	}
	return args, nil
}
