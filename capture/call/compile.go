package call

import (
	"fmt"

	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/capture/declare"
	"github.com/tcap-dev/tcap/format"
)

// A Site says what a value starts from at a place.
type Site interface {
	// Arg is argument n, where the place has it.
	Arg(n int) (Operand, error)
	// Field is a field of a tracepoint.
	Field(name string) (Operand, error)
	// Retval is the register of the result.
	Retval() (uint8, error)
}

// An Operand is where a value is: in a register, or in memory that one points to.
type Operand struct {
	Slot   uint8 // register as struct pt_regs has it, or one of bpf.RawSlot
	Index  uint8 // register that is added, shifted left by Scale
	Scale  uint8
	Memory bool  // the value is in memory, at Offset from there
	Offset int32 // of the memory, or what is added
	Size   int   // bytes of the value
	Signed bool
	// InRecord: the value is the offset of a text in a tracepoint's record, from
	// Behind bytes on.
	InRecord bool
	Behind   int32
	// Inline: the text is at Offset itself, so many bytes.
	Inline int
	Bytes  bool  // an array of other things than letters is at Offset: the place of a text, if one is declared
	Fault  error // why the value cannot be read; nothing else is set
}

const noSlot = uint8(bpf.RawSlotSlotZero)

// Compile turns a declaration into a program for a place. The error is an
// *[declare.Error] that names the column.
func Compile(d *declare.Probe, site Site) (*Program, error) {
	c := &compiler{d: d, site: site, p: &Program{}}
	if err := c.run(); err != nil {
		return nil, err
	}
	return c.p, nil
}

type compiler struct {
	d     *declare.Probe
	site  Site
	p     *Program
	words int
}

func (c *compiler) fail(col int, format string, args ...any) error {
	return &declare.Error{Source: c.d.Source, Col: max(col, 1), Msg: fmt.Sprintf(format, args...)}
}

func (c *compiler) run() error {
	raw := &c.p.Raw
	for i := range raw.Fetch {
		raw.Fetch[i].Length = uint8(maxFetches)
	}
	for i := range c.d.Args {
		if err := c.argument(&c.d.Args[i]); err != nil {
			return err
		}
	}
	if c.d.Filter != nil {
		if err := c.cond(c.d.Filter); err != nil {
			return err
		}
		if c.d.Filter.AtReturn() {
			c.flag(bpf.RawProbeFlagProbeLateFilter)
		}
	}
	for flag, on := range map[bpf.RawProbeFlag]bool{
		bpf.RawProbeFlagProbeReturns: c.d.NeedsReturn(), bpf.RawProbeFlagProbeStack: c.d.Stack,
		bpf.RawProbeFlagProbeCaller: c.d.Caller, bpf.RawProbeFlagProbeKernel: c.d.InKernel(),
		bpf.RawProbeFlagProbeInside: c.d.Inside(), bpf.RawProbeFlagProbeResult: c.d.NeedsResult(),
		bpf.RawProbeFlagProbeCode: c.d.TellsCode(),
	} {
		if on {
			c.flag(flag)
		}
	}
	c.layout()
	return nil
}

func (c *compiler) flag(f bpf.RawProbeFlag) { c.p.Raw.Flags |= uint16(f) }

// layout works out where the texts are in a record, and how long it gets.
func (c *compiler) layout() {
	p, scan := c.p, 0
	p.room = headerSize + 8*int(p.Raw.Fetches)
	for _, late := range []bool{false, true} {
		for i := range int(p.Raw.Fetches) {
			f := &p.Raw.Fetch[i]
			has := func(flag bpf.RawFetchFlag) bool { return f.Flags&uint8(flag) != 0 }
			if has(bpf.RawFetchFlagFetchLate) != late {
				continue
			}
			if late {
				p.Raw.Late |= 1 << i
			}
			if has(bpf.RawFetchFlagFetchText) {
				p.texts = append(p.texts, i)
				p.room += int(f.Limit) + 1
				p.text = max(p.text, int(f.Limit))
			}
			if has(bpf.RawFetchFlagFetchStr) {
				scan = scanLen
			}
		}
	}
	p.Raw.Room = uint32(p.room + scan)
}

// argument adds the fetch of a declared argument.
func (c *compiler) argument(a *declare.Arg) error {
	length := 0
	if a.Len != nil {
		var err error
		if length, err = c.number(a.Len); err != nil {
			return err
		}
	}
	t, v, limit := a.Type, a.Value, a.Limit
	if a.Bare {
		var err error
		if t, err = c.typeHere(&v, t); err != nil {
			return err
		}
		if v.Base == declare.BaseField && t.IsText() {
			limit = declare.DefaultText
		}
	}
	i, err := c.fetch(&v, t.IsText())
	if err != nil {
		return err
	}
	f := &c.p.Raw.Fetch[i]
	f.Limit = uint32(limit)
	if a.Len != nil {
		f.Length = uint8(length)
	}
	switch {
	case v.Base == declare.BaseComm:
		f.Flags |= uint8(bpf.RawFetchFlagFetchText)
	case t == format.ArgStr:
		f.Flags |= uint8(bpf.RawFetchFlagFetchText | bpf.RawFetchFlagFetchStr)
	case t.IsText():
		f.Flags |= uint8(bpf.RawFetchFlagFetchText)
	}
	if a.Len != nil && a.Len.AtReturn() && !v.AtReturn() {
		f.Flags |= uint8(bpf.RawFetchFlagFetchLate | bpf.RawFetchFlagFetchFromEntry)
	}
	c.p.fetch = append(c.p.fetch, i)
	expr := v.String()
	if a.Len != nil {
		expr += ", " + a.Len.String()
	}
	c.p.Args = append(c.p.Args, format.Argument{Name: a.Name, Type: t, Expr: expr})
	return nil
}

// typeHere gives a value that was declared without a type the one that it has at
// this place, and returns it: that of a field, or of an argument of a mark. t is its
// type otherwise.
func (c *compiler) typeHere(v *declare.Value, t format.ArgType) (format.ArgType, error) {
	if len(v.Steps) > 0 || v.Base != declare.BaseField && v.Base != declare.BaseArg {
		return t, nil
	}
	op, err := c.operand(v)
	if err != nil {
		return t, c.fail(v.Col, "%v", err)
	}
	if t = op.natural(); t.IsText() {
		v.Type = format.ArgU64
	} else {
		v.Type = t
	}
	return t, nil
}

// number adds the fetch of a number that is not recorded.
func (c *compiler) number(v *declare.Value) (int, error) { return c.fetch(v, false) }

// fetch adds a fetch of v; of a text, of its address.
func (c *compiler) fetch(v *declare.Value, text bool) (int, error) {
	if v.Delta {
		return c.delta(v)
	}
	n := int(c.p.Raw.Fetches)
	if n == maxFetches {
		return 0, c.tooMany(v.Col)
	}
	op, err := c.operand(v)
	if err != nil {
		return 0, c.fail(v.Col, "%v", err)
	}
	f := &c.p.Raw.Fetch[n]
	f.Base, f.Index, f.Scale = op.Slot, op.Index, op.Scale
	steps := v.Steps
	tail := v.Tail
	if text && op.InRecord && len(v.Steps) == 0 {
		f.Flags |= uint8(bpf.RawFetchFlagFetchInCtx)
		tail += op.Behind
	}
	itself := text && len(v.Steps) == 0 && (op.Inline > 0 || op.Bytes) // the text lies where the value would
	if op.Memory && !itself {
		if len(steps) == maxSteps {
			return 0, c.fail(v.Col, "%s is in memory itself, which is one pointer more than can be followed", v.String())
		}
		steps = append([]int32{op.Offset}, steps...)
	} else {
		if len(steps) > 0 {
			steps = append([]int32{steps[0] + op.Offset}, steps[1:]...)
		} else {
			tail += op.Offset
		}
	}
	f.Steps = uint8(len(steps))
	copy(f.Off[:], steps)
	f.Off[len(steps)] = tail
	f.Size = 8
	signed := v.Type.Signed()
	if !text {
		f.Size = uint8(sizeOf(v.Type))
	}
	if len(v.Steps) == 0 && op.Size > 0 && !itself { // the value itself: as wide as it is there
		if op.Size < int(f.Size) || text {
			f.Size = uint8(op.Size)
			signed = signed || op.Signed && !text
		}
	}
	if signed {
		f.Flags |= uint8(bpf.RawFetchFlagFetchSigned)
	}
	f.Flags |= flagsOf(v)
	c.p.Raw.Fetches++
	return n, nil
}

// flagsOf says when a value is read, and from what.
func flagsOf(v *declare.Value) (flags uint8) {
	if v.AtReturn() {
		flags |= uint8(bpf.RawFetchFlagFetchLate)
	}
	if v.Late && v.Base != declare.BaseRetval {
		flags |= uint8(bpf.RawFetchFlagFetchFromEntry)
	}
	if v.Base == declare.BaseComm {
		flags |= uint8(bpf.RawFetchFlagFetchComm)
	}
	return flags
}

// delta adds the fetches of what the call adds to a number: its address, which is
// found at the entry and does not change, and the number there.
func (c *compiler) delta(v *declare.Value) (int, error) {
	last := len(v.Steps) - 1
	at := declare.Value{Base: v.Base, N: v.N, Name: v.Name, Steps: v.Steps[:last], Tail: v.Steps[last], Type: format.ArgU64, Col: v.Col}
	address, err := c.fetch(&at, true)
	if err != nil {
		return 0, err
	}
	n := int(c.p.Raw.Fetches)
	if n == maxFetches {
		return 0, c.tooMany(v.Col)
	}
	f := &c.p.Raw.Fetch[n]
	f.Base, f.Index, f.Length, f.Size = noSlot, noSlot, uint8(address), uint8(sizeOf(v.Type))
	f.Flags = uint8(bpf.RawFetchFlagFetchLate | bpf.RawFetchFlagFetchDelta)
	if v.Type.Signed() {
		f.Flags |= uint8(bpf.RawFetchFlagFetchSigned)
	}
	c.p.Raw.Fetches++
	return n, nil
}

func (c *compiler) tooMany(col int) error {
	return c.fail(col, "too many values: a probe can read %d, those in its filter, the lengths of its bufs and the addresses of its deltas included", maxFetches)
}

// operand is where a value starts.
func (c *compiler) operand(v *declare.Value) (Operand, error) {
	slot := func(s bpf.RawSlot) (Operand, error) { return Operand{Slot: uint8(s), Index: noSlot}, nil }
	switch v.Base {
	case declare.BaseArg:
		return c.site.Arg(v.N)
	case declare.BaseField:
		return c.site.Field(v.Name)
	case declare.BaseRetval:
		r, err := c.site.Retval()
		return Operand{Slot: r, Index: noSlot}, err
	case declare.BaseDuration:
		return slot(bpf.RawSlotSlotDuration)
	case declare.BasePid:
		return slot(bpf.RawSlotSlotPid)
	case declare.BaseTid:
		return slot(bpf.RawSlotSlotTid)
	case declare.BaseNumber:
		return Operand{Slot: noSlot, Index: noSlot, Offset: int32(v.N)}, nil
	case declare.BaseCPU:
		return slot(bpf.RawSlotSlotCpu)
	case declare.BaseUid:
		c.flag(bpf.RawProbeFlagProbeUid)
		return slot(bpf.RawSlotSlotUid)
	case declare.BaseCgroup:
		c.flag(bpf.RawProbeFlagProbeCgroup)
		return slot(bpf.RawSlotSlotCgroup)
	case declare.BaseComm:
		return slot(bpf.RawSlotSlotZero)
	}
	return Operand{}, fmt.Errorf("there is no value %q", v.Base)
}

// natural is the type of a field that none was said for.
func (op *Operand) natural() format.ArgType {
	if op.Inline > 0 || op.InRecord {
		return format.ArgStr
	}
	types := map[int]format.ArgType{1: format.ArgU8, 2: format.ArgU16, 4: format.ArgU32, 8: format.ArgU64}
	if op.Signed {
		types = map[int]format.ArgType{1: format.ArgI8, 2: format.ArgI16, 4: format.ArgI32, 8: format.ArgI64}
	}
	if t, ok := types[op.Size]; ok {
		return t
	}
	return format.ArgU64
}

func sizeOf(t format.ArgType) int {
	switch t {
	case format.ArgU8, format.ArgI8, format.ArgBool:
		return 1
	case format.ArgU16, format.ArgI16:
		return 2
	case format.ArgU32, format.ArgI32:
		return 4
	}
	return 8
}

var ops = map[declare.Op]bpf.RawTermOp{
	declare.OpEQ: bpf.RawTermOpTermEq, declare.OpNE: bpf.RawTermOpTermNe,
	declare.OpLT: bpf.RawTermOpTermLt, declare.OpLE: bpf.RawTermOpTermLe,
	declare.OpGT: bpf.RawTermOpTermGt, declare.OpGE: bpf.RawTermOpTermGe,
	declare.OpAnd: bpf.RawTermOpTermAnd, declare.OpOr: bpf.RawTermOpTermOr, declare.OpNot: bpf.RawTermOpTermNot,
}

// cond adds a condition in postfix order.
func (c *compiler) cond(d *declare.Cond) error {
	var t bpf.RawTerm
	t.Op = uint8(ops[d.Op])
	for _, side := range []*declare.Cond{d.Left, d.Right} {
		if side != nil {
			if err := c.cond(side); err != nil {
				return err
			}
		}
	}
	if d.Left == nil {
		if err := c.comparison(d, &t); err != nil {
			return err
		}
	}
	if int(c.p.Raw.Terms) == maxTerms {
		return c.fail(d.Col, "the filter has more than %d comparisons and connections", maxTerms)
	}
	c.p.Raw.Term[c.p.Raw.Terms] = t
	c.p.Raw.Terms++
	return nil
}

func (c *compiler) comparison(d *declare.Cond, t *bpf.RawTerm) error {
	v := d.Value
	is := v.Type
	if d.Bare {
		var err error
		if is, err = c.typeHere(&v, is); err != nil {
			return err
		}
	}
	var fetch int
	if d.Arg >= 0 && !d.IsText {
		fetch = c.p.fetch[d.Arg]
	} else {
		var err error
		if fetch, err = c.fetch(&v, d.IsText); err != nil {
			return err
		}
	}
	t.Fetch = uint8(fetch)
	if !d.IsText {
		return c.compareNumber(d, is, t)
	}
	if c.words == maxWords {
		return c.fail(d.Col, "a filter can compare with %d texts", maxWords)
	}
	t.Op = uint8(bpf.RawTermOpTermTextEq)
	if d.Op == declare.OpNE {
		t.Op = uint8(bpf.RawTermOpTermTextNe)
	}
	t.Word = uint8(c.words)
	for i := range len(d.Text) {
		c.p.Raw.Word[c.words][i] = int8(d.Text[i])
	}
	c.words++
	return nil
}

// compareNumber is a comparison with a number, of a value of this type.
func (c *compiler) compareNumber(d *declare.Cond, is format.ArgType, t *bpf.RawTerm) error {
	if is.IsText() {
		return c.fail(d.Col, `%s is a text here; it is compared by == "..." or != "..."`, d.Value.String())
	}
	if why := d.Nonsense(is); why != "" {
		return c.fail(d.NumberCol, "%s", why)
	}
	t.Mask, t.Value = d.Mask, d.Number
	switch {
	case is.Signed():
		t.IsSigned = 1
	case is == format.ArgBool && d.Mask == ^uint64(0) && d.Number == 1:
		// Whatever is not 0 is true.
		t.Value = 0
		t.Op = uint8(ops[map[declare.Op]declare.Op{
			declare.OpEQ: declare.OpNE, declare.OpNE: declare.OpEQ, declare.OpLT: declare.OpEQ,
			declare.OpLE: declare.OpGE, declare.OpGT: declare.OpLT, declare.OpGE: declare.OpNE,
		}[d.Op]])
	}
	return nil
}
