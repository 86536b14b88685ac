package unwind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

// testModule is a module of one section.
func testModule(t *table) *Module {
	u := New(Options{DebugDirs: []string{}})
	m := &Module{u: u, arch: AMD64, file: bytes.NewReader(nil)}
	m.rules, m.places, m.sources = map[string]*rule{}, map[place]*rule{}, []source{t}
	return m
}

// ask decodes all that a section holds.
func ask(t testing.TB, tab *table) {
	m := testModule(tab)
	err := tab.scan()
	if err != nil && !errors.Is(err, ErrDamaged) {
		t.Errorf("scan: %v", err)
	}
	m.u.work = maxWork
	for i, e := range tab.index {
		if i > 0 && e.start < tab.index[i-1].start {
			t.Fatalf("index is not sorted at %d", i)
		}
		for _, at := range []uint64{e.start, e.start + 1, e.start + 9} {
			if r := m.rule(at, false); r != nil && (r.cfa.how == inRegister && r.cfa.reg >= maxRegs || len(r.saved) > maxRegs) {
				t.Fatalf("rule %+v", r)
			}
		}
		if i == 200 {
			break
		}
	}
	if m.err != nil && !errors.Is(m.err, ErrDamaged) {
		t.Errorf("error without a type: %v", m.err)
	}
}

func FuzzEHFrame(f *testing.F) {
	f.Add(section(cieBytes("zRS", 0x1b), fdeBytes(0x1000, 0x100, 0x0e, 0x10, 0x86, 2, 0x41, 0x0d, 6)))
	f.Add(section(cieBytes("zPLR", 0x00), fdeBytes(0, 0, 0x0f, 2, 0x77, 8)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		ask(t, &table{data: data, base: bases{section: 0x400000, text: 0x1000, data: 0x2000}})
		ask(t, &table{data: data, debug: true})
		// As a search table, too, over the same bytes.
		if _, pairs, ok := searchTable(data, 0x5000); ok && pairs != nil {
			tab := &table{data: data, search: pairs, codeAt: 0x5000, entryAt: ^uint64(0x400000-0x5000) + 1, base: bases{section: 0x400000}}
			m := testModule(tab)
			for i := 0; i < len(pairs)/8 && i < 100; i++ {
				m.u.work = maxWork
				m.rule(0x5000+uint64(int64(int32(binary.LittleEndian.Uint32(pairs[8*i:])))), true)
			}
		}
	})
}

func FuzzExpression(f *testing.F) {
	f.Add([]byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, []byte("stackstack"))
	f.Add([]byte{0x30, 0x12, 0x2f, 0xfc, 0xff}, []byte{})
	f.Fuzz(func(t *testing.T, code, stack []byte) {
		regs := registers{known: 1<<17 - 1}
		regs.set(amd64RSP, 0x7000)
		mem := memory{base: 0x7000, bytes: stack}
		e := expression{needs: &needs{mem: &mem}}
		for _, push := range []bool{true, false} {
			if _, end := e.evaluate(code, &regs, &mem, push, 0x7010); end != 0 && end != BadStep && end != SnapshotEnd {
				t.Errorf("ended: %v", end)
			}
		}
	})
}

// unwindFile loads a file and unwinds stacks that are full of its addresses.
func unwindFile(t testing.TB, data []byte) {
	u := New(Options{DebugDirs: []string{}, MaxSectionBytes: 1 << 20})
	m := u.Load(bytes.NewReader(data), "/nowhere")
	const start = 0x555500000000
	space := recordedSpace{{start, start + uint64(len(data)) + 1<<16, 0, m}}
	stack := make([]byte, 1<<12)
	for i := 0; i < len(stack); i += 8 {
		binary.LittleEndian.PutUint64(stack[i:], start+uint64(i*len(data)/len(stack)))
	}
	for off := 0; off < len(data); off += 1 + len(data)/32 {
		for _, arch := range []Arch{AMD64, ARM64} {
			snap := &Snapshot{Arch: arch, PC: start + uint64(off), SP: 0x7ffe00000000, FP: 0x7ffe00000100, LR: start, Stack: stack}
			if frames, end := u.Unwind(space, snap, nil); end == 0 || len(frames) == 0 || len(frames) > defaultFrames {
				t.Errorf("%d frames, ended: %v", len(frames), end)
			}
		}
	}
}

func FuzzModule(f *testing.F) {
	for _, name := range []string{"../symbol/testdata/hello.elf"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 1<<16 {
			unwindFile(t, data)
		}
	})
}

// TestDamagedModule cuts a file at every byte, and flips every byte of it.
func TestDamagedModule(t *testing.T) {
	data, err := os.ReadFile("../symbol/testdata/hello.elf")
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		unwindFile(t, data[:n])
		damaged := bytes.Clone(data)
		damaged[n] ^= 0xff
		unwindFile(t, damaged)
	}
}

// TestHostile hands out tables that are made to cost time or memory.
func TestHostile(t *testing.T) {
	long := func(n int, b ...byte) []byte { return bytes.Repeat(b, n) }
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"a program without end", section(cieBytes("zR", 0), fdeBytes(0x1000, 0x1000, long(1<<20, 0x0a, 0x0b)...))},
		{"states without end", section(cieBytes("zR", 0), fdeBytes(0x1000, 0x1000, long(1<<20, 0x0a)...))},
		{"numbers without end", section(cieBytes("zR", 0), fdeBytes(0x1000, 0x1000, append([]byte{0x0e}, long(1<<20, 0x80)...)...))},
		{"an expression that jumps to itself", section(cieBytes("zR", 0), fdeBytes(0x1000, 0x1000, 0x0f, 3, 0x2f, 0xfd, 0xff))},
		{"an expression of a megabyte", section(cieBytes("zR", 0), fdeBytes(0x1000, 0x1000, append([]byte{0x0f, 0x80, 0x80, 0x40}, long(1<<20, 0x30)...)...))},
		{"an augmentation of a megabyte", append(binary.LittleEndian.AppendUint32(nil, 1<<20+5), append([]byte{0, 0, 0, 0, 1}, long(1<<20, 'z')...)...)},
		{"an entry that is its own CIE", append(binary.LittleEndian.AppendUint32(nil, 20), append([]byte{4, 0, 0, 0}, long(16, 1)...)...)},
		{"a length of 2^64", append(long(12, 0xff), 0, 0, 0)},
		{"a million entries of one CIE", section(cieBytes("zR", 0), bytes.Repeat(fdeBytes(0x1000, 0x10), 1<<17))},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			for _, debug := range []bool{false, true} {
				tab := &table{data: c.data, debug: debug}
				ask(t, tab)
				m := testModule(tab)
				snap := &Snapshot{Arch: AMD64, PC: 0x1010, SP: 0x7000, Stack: make([]byte, 4096)}
				m.segs = []segment{{0, 0, 1 << 20}}
				for i := 0; i < len(snap.Stack); i += 8 {
					putMemory(snap, i, 0x1000+uint64(i))
				}
				if _, end := m.u.Unwind(recordedSpace{{0, 1 << 20, 0, m}}, snap, nil); end == 0 {
					t.Error("no end")
				}
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// section joins records; each FDE's pointer to the CIE, which is the first, is
// filled in.
func section(cie []byte, entries ...[]byte) []byte {
	out := slices.Clone(cie)
	for _, e := range entries {
		for len(e) >= 8 {
			n := int(binary.LittleEndian.Uint32(e)) + 4
			binary.LittleEndian.PutUint32(e[4:], uint32(len(out)+4))
			out = append(out, e[:n]...)
			e = e[n:]
		}
	}
	return append(out, 0, 0, 0, 0)
}

// cieBytes is a CIE whose entries have pointers of an encoding.
func cieBytes(augmentation string, encoding byte) []byte {
	body := []byte{0, 0, 0, 0, 1}
	body = append(body, augmentation...)
	body = append(body, 0, 1, 0x78, 16)
	var extra []byte
	for _, letter := range augmentation {
		switch letter {
		case 'R', 'L':
			extra = append(extra, encoding)
		case 'P':
			extra = append(extra, 0)
			extra = append(extra, make([]byte, 8)...)
		}
	}
	body = append(body, byte(len(extra)))
	body = append(body, extra...)
	body = append(body, 0x0c, 7, 8, 0x90, 1)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// fdeBytes is an FDE of absolute addresses.
func fdeBytes(start, size uint64, program ...byte) []byte {
	body := make([]byte, 4, 24+len(program))
	body = binary.LittleEndian.AppendUint64(body, start)
	body = binary.LittleEndian.AppendUint64(body, size)
	body = append(body, 0)
	body = append(body, program...)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}
