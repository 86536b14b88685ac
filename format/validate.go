package format

import (
	"errors"
	"fmt"
	"math"
)

// A Finding is something in a capture that a reader overlooks or works around
// and that a writer should not have written.
type Finding struct {
	Offset int64     // of the block in the file, bytes
	Block  BlockType //
	Event  int64     // ordinal of the event, -1 when it is about none
	Text   string
}

// String says where and what.
func (f Finding) String() string {
	if f.Event >= 0 {
		return fmt.Sprintf("%v block at offset %d, event %d: %s", f.Block, f.Offset, f.Event, f.Text)
	}
	return fmt.Sprintf("%v block at offset %d: %s", f.Block, f.Offset, f.Text)
}

// MaxFindings bounds the findings of [Reader.Validate]; a last one says that
// there are more.
const MaxFindings = 1000

// Validate reads the whole capture and holds it against all that the format
// promises: sequence numbers and ordinals without gaps, an index that agrees
// with the blocks, counts and time ranges as the headers say, tables without
// holes whose rows refer to earlier rows, values in their ranges, references
// to rows that exist, deaths only of blocks that live, and a clean end. The
// error is that of the operating system.
func (r *Reader) Validate() ([]Finding, error) {
	v := validator{r: r}
	if err := v.blocks(); err != nil {
		return nil, err
	}
	v.tables()
	v.probes()
	v.snapshots()
	if err := v.events(); err != nil {
		return nil, err
	}
	for _, d := range r.Damage() {
		if !v.reported[d.Offset] {
			v.add(d.Offset, d.Block, -1, "%v", d.Err)
		}
	}
	v.end()
	return v.findings, nil
}

type validator struct {
	r        *Reader
	findings []Finding
	reported map[int64]bool // offsets of blocks known to be damaged
	counts   [256]uint64    // events of each kind
	lastTime map[TaskID]int64
	call     Call
}

func (v *validator) add(off int64, typ BlockType, event int64, text string, args ...any) {
	switch n := len(v.findings); {
	case n < MaxFindings:
		v.findings = append(v.findings, Finding{off, typ, event, fmt.Sprintf(text, args...)})
	case n == MaxFindings:
		v.findings = append(v.findings, Finding{off, typ, event, "more was found than is listed"})
	}
}

// blocks walks the file and compares the walk with the blocks that the reader
// knows, which came from the index if there is one.
func (v *validator) blocks() error {
	v.reported = map[int64]bool{}
	s := scan{r: v.r.src, size: v.r.size}
	if err := s.run(); err != nil {
		return err
	}
	for _, d := range s.damage {
		v.reported[d.Offset] = true
		v.add(d.Offset, d.Block, -1, "%d bytes could not be read: %v", d.Length, d.Err)
	}
	known := map[int64]*BlockInfo{}
	for i := range v.r.blocks {
		known[v.r.blocks[i].Offset] = &v.r.blocks[i]
	}
	var events uint64
	for i := range s.blocks {
		b := &s.blocks[i]
		if b.Seq != uint32(i) && (i == 0 || b.Seq != s.blocks[i-1].Seq+1) {
			v.add(b.Offset, b.Type, -1, "has sequence number %d, the one before %d", b.Seq, s.blocks[max(i-1, 0)].Seq)
		}
		if b.EventsBefore != events && len(s.damage) == 0 {
			v.add(b.Offset, b.Type, -1, "counts %d events before it, there are %d", b.EventsBefore, events)
		}
		events = b.EventsBefore + uint64(b.Events)
		if (b.Events > 0) != (b.Type == BlockEvents) {
			v.add(b.Offset, b.Type, -1, "has %d events", b.Events)
		}
		if b.Type == BlockInvalid || b.Type > BlockSnapshots {
			v.add(b.Offset, b.Type, -1, "is of an unknown type")
		}
		v.payload(b)
		if k := known[b.Offset]; k == nil || !sameBlock(k, b) {
			v.add(b.Offset, b.Type, -1, "is not in the index as it is in the file")
		}
		delete(known, b.Offset)
	}
	for off, b := range known {
		if !v.reported[off] {
			v.add(off, b.Type, -1, "is in the index but not in the file")
		}
	}
	return nil
}

// payload checks the checksum, and the length of what it decompresses to.
func (v *validator) payload(b *BlockInfo) {
	var bufs buffers
	if _, err := v.r.payload.read(b, &bufs); err != nil {
		v.reported[b.Offset] = true
		v.add(b.Offset, b.Type, -1, "%v", err)
	}
}

// sameBlock compares an index entry with a header.
func sameBlock(a, b *BlockInfo) bool {
	return a.Offset == b.Offset && a.Type == b.Type && a.Codec == b.Codec && a.Seq == b.Seq &&
		a.EventsBefore == b.EventsBefore && a.Events == b.Events && a.RawLen == b.RawLen && a.StoredLen == b.StoredLen &&
		a.FirstTime == b.FirstTime && a.LastTime == b.LastTime && a.crc == b.crc && a.kindBits == b.kindBits
}

// tables checks that rows are dense and refer to earlier rows only.
func (v *validator) tables() {
	t := &v.r.tables
	str := func(table string, row uint32, id StringID) {
		if id != 0 && !t.strings.has(uint32(id)) {
			v.add(0, BlockTables, -1, "%s %d refers to string %d, which there is not", table, row, id)
		}
	}
	dense(v, "strings", &t.strings, func(uint32, string) {})
	dense(v, "modules", &t.modules, func(id uint32, m moduleRow) { str("module", id, m.path); str("module", id, m.buildID) })
	dense(v, "frames", &t.frames, func(id uint32, f frameRow) {
		str("frame", id, f.function)
		str("frame", id, f.file)
		if f.module != 0 && !t.modules.has(uint32(f.module)) {
			v.add(0, BlockTables, -1, "frame %d refers to module %d, which there is not", id, f.module)
		}
	})
	dense(v, "stacks", &t.stacks, func(id uint32, s StackNode) {
		if uint32(s.Parent) >= id {
			v.add(0, BlockTables, -1, "stack %d has parent %d, which is not before it", id, s.Parent)
		}
		if !t.frames.has(uint32(s.Frame)) {
			v.add(0, BlockTables, -1, "stack %d refers to frame %d, which there is not", id, s.Frame)
		}
	})
	v.ends()
	dense(v, "tasks", &t.tasks, func(id uint32, k taskRow) { str("task", id, k.comm) })
	dense(v, "symbols", &t.symbols, func(id uint32, s symbolRow) {
		str("symbol", id, s.function)
		str("symbol", id, s.file)
		if !t.frames.has(uint32(s.frame)) {
			v.add(0, BlockTables, -1, "symbol %d refers to frame %d, which there is not", id, s.frame)
		}
	})
}

func (v *validator) probes() {
	t := &v.r.tables
	dense(v, "probes", &t.probes, func(id uint32, p probeRow) {
		for _, s := range []StringID{p.name, p.declaration, p.pack, p.role} {
			if s != 0 && !t.strings.has(uint32(s)) {
				v.add(0, BlockTables, -1, "probe %d refers to string %d, which there is not", id, s)
			}
		}
		if _, err := v.r.probe(ProbeID(id)); err != nil {
			v.add(0, BlockTables, -1, "probe %d: %v", id, err)
		}
	})
}

// ends checks what is said of stacks.
func (v *validator) ends() {
	t := &v.r.tables
	dense(v, "ends", &t.ends, func(id uint32, e endRow) {
		if !t.stacks.has(uint32(e.stack)) || !t.stacks.has(uint32(e.whole)) {
			v.add(0, BlockTables, -1, "end %d says that stack %d is stack %d, one of which there is not", id, e.stack, e.whole)
		}
		if e.end >= StackEnds {
			v.add(0, BlockTables, -1, "end %d of stack %d is of an unknown kind", id, e.stack)
		}
	})
}

// snapshots checks what copies of stacks refer to.
func (v *validator) snapshots() {
	t := &v.r.tables
	n := 0
	for s, err := range v.r.Snapshots() {
		if err != nil {
			continue // it is among the damage
		}
		n++
		if !t.stacks.has(uint32(s.Stack)) {
			v.add(0, BlockSnapshots, -1, "snapshot %d is of stack %d, which there is not", n, s.Stack)
		}
		for _, m := range s.Maps {
			if m.Module != 0 && !t.modules.has(uint32(m.Module)) {
				v.add(0, BlockSnapshots, -1, "snapshot %d has code of module %d, which there is not", n, m.Module)
			}
		}
	}
}

func dense[T any](v *validator, name string, t *rows[T], check func(uint32, T)) {
	next := uint32(1)
	for _, run := range t.runs {
		if run.first != next {
			v.add(0, BlockTables, -1, "table of %s has no rows %d to %d", name, next, run.first-1)
		}
		for i, row := range run.rows {
			check(run.first+uint32(i), row)
		}
		next = run.first + uint32(len(run.rows))
	}
}

// events decodes every block of events.
func (v *validator) events() error {
	v.lastTime = map[TaskID]int64{}
	live := map[blockKey]int64{} // time of birth
	for res, err := range v.r.Batches(Filter{}, nil) {
		if res.Batch == nil {
			if err := ignoreDamage(err); err != nil {
				return err
			}
			clear(live) // what happened in between is not known
			continue
		}
		v.batch(res.Batch, live)
	}
	return nil
}

// A blockKey identifies a live heap block.
type blockKey struct {
	space uint32
	addr  uint64
}

func (v *validator) batch(b *Batch, live map[blockKey]int64) {
	var e Event
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range b.Len() {
		b.Event(i, &e)
		least, most = min(least, e.Time), max(most, e.Time)
		v.counts[e.Kind]++
		v.event(b, &e)
		v.pairing(b, i, &e, live)
	}
	if least != b.Info.FirstTime || most != b.Info.LastTime {
		v.add(b.Info.Offset, BlockEvents, -1, "holds times %d to %d, its header says %d to %d", least, most, b.Info.FirstTime, b.Info.LastTime)
	}
	var bits uint32
	for _, k := range b.Kind {
		bits |= kindBit(k)
	}
	if bits != b.Info.kindBits {
		v.add(b.Info.Offset, BlockEvents, -1, "holds kinds %#x, its header says %#x", bits, b.Info.kindBits)
	}
}

// event checks the values of one event.
func (v *validator) event(b *Batch, e *Event) {
	at := func(text string, args ...any) { v.add(b.Info.Offset, BlockEvents, int64(e.Seq), text, args...) }
	t := &v.r.tables
	if e.Task != 0 && !t.tasks.has(uint32(e.Task)) {
		at("refers to task %d, which there is not", e.Task)
	}
	if !seen(e.Kind) {
		if last, ok := v.lastTime[e.Task]; ok && e.Task != 0 && e.Time < last {
			at("happened at %d, before the event of the same task at %d", e.Time, last)
		}
		v.lastTime[e.Task] = e.Time
	}
	if e.Kind == KindCall {
		if err := v.r.Call(e, &v.call); err != nil {
			at("%v", err)
		}
	}
	if e.Kind == KindInvalid || int(e.Kind) >= len(v.r.kinds) {
		at("is of unknown kind %d", e.Kind)
		return
	}
	for i, f := range v.r.kinds[e.Kind].Fields {
		x, ok := e.V[i], true
		switch f.Type {
		case TypeEnum:
			ok = len(f.Enum) == 0 || x < uint64(len(f.Enum))
		case TypeString:
			ok = x == 0 || x < maxRows && t.strings.has(uint32(x))
		case TypeStack:
			ok = x == 0 || x < maxRows && t.stacks.has(uint32(x))
		case TypeModule:
			ok = x == 0 || x < maxRows && t.modules.has(uint32(x))
		case TypeProbe:
			ok = x == 0 || x < maxRows && t.probes.has(uint32(x))
		}
		if !ok {
			at("field %s has value %d, which stands for nothing", f.Name, x)
		}
	}
}

// pairing follows the live heap blocks and compares them with what the batch
// says of births and deaths.
func (v *validator) pairing(b *Batch, i int, e *Event, live map[blockKey]int64) {
	at := func(text string, args ...any) { v.add(b.Info.Offset, BlockEvents, int64(e.Seq), text, args...) }
	space := v.r.Task(e.Task).Space
	if f := b.freedKind[e.Kind]; f != 0 {
		addr, at0 := e.V[f-1], e.Time
		if d := shapeOf(e.Kind).duration; d >= 0 {
			at0 -= int64(e.V[d])
		}
		born, alive := live[blockKey{space, addr}]
		if birth, ok := b.Freed(i); ok {
			if !alive {
				at("ends the block at %#x of event %d a second time, or in another address space", addr, b.Info.EventsBefore+uint64(birth))
			}
			if b.Time[birth] > at0 {
				at("ends the block at %#x before its birth", addr)
			}
		}
		if alive && born <= at0 {
			delete(live, blockKey{space, addr})
		}
	}
	if f := b.birthKind[e.Kind]; f != 0 && space != 0 {
		live[blockKey{space, e.V[f-1]}] = e.Time
	}
}

// end checks that the file ended cleanly and that its totals are right.
func (v *validator) end() {
	trailer, ok := v.r.Trailer()
	if !ok {
		v.add(v.r.size, BlockEnd, -1, "is missing: the recorder was killed or the file was cut")
		return
	}
	for k, n := range v.counts {
		if want := trailer.Kinds[Kind(k)].Events; trailer.Kinds != nil && n != want && len(v.r.Damage()) == 0 {
			v.add(v.r.size, BlockEnd, -1, "counts %d events of %s, the blocks hold %d", want, v.r.KindInfo(Kind(k)).Name, n)
		}
	}
}

// seen reports whether events of a kind may be what the recorder saw of a task,
// rather than what the task did: they come while its own are still on their way.
func seen(k Kind) bool { return k == KindTCPEndpoints || k == KindTCPSnapshot }

// ignoreDamage returns err if it is one of the operating system rather than of
// the content.
func ignoreDamage(err error) error {
	for _, content := range []error{ErrTruncated, ErrChecksum, ErrMalformed, ErrLimit, errUnknown} {
		if errors.Is(err, content) {
			return nil
		}
	}
	return err
}
