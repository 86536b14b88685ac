package format

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
)

// An Option tunes a Reader.
type Option func(*Reader)

// WithMaxMemory bounds the memory that a Reader takes for tables and decoded
// blocks, in bytes; the default is 1 GiB.
func WithMaxMemory(bytes int64) Option { return func(r *Reader) { r.maxMemory = bytes } }

// WithWorkers sets how many blocks are decoded at once; the default is the
// number of CPUs.
func WithWorkers(n int) Option { return func(r *Reader) { r.workers = max(n, 1) } }

// A Reader reads a capture. Its methods may be called concurrently.
type Reader struct {
	src     io.ReaderAt
	size    int64
	closer  io.Closer
	payload *payloads

	maxMemory int64
	workers   int

	header  Header
	trailer *Trailer
	kinds   []KindInfo
	blocks  []BlockInfo
	tables  tables

	structural []Damage // between blocks

	probesMu sync.RWMutex
	probes   map[ProbeID]*Probe // as decoded so far

	mu     sync.Mutex // guards damage
	damage []Damage
}

// Open opens the capture in a file. It reads the index and the tables; when
// the index is missing or damaged it walks the blocks instead.
//
// The error is [ErrNotCapture], [ErrVersion] or that of the operating system;
// damage is not an error but told by [Reader.Damage].
func Open(path string, opts ...Option) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file; a capture is read by seeking, save it to a file first")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open capture %s: %w", path, err)
	}
	r, err := NewReader(f, st.Size(), opts...)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open capture %s: %w", path, err)
	}
	r.closer = f
	return r, nil
}

// NewReader opens a capture of size bytes.
func NewReader(src io.ReaderAt, size int64, opts ...Option) (*Reader, error) {
	r := &Reader{src: src, size: size, maxMemory: 1 << 30, workers: runtime.GOMAXPROCS(0), kinds: Kinds}
	for _, o := range opts {
		o(r)
	}
	r.tables.budget = r.maxMemory / 4
	var err error
	if r.payload, err = newPayloads(src, r.workers, r.maxMemory/16); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		r.payload.close()
		return nil, err
	}
	return r, nil
}

// Close ends the Reader. It must not be called while an iteration runs.
func (r *Reader) Close() error {
	r.payload.close()
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

func (r *Reader) open() error {
	if !r.openIndexed() {
		s := scan{r: r.src, size: r.size}
		if err := s.run(); err != nil {
			return err
		}
		r.blocks, r.structural = s.blocks, s.damage
		r.damage = slices.Clone(s.damage)
	}
	for i := range r.blocks {
		if b := &r.blocks[i]; b.isLeftOut() {
			r.damaged(b, errLeftOut)
		}
	}
	r.loadFacts()
	r.loadTables()
	r.boundDamage()
	return nil
}

// damaged notes that b cannot be read and returns the error that says so.
func (r *Reader) damaged(b *BlockInfo, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.damage, func(d Damage) bool { return d.Offset == b.Offset }); i < 0 {
		d := Damage{Offset: b.Offset, Length: b.End() - b.Offset, Block: b.Type, Err: cause, Events: int64(b.Events)}
		if b.Events > 0 {
			d.From, d.To = b.FirstTime, b.LastTime
		}
		r.damage = append(r.damage, d)
		slices.SortFunc(r.damage, func(a, b Damage) int { return int(a.Offset - b.Offset) })
	}
	return &CorruptError{Offset: b.Offset, Block: b.Type, Err: cause}
}

// boundDamage says how many events each damaged range held and when they
// happened, from the blocks around it.
func (r *Reader) boundDamage() {
	for i := range r.damage {
		d := &r.damage[i]
		if d.Events != 0 || d.From != 0 {
			continue
		}
		var before uint64
		d.Events = -1
		for j := range r.blocks {
			b := &r.blocks[j]
			if b.Offset < d.Offset {
				before = b.EventsBefore + uint64(b.Events)
				if b.Events > 0 {
					d.From = max(d.From, b.LastTime)
				}
				continue
			}
			if d.Events < 0 {
				d.Events = int64(b.EventsBefore - before)
			}
			if b.Events > 0 {
				d.To = b.FirstTime
				break
			}
		}
	}
}

// Header returns what the recorder said of the recording. It is zero when
// that part of the file is damaged.
func (r *Reader) Header() Header { return r.header }

// Trailer returns how the recording ended; false when the file has no clean
// end, because the recorder was killed or the file was cut.
func (r *Reader) Trailer() (Trailer, bool) {
	if r.trailer == nil {
		return Trailer{}, false
	}
	return *r.trailer, true
}

// Blocks returns the blocks that were found, in file order.
func (r *Reader) Blocks() []BlockInfo { return r.blocks }

// Version returns the version of the format that the capture is of: that of its latest block,
// as a later tcap may have added to it. 0.0 is unknown.
func (r *Reader) Version() (major, minor uint8) {
	for i := range r.blocks {
		major, minor = r.blocks[i].Major, max(minor, r.blocks[i].Minor)
	}
	return major, minor
}

// Damage returns what could not be read so far, by offset: after Open, what
// was wrong with the structure and the tables; after an iteration, also the
// blocks of events that it could not decode.
func (r *Reader) Damage() []Damage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.damage)
}

// Kinds returns the table of kinds of this file, by kind. It has the kinds of
// this package and those newer ones that the file describes.
func (r *Reader) Kinds() []KindInfo { return r.kinds }

// KindInfo returns what is known of a kind.
func (r *Reader) KindInfo(k Kind) KindInfo {
	if int(k) < len(r.kinds) {
		return r.kinds[k]
	}
	return unknownKind(k)
}

// String returns a row of the string table, "" when there is none.
func (r *Reader) String(id StringID) string {
	s, _ := r.tables.strings.get(uint32(id))
	return s
}

// Module returns a row of the module table, zero when there is none.
func (r *Reader) Module(id ModuleID) Module {
	m, _ := r.tables.modules.get(uint32(id))
	return Module{Path: r.String(m.path), BuildID: r.String(m.buildID), code: m.code}
}

// Frame returns a row of the frame table, zero when there is none. Of a frame
// with inlined calls it is the function that they were inlined into;
// [Reader.Frames] has all.
func (r *Reader) Frame(id FrameID) Frame {
	f, _ := r.tables.frames.get(uint32(id))
	out := Frame{
		Module: f.module, Offset: f.offset, Function: r.String(f.function),
		File: r.String(f.file), Line: f.line, Inlined: f.inlined,
	}
	if run, ok := r.tables.symbolsOf[id]; ok {
		r.symbol(&out, run.first+run.n-1)
	}
	return out
}

// Frames appends a frame and before it the calls that were inlined there,
// innermost first, and returns buf.
func (r *Reader) Frames(id FrameID, buf []Frame) []Frame {
	f := r.Frame(id)
	if run := r.tables.symbolsOf[id]; run.n > 1 {
		for i := range run.n - 1 {
			inlined := f
			r.symbol(&inlined, run.first+i)
			buf = append(buf, inlined)
		}
	}
	return append(buf, f)
}

// symbol puts the names in row id of the symbol table into f.
func (r *Reader) symbol(f *Frame, id uint32) {
	s, _ := r.tables.symbols.get(id)
	f.Function, f.File, f.Line, f.Inlined = r.String(s.function), r.String(s.file), s.line, s.inlined
}

// StackNode returns a row of the stack table, zero when there is none.
func (r *Reader) StackNode(id StackID) StackNode {
	n, _ := r.tables.stacks.get(uint32(id))
	return n
}

// Task returns a row of the task table, zero when there is none.
func (r *Reader) Task(id TaskID) Task {
	t, _ := r.tables.tasks.get(uint32(id))
	return Task{Pid: t.pid, Tid: t.tid, Space: t.space, Uid: t.uid, Comm: r.String(t.comm), Start: t.start}
}

// maxStack bounds the frames of a stack.
const maxStack = 4096

// Stack appends the frames of a stack to buf, innermost first, and returns it.
// Each frame comes after the calls that were inlined there. A parent is always an earlier row than its child; a chain that breaks this
// rule, or is longer than 4096 frames, ends there.
func (r *Reader) Stack(id StackID, buf []Frame) []Frame {
	id = r.Whole(id)
	for limit := len(buf) + maxStack; id != 0 && len(buf) < limit; {
		n, ok := r.tables.stacks.get(uint32(id))
		if !ok {
			break
		}
		buf = r.Frames(n.Frame, buf)
		if n.Parent >= id {
			break
		}
		id = n.Parent
	}
	return buf
}
