package format

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// A Probe is a row of the table of probes: a place in a program that the
// recorder watched, and what it read there. Events of [KindCall] refer to it.
type Probe struct {
	Name string `json:"name"`           // as text and JSON show it, unique by custom
	Pack string `json:"pack,omitempty"` // where it comes from; "" when it was declared on the command line
	Role string `json:"role,omitempty"` // what it means to an analysis: RoleClose, ... or any other word
	Declaration
}

// Roles that analyses know a probe by. docs/packs.md says what arguments they have.
const (
	RoleClose   = "close"   // closes a connection
	RoleRequest = "request" // ends a request
	RoleSpawn   = "spawn"   // begins a coroutine
	RoleQuery   = "query"   // executes SQL
	RolePrepare = "prepare" // keeps a statement for later
	RoleExecute = "execute" // executes what was prepared, inside a query
	RoleAnswer  = "answer"  // begins the answer to a query
	RoleCommand = "command" // executes a command, as redis has them
)

// A Declaration says what a probe watches and reads.
type Declaration struct {
	Source string     `json:"source,omitempty"` // as it was declared
	Type   string     `json:"type,omitempty"`   // uprobe, uretprobe, usdt, tracepoint, kprobe, kretprobe
	Path   string     `json:"path,omitempty"`   // of the file, as the recorder saw it
	Symbol string     `json:"symbol,omitempty"` // function, provider:name or category:name
	Filter string     `json:"filter,omitempty"` // the condition that held in the kernel
	Args   []Argument `json:"args,omitempty"`
}

// An Argument is a value that a probe reads.
type Argument struct {
	Name string  `json:"name"`
	Type ArgType `json:"type"`
	Expr string  `json:"expr,omitempty"` // where it is read, as declared
}

// ArgIndex returns the place of an argument, -1 when the probe has none of that
// name.
func (p *Probe) ArgIndex(name string) int {
	for i := range p.Args {
		if p.Args[i].Name == name {
			return i
		}
	}
	return -1
}

// An ArgType is the type of an argument, by the name it has in a declaration.
type ArgType string

// The types of arguments.
const (
	ArgU8     ArgType = "u8"
	ArgU16    ArgType = "u16"
	ArgU32    ArgType = "u32"
	ArgU64    ArgType = "u64"
	ArgI8     ArgType = "i8"
	ArgI16    ArgType = "i16"
	ArgI32    ArgType = "i32"
	ArgI64    ArgType = "i64"
	ArgBool   ArgType = "bool"
	ArgPtr    ArgType = "ptr"    // an address as it is
	ArgSym    ArgType = "sym"    // an address shown as the symbol there
	ArgStr    ArgType = "str"    // text up to a NUL
	ArgBuf    ArgType = "buf"    // bytes of a given length
	ArgIPAddr ArgType = "ipaddr" // 4 or 16 bytes in network order
)

// An argClass says how a value is stored and where [Arg] has it.
type argClass uint8

const (
	classUnknown  argClass = iota
	classUnsigned          // uvarint
	classSigned            // zigzag uvarint
	classFrame             // uvarint: row of the frame table
	classText              // bytes kept <uvarint>, bytes there were beyond them <uvarint>, the bytes
)

var argClasses = map[ArgType]argClass{
	ArgU8: classUnsigned, ArgU16: classUnsigned, ArgU32: classUnsigned, ArgU64: classUnsigned,
	ArgI8: classSigned, ArgI16: classSigned, ArgI32: classSigned, ArgI64: classSigned,
	ArgBool: classUnsigned, ArgPtr: classUnsigned, ArgSym: classFrame,
	ArgStr: classText, ArgBuf: classText, ArgIPAddr: classText,
}

// Known reports whether t is a type that this package knows.
func (t ArgType) Known() bool { return argClasses[t] != classUnknown }

// IsText reports whether values of t are in Arg.Text rather than in Arg.Num.
func (t ArgType) IsText() bool { return argClasses[t] == classText }

// Signed reports whether Arg.Num is a two's complement.
func (t ArgType) Signed() bool { return argClasses[t] == classSigned }

// Range returns the least and the greatest number of type t.
func (t ArgType) Range() (least int64, most uint64) {
	bits := 64
	switch t {
	case ArgBool:
		bits = 1
	case ArgU8, ArgI8:
		bits = 8
	case ArgU16, ArgI16:
		bits = 16
	case ArgU32, ArgI32:
		bits = 32
	}
	if t.Signed() {
		return -1 << (bits - 1), 1<<(bits-1) - 1
	}
	return 0, ^uint64(0) >> (64 - bits)
}

// MaxArgs bounds the arguments of a probe.
const MaxArgs = 32

// maxData bounds the bytes of an event.
const maxData = 48 << 10

// Check says what is wrong with a probe's declaration, nil when nothing is.
func (p *Probe) Check() error {
	if p.Name == "" {
		return errors.New("a probe needs a name")
	}
	if len(p.Args) > MaxArgs {
		return fmt.Errorf("%d arguments, a probe has at most %d", len(p.Args), MaxArgs)
	}
	for i, a := range p.Args {
		switch {
		case !isName(a.Name):
			return fmt.Errorf("argument %d: %q is no name: letters, digits and _, and no digit first", i, a.Name)
		case p.ArgIndex(a.Name) != i:
			return fmt.Errorf("argument %q is there twice", a.Name)
		case isCallField(a.Name):
			return fmt.Errorf("argument %q has a name that every call uses already: put another and = before it", a.Name)
		case !a.Type.Known():
			return fmt.Errorf("argument %q is of type %q, which there is not", a.Name, a.Type)
		}
	}
	return nil
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isCallField reports whether the text form uses a name for something else.
func isCallField(name string) bool {
	for _, f := range Kinds[KindCall].Fields {
		if f.Name == name {
			return true
		}
	}
	return name == "space"
}

// Probe returns the row of p in the table of probes. The error says what is
// wrong with p.
func (w *Writer) Probe(p Probe) (ProbeID, error) {
	if err := p.Check(); err != nil {
		return 0, fmt.Errorf("probe %s: %w", p.Name, err)
	}
	text, err := json.Marshal(p.Declaration)
	if err != nil {
		return 0, fmt.Errorf("probe %s: %w", p.Name, err)
	}
	if len(text) > maxString {
		return 0, fmt.Errorf("probe %s: %w: a declaration of %d bytes", p.Name, ErrLimit, len(text))
	}
	row := probeRow{w.String(p.Name), w.String(string(text)), w.String(p.Pack), w.String(p.Role)}
	if id, ok := w.probes[row]; ok {
		return id, nil
	}
	id := ProbeID(w.addRow(tableProbes, uint64(row.name), uint64(row.declaration), uint64(row.pack), uint64(row.role)))
	w.probes[row] = id
	w.declared = append(w.declared, p)
	return id, nil
}

// Probes returns the probes of the capture. Their numbers are 1 and on.
func (r *Reader) Probes() []Probe {
	out := make([]Probe, 0, min(r.tables.probes.end(), maxProbes))
	for id := ProbeID(1); uint32(id) < r.tables.probes.end() && id <= maxProbes; id++ {
		p, _ := r.Probe(id)
		out = append(out, p)
	}
	return out
}

// Probe returns a row of the table of probes; false when there is none, or
// when it cannot be read.
func (r *Reader) Probe(id ProbeID) (Probe, bool) {
	p, err := r.probe(id)
	if err != nil {
		return Probe{}, false
	}
	return *p, true
}

// probeName names a probe even where its declaration cannot be read.
func (r *Reader) probeName(id ProbeID) string {
	row, _ := r.tables.probes.get(uint32(id))
	if name := r.String(row.name); name != "" {
		return name
	}
	return fmt.Sprintf("#%d", id)
}

// maxProbes bounds the probes that a reader remembers, or lists.
const maxProbes = 1 << 12

// probe returns a row of the table of probes, which the caller must not change.
func (r *Reader) probe(id ProbeID) (*Probe, error) {
	r.probesMu.RLock()
	p := r.probes[id]
	r.probesMu.RUnlock()
	if p != nil {
		return p, nil
	}
	row, ok := r.tables.probes.get(uint32(id))
	if !ok {
		return nil, fmt.Errorf("%w: no probe %d", ErrMalformed, id)
	}
	p = &Probe{}
	if err := json.Unmarshal([]byte(r.String(row.declaration)), &p.Declaration); err != nil {
		return nil, fmt.Errorf("%w: declaration of probe %d: %w", ErrMalformed, id, err)
	}
	if len(p.Args) > MaxArgs {
		return nil, fmt.Errorf("%w: probe %d has %d arguments", ErrLimit, id, len(p.Args))
	}
	p.Name, p.Pack, p.Role = r.String(row.name), r.String(row.pack), r.String(row.role)
	r.probesMu.Lock()
	defer r.probesMu.Unlock()
	if r.probes == nil || len(r.probes) >= maxProbes {
		r.probes = map[ProbeID]*Probe{}
	}
	r.probes[id] = p
	return p, nil
}

// An Arg is the value of an argument.
type Arg struct {
	Fault bool   // it could not be read; nothing else is set
	Num   uint64 // a number, an address, a FrameID for sym; a signed one is a two's complement
	Text  []byte // of str, buf and ipaddr: as much as was kept
	Len   int    // of str and buf: how long it was; at least len(Text)

	AtLeast bool // of str: it was longer than Len, or just that: where it ends could not be read
}

// Cut reports whether there was more of a text than was kept, or may have been.
func (a *Arg) Cut() bool { return a.Len > len(a.Text) || a.AtLeast }

// endless is the bit of the faults field that says of argument 0, a text, that
// where it ends could not be read. Those of the others follow.
const endless = 32

// AppendArgs appends the values of a probe's arguments as Event.Data has them
// and returns that and the value of the faults field. Text is cut where the
// event could not hold it; its length stays.
func AppendArgs(dst []byte, p *Probe, args []Arg) (data []byte, faults uint64) {
	room := maxData - len(dst) - len(p.Args)*3*binary.MaxVarintLen64
	for i := range p.Args {
		if i >= len(args) || args[i].Fault {
			faults |= 1 << i
			continue
		}
		a := &args[i]
		switch argClasses[p.Args[i].Type] {
		case classSigned:
			dst = binary.AppendUvarint(dst, zigzag(int64(a.Num)))
		case classText:
			text := a.Text[:min(len(a.Text), max(room, 0))]
			room -= len(text)
			dst = binary.AppendUvarint(dst, uint64(len(text)))
			dst = binary.AppendUvarint(dst, uint64(max(a.Len, len(a.Text))-len(text)))
			dst = append(dst, text...)
			if a.AtLeast {
				faults |= 1 << (endless + i)
			}
		default:
			dst = binary.AppendUvarint(dst, a.Num)
		}
	}
	return dst, faults
}
