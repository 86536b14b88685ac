package symbol

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
)

const (
	// maxPerfMap and maxPerfEntries bound what is read of a perf map. A large
	// program of Node or Java has some 100,000 entries in 10 MB.
	maxPerfMap     = 256 << 20
	maxPerfEntries = 1 << 21
)

// A PerfMap names code that a program makes at run time, from the file that
// virtual machines write for perf: a line for each function, its address and
// size in hexadecimal and its name (tools/perf/Documentation/jit-interface.txt in
// Linux). The file grows while the program runs, and where memory is used again
// the later line holds; what was appended is read when an address is looked up.
// Not safe for concurrent use.
type PerfMap struct {
	open    func() (*os.File, error)
	read    int64       // bytes of whole lines
	entries []perfEntry // by start
	err     error
}

type perfEntry struct {
	start, end uint64
	order      int // of its line
	name       string
}

// NewPerfMap returns the perf map that open opens, each time anew.
func NewPerfMap(open func() (*os.File, error)) *PerfMap { return &PerfMap{open: open} }

// Err returns why the last read stopped, nil when it did not.
func (p *PerfMap) Err() error { return p.err }

// Resolve returns the frame of an address; its Function is "" when the file does
// not tell, or is not there.
func (p *PerfMap) Resolve(addr uint64, isReturnAddress bool) Frame {
	at := addr
	if isReturnAddress && at > 0 {
		at--
	}
	p.err = p.update()
	i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].start > at }) - 1
	var best *perfEntry
	for stop := max(i-maxNesting, -1); i > stop; i-- {
		if e := &p.entries[i]; at < e.end && (best == nil || e.order > best.order) {
			best = e
		}
	}
	if best == nil {
		return Frame{}
	}
	return Frame{Function: demangled(best.name), Offset: addr - best.start}
}

// update reads the lines that were appended. A line without an end is read
// again when it has one.
func (p *PerfMap) update() error {
	file, err := openRegular(p.open)
	if err != nil {
		return fmt.Errorf("perf map: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("perf map: %w", err)
	}
	if info.Size() < p.read { // written anew
		p.read, p.entries = 0, nil
	}
	in := bufio.NewReaderSize(io.NewSectionReader(file, p.read, maxPerfMap-p.read), maxNameBytes)
	added := false
	for {
		line, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull || err == nil && len(p.entries) == maxPerfEntries {
			return fmt.Errorf("perf map %s: after byte %d: %w", file.Name(), p.read, errTooLarge)
		}
		if err != nil {
			break
		}
		p.read += int64(len(line))
		if e, ok := parsePerfLine(line); ok {
			e.order = len(p.entries)
			p.entries = append(p.entries, e)
			added = true
		}
	}
	if added {
		sort.SliceStable(p.entries, func(i, k int) bool { return p.entries[i].start < p.entries[k].start })
	}
	return nil
}

// parsePerfLine reads "START SIZE name", both in hexadecimal.
func parsePerfLine(line []byte) (e perfEntry, ok bool) {
	parts := bytes.SplitN(bytes.TrimSpace(line), []byte(" "), 3)
	if len(parts) < 3 {
		return e, false
	}
	start, err := strconv.ParseUint(string(bytes.TrimPrefix(parts[0], []byte("0x"))), 16, 64)
	if err != nil {
		return e, false
	}
	size, err := strconv.ParseUint(string(bytes.TrimPrefix(parts[1], []byte("0x"))), 16, 64)
	if err != nil || size == 0 || start+size < start {
		return e, false
	}
	return perfEntry{start: start, end: start + size, name: string(parts[2])}, true
}
