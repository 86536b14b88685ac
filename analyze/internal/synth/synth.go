// Package synth makes large captures of heap events for benchmarks: a program
// of several threads whose blocks mostly die young, some later, and a few
// never, at known counts.
package synth

import (
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/tcap-dev/tcap/format"
)

// Options say what to make; zero values have defaults.
type Options struct {
	Events  int // events in all; default 1,000,000
	Threads int // default 8
	Stacks  int // different stacks; default 300
	Live    int // blocks live at a time, besides leaks; default 50,000
	Leak    int // one of so many allocations is never freed; default 1,000
	Seed    uint64
}

// Truth is what an analysis must find.
type Truth struct{ LeakedBlocks, LeakedBytes, Allocations uint64 }

// Write writes a capture.
func Write(w io.Writer, o Options) (Truth, error) {
	o.defaults()
	start := format.ClockAnchor{Mono: 1_000_000_000_000, Wall: 1_767_225_600_000_000_000}
	fw, err := format.NewWriter(w, format.Header{Tool: "tcap", ToolVersion: "synth", Start: start}, format.WriterOptions{})
	if err != nil {
		return Truth{}, fmt.Errorf("begin capture: %w", err)
	}
	p := program{w: fw, o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x7ca9)), now: start.Mono}
	p.tables()
	for p.n < o.Events && err == nil {
		err = p.step()
	}
	for _, b := range p.live {
		p.truth.LeakedBlocks++
		p.truth.LeakedBytes += uint64(b.size)
	}
	end := format.ClockAnchor{Mono: p.now, Wall: start.Wall + p.now - start.Mono}
	if cerr := fw.Close(format.Trailer{End: end, Reason: "exit"}); err == nil {
		err = cerr
	}
	if err != nil {
		return Truth{}, fmt.Errorf("write capture: %w", err)
	}
	return p.truth, nil
}

func (o *Options) defaults() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Events, 1_000_000)
	def(&o.Threads, 8)
	def(&o.Stacks, 300)
	def(&o.Live, 50_000)
	def(&o.Leak, 1_000)
}

type heapBlock struct {
	addr uint64
	size uint32
}

// program is the simulated one. Its allocator hands the addresses freed last
// out first, as real ones do.
type program struct {
	w      *format.Writer
	o      Options
	rng    *rand.Rand
	now    int64
	n      int
	tasks  []format.TaskID
	stacks []format.StackID
	live   []heapBlock
	free   [classes][]uint64
	brk    uint64
	truth  Truth
	event  format.Event
}

const classes = 64 // sizes of 16 to 1024 bytes

func (p *program) tables() {
	p.brk = 0x5500_0000_0000
	for i := range p.o.Threads {
		p.tasks = append(p.tasks, p.w.Task(format.Task{Pid: 100, Tid: uint32(100 + i), Space: 1, Comm: "synth"}))
	}
	module := p.w.Module(format.Module{Path: "/usr/bin/synth", BuildID: "00112233"})
	root := p.w.Stack(0, p.w.Frame(format.Frame{Module: module, Function: "main", File: "main.c", Line: 10}))
	for i := range p.o.Stacks {
		s := root
		for d := range 2 + i%9 {
			name := fmt.Sprintf("call_%d", (i>>d)+d*1000)
			s = p.w.Stack(s, p.w.Frame(format.Frame{Module: module, Offset: uint64(i*64 + d), Function: name, File: "work.c", Line: uint32(i)}))
		}
		p.stacks = append(p.stacks, s)
	}
}

// step makes one event. Half of the frees take a block of the last few
// hundred, the others any.
func (p *program) step() error {
	p.now += int64(200 + p.rng.IntN(800))
	p.n++
	if n := len(p.live); n > 0 && (n >= p.o.Live || p.rng.IntN(100) < 48) {
		back := 1 + p.rng.IntN(min(n, 256))
		if p.rng.IntN(100) < 10 {
			back = 1 + p.rng.IntN(n)
		}
		b := p.live[n-back]
		p.live[n-back] = p.live[n-1]
		p.live = p.live[:n-1]
		p.free[b.size/16] = append(p.free[b.size/16], b.addr)
		return p.append(format.KindFree, b.addr, format.FnFree)
	}
	class := min(1+int(p.rng.ExpFloat64()*6), classes-1)
	b := heapBlock{size: uint32(class * 16)}
	if list := p.free[class]; len(list) > 0 {
		b.addr, p.free[class] = list[len(list)-1], list[:len(list)-1]
	} else {
		b.addr = p.brk
		p.brk += uint64(b.size) + 16
	}
	p.truth.Allocations++
	if p.rng.IntN(p.o.Leak) == 0 {
		p.truth.LeakedBlocks++
		p.truth.LeakedBytes += uint64(b.size)
	} else {
		p.live = append(p.live, b)
	}
	stack := p.stacks[min(int(p.rng.ExpFloat64()*float64(p.o.Stacks)/8), p.o.Stacks-1)]
	return p.append(format.KindAlloc, b.addr, uint64(b.size), uint64(stack), format.FnMalloc)
}

func (p *program) append(kind format.Kind, v ...uint64) error {
	p.event.Kind, p.event.Time, p.event.Task = kind, p.now, p.tasks[p.rng.IntN(len(p.tasks))]
	copy(p.event.V[:], v)
	return p.w.Append(&p.event)
}
