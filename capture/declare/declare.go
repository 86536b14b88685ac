// Package declare reads the declarations of probes:
//
//	uprobe:/usr/sbin/nginx:ngx_close_connection(fd=u32(arg0->24)) /fd > 2/
//
// There is one grammar for the command line and for packs, drawn in
// docs/probes.md, and one parser for it. A declaration says what is wanted of a
// place, in the words of its author; finding the place and reading it is done
// by others. The package knows no operating system.
package declare

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/format"
)

// Kind is the kind of a place.
type Kind string

// The kinds of places.
const (
	Uprobe     Kind = "uprobe"     // the entry of a function of a program; with retval or duration its return, too
	Uretprobe  Kind = "uretprobe"  // a call of such a function, from entry to return
	USDT       Kind = "usdt"       // a mark that the program's author has left
	Tracepoint Kind = "tracepoint" // one that the kernel's have
	Kprobe     Kind = "kprobe"     // as uprobe, of a function of the kernel
	Kretprobe  Kind = "kretprobe"  // as uretprobe, of a function of the kernel
)

// A Probe is a declaration.
type Probe struct {
	Source string // as it was written
	Kind   Kind
	Path   string // of the program; a pattern as of path.Match. Not for the kernel's kinds
	Symbol string // function, PROVIDER:NAME or CATEGORY:NAME; a pattern
	Exact  bool   // the function was in quotes: Symbol is its name, and no pattern
	Args   []Arg
	Filter *Cond // nil: every hit
	Stack  bool  // the stack is wanted
	Caller bool  // the innermost caller is wanted
	// Returns: the return is wanted even where a program switches stacks,
	// which the kernel's way to see returns may not survive.
	Returns bool
}

// TellsCode reports whether calls are told with places in code: the stack, the caller,
// or what an argument points to.
func (p *Probe) TellsCode() bool {
	return p.Stack || p.Caller || slices.ContainsFunc(p.Args, func(a Arg) bool { return a.Type == format.ArgSym })
}

// An Arg is a value that is to be recorded.
type Arg struct {
	Name  string
	Type  format.ArgType
	Value Value
	Len   *Value // of buf: how many bytes there are
	Limit int    // of str and buf: how many bytes are kept at most
	Bare  bool   // no type was said: Type is a guess, for which the place may know better
	Col   int    // in Source, from 1
}

// A Base is what a value starts from.
type Base string

// The bases beside arg0, arg1, ... and the fields of tracepoints.
const (
	BaseArg      Base = "arg"      // argument N
	BaseRetval   Base = "retval"   // what the function returned
	BaseDuration Base = "duration" // of the call, ns
	BasePid      Base = "pid"
	BaseTid      Base = "tid"
	BaseUid      Base = "uid"
	BaseCgroup   Base = "cgroup" // id of the cgroup v2
	BaseCPU      Base = "cpu"
	BaseComm     Base = "comm"   // name of the thread
	BaseField    Base = "field"  // of a tracepoint, by Name
	BaseNumber   Base = "number" // N itself, as the length of a buf
)

// MaxDerefs is how often a value may follow a pointer.
const MaxDerefs = 4

// A Value is a number that is found by following pointers: from Base, for each
// of Steps, the word at this many bytes from where the value points to; Tail
// bytes are added at the end.
//
// Of a number, the last step reads as many bytes as its type has.
type Value struct {
	Base  Base
	N     int    // of BaseArg and BaseNumber
	Name  string // of BaseField
	Steps []int32
	Tail  int32
	Type  format.ArgType // of the number that the last step, or the register, has
	Late  bool           // pointers are followed when the function returns
	Delta bool           // what the call adds to the number in memory
	Col   int            // in Source, from 1
}

// AtReturn reports whether the value is known only when the function returns.
func (v *Value) AtReturn() bool {
	return v.Late || v.Delta || v.Base == BaseRetval || v.Base == BaseDuration
}

// An Op is what a condition does.
type Op string

// The operations of conditions.
const (
	OpEQ  Op = "=="
	OpNE  Op = "!="
	OpLT  Op = "<"
	OpLE  Op = "<="
	OpGT  Op = ">"
	OpGE  Op = ">="
	OpAnd Op = "&&"
	OpOr  Op = "||"
	OpNot Op = "!"
)

// A Cond is a condition: a comparison of a value, or of conditions.
type Cond struct {
	Op          Op
	Left, Right *Cond // of OpAnd and OpOr; OpNot has only Left
	Value       Value // of a comparison
	Mask        uint64
	Number      uint64 // to compare with; two's complement
	Negative    bool   // Number is
	NumberCol   int    // where it is, 0 when there is none
	Bare        bool   // no type was said
	Text        string // to compare with, if IsText
	IsText      bool
	Arg         int // the argument whose value is compared; -1 when it is none
	Col         int

	ip      int    // bytes of the address that Value is to be compared as; 0: it is none
	written string // how it was declared, if that is not what it is made of
}

// AtReturn reports whether the condition is known only when the function
// returns.
func (c *Cond) AtReturn() bool {
	if c == nil {
		return false
	}
	return c.Value.AtReturn() || c.Left.AtReturn() || c.Right.AtReturn()
}

// NeedsReturn reports whether calls are to be seen from entry to return.
func (p *Probe) NeedsReturn() bool {
	if p.Kind == Uretprobe || p.Kind == Kretprobe || p.Returns || p.Filter.AtReturn() {
		return true
	}
	for i := range p.Args {
		if a := &p.Args[i]; a.Value.AtReturn() || a.Len != nil && a.Len.AtReturn() {
			return true
		}
	}
	return false
}

// NeedsResult reports whether a value begins at what the function returned.
func (p *Probe) NeedsResult() bool {
	result := p.Filter.needsResult()
	for i := range p.Args {
		a := &p.Args[i]
		result = result || a.Value.Base == BaseRetval || a.Len != nil && a.Len.Base == BaseRetval
	}
	return result
}

func (c *Cond) needsResult() bool {
	return c != nil && (c.Value.Base == BaseRetval || c.Left.needsResult() || c.Right.needsResult())
}

// InKernel reports whether the place is one of the kernel.
func (p *Probe) InKernel() bool {
	return p.Kind == Tracepoint || p.Kind == Kprobe || p.Kind == Kretprobe
}

// Inside reports whether the place can be anywhere in a function, and not only at
// its entry.
func (p *Probe) Inside() bool {
	return p.Kind == USDT || strings.HasPrefix(p.Symbol, "0x") && !p.Exact
}

// Place names the place without what is to be read there.
func (p *Probe) Place() string {
	if p.InKernel() {
		return string(p.Kind) + ":" + p.Symbol
	}
	if p.Exact {
		return string(p.Kind) + ":" + p.Path + ":" + Quote(p.Symbol)
	}
	return string(p.Kind) + ":" + p.Path + ":" + p.Symbol
}

// Quote is a function's name as a declaration takes it: in quotes if it has what means
// something else there, as Go's methods have.
func Quote(name string) string {
	if strings.ContainsAny(name, " \t\"'()[]{}*?\\") {
		return strconv.Quote(name)
	}
	return name
}

// Declaration is what the capture keeps of the probe at a place.
func (p *Probe) Declaration(path, symbol string) format.Declaration {
	d := format.Declaration{Source: p.Source, Type: string(p.Kind), Path: path, Symbol: symbol}
	for i := range p.Args {
		a := &p.Args[i]
		d.Args = append(d.Args, format.Argument{Name: a.Name, Type: a.Type, Expr: a.text()})
	}
	if p.Filter != nil {
		d.Filter = p.Filter.String()
	}
	return d
}

func (a *Arg) text() string {
	s := a.Value.String()
	if a.Len != nil {
		s += ", " + a.Len.String()
	}
	return s
}

// String is the value as one could declare it.
func (v *Value) String() string {
	s := string(v.Base)
	switch v.Base {
	case BaseArg:
		s = fmt.Sprintf("arg%d", v.N)
	case BaseField:
		s = v.Name
	case BaseNumber:
		s = strconv.Itoa(v.N)
	}
	for _, off := range v.Steps {
		s += fmt.Sprintf("->%d", off)
	}
	if v.Tail != 0 {
		s += fmt.Sprintf("%+d", v.Tail)
	}
	switch {
	case v.Late:
		s = "after(" + s + ")"
	case v.Delta:
		s = "delta(" + s + ")"
	}
	return s
}

// String is the condition as one could write it.
func (c *Cond) String() string {
	if c.written != "" {
		return c.written
	}
	switch c.Op {
	case OpAnd, OpOr:
		return "(" + c.Left.String() + " " + string(c.Op) + " " + c.Right.String() + ")"
	case OpNot:
		return "!" + c.Left.String()
	}
	s := c.Value.String()
	if c.IsText && c.Value.Base != BaseComm {
		s = "str(" + s + ")"
	} else if !c.IsText && (len(c.Value.Steps) > 0 || c.Value.Type != natural(&c.Value)) {
		s = string(c.Value.Type) + "(" + s + ")"
	}
	switch {
	case c.IsText:
		return fmt.Sprintf("%s %s %q", s, c.Op, c.Text)
	case c.Mask != ^uint64(0):
		s = fmt.Sprintf("%s & %#x", s, c.Mask)
	}
	if c.Negative {
		return fmt.Sprintf("%s %s %d", s, c.Op, int64(c.Number))
	}
	return fmt.Sprintf("%s %s %d", s, c.Op, c.Number)
}

// natural is the type that a value has when none is said.
func natural(v *Value) format.ArgType {
	if v.Delta {
		return format.ArgI64
	}
	switch v.Base {
	case BaseComm:
		return format.ArgStr
	case BasePid, BaseTid, BaseUid, BaseCPU:
		return format.ArgU32
	}
	return format.ArgU64
}

// An Error says what is wrong with a declaration, and where.
type Error struct {
	Source string
	Col    int // from 1
	Msg    string
}

// Error names the column, and shows the place.
func (e *Error) Error() string {
	return fmt.Sprintf("column %d: %s", e.Col, e.Msg)
}

// Show is the declaration with a mark below the place, two lines.
func (e *Error) Show() string {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, e.Source)
	n := 0
	for i := range line {
		if i >= e.Col-1 {
			break
		}
		n++
	}
	return line + "\n" + strings.Repeat(" ", n) + "^"
}
