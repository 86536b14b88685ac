package capture

import (
	"os"
	"slices"
	"sync"

	"github.com/tcap-dev/tcap/capture/symbol"
	"github.com/tcap-dev/tcap/format"
)

// A symbolizer names frames beside the recording. The ring's loop asks and
// collects; reading ELF and DWARF, which can take seconds for a large program,
// is done by the symbolizer's own goroutine.
type symbolizer struct {
	mu     sync.Mutex
	wake   *sync.Cond
	asked  []question
	named  []answer
	closed bool
	done   chan struct{}
	dirs   []string
}

type question struct {
	frame  format.FrameID
	module *module
	offset uint64
}

type answer struct {
	frame   format.FrameID
	symbols []format.Symbol
}

// newSymbolizer returns a symbolizer that searches directories for separate debug
// files, and last the system's.
func newSymbolizer(debugDirs []string) *symbolizer {
	s := &symbolizer{done: make(chan struct{}), dirs: append(slices.Clone(debugDirs), "/usr/lib/debug")}
	s.wake = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// ask wants a name for a frame, whose offset is that of a return address.
func (s *symbolizer) ask(frame format.FrameID, m *module, offset uint64) {
	s.mu.Lock()
	s.asked = append(s.asked, question{frame, m, offset})
	s.mu.Unlock()
	s.wake.Signal()
}

// collect hands over what was named since the last time.
func (s *symbolizer) collect(w *format.Writer) {
	s.mu.Lock()
	named := s.named
	s.named = nil
	s.mu.Unlock()
	for _, a := range named {
		w.Symbolize(a.frame, a.symbols)
	}
}

// finish names what is still asked for and ends the goroutine.
func (s *symbolizer) finish(w *format.Writer) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wake.Signal()
	<-s.done
	s.collect(w)
}

func (s *symbolizer) run() {
	defer close(s.done)
	res := symbol.NewResolver(symbol.Options{DebugDirs: s.dirs})
	defer res.Close()
	for {
		s.mu.Lock()
		for len(s.asked) == 0 && !s.closed {
			s.wake.Wait()
		}
		asked := s.asked
		s.asked = nil
		s.mu.Unlock()
		if asked == nil {
			return
		}
		for _, q := range asked {
			a := answer{q.frame, name(res, q)}
			s.mu.Lock()
			s.named = append(s.named, a)
			s.mu.Unlock()
		}
	}
}

func name(res *symbol.Resolver, q question) []format.Symbol {
	if q.module.jit != nil {
		return []format.Symbol{{Function: q.module.jit.Resolve(q.offset, true).Function}}
	}
	m := res.Module(func() (*os.File, error) { return reopen(q.module.file) }, q.module.path)
	var out []format.Symbol
	for _, f := range m.Resolve(q.offset, true) {
		out = append(out, format.Symbol{Function: f.Function, File: f.File, Line: uint32(f.Line), Inlined: f.Inlined})
	}
	return out
}

// reopen opens a file again that may have no name any more.
func reopen(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, os.ErrNotExist
	}
	return os.Open("/proc/self/fd/" + itoa(f.Fd()))
}
