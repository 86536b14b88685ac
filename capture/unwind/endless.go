package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// endlessNames are functions of C libraries that do not return. What calls one
// may have no ret behind the call, but whatever function comes next.
var endlessNames = map[string]bool{
	"exit": true, "_exit": true, "_Exit": true, "quick_exit": true, "abort": true,
	"pthread_exit": true, "__pthread_exit": true, "thrd_exit": true,
	"__assert_fail": true, "__stack_chk_fail": true,
}

// endless reports whether the function at addr is one of those, by the module's
// symbols.
func (m *Module) endless(addr uint64) bool {
	if m.noReturn == nil {
		m.noReturn = map[uint64]bool{}
		if f, err := symbol.ReadELF(m.file); err == nil {
			m.readEndless(f)
		}
	}
	return m.noReturn[addr]
}

// maxSymbolBytes bounds the tables of symbols that are looked through: a C
// library's have some 100 KiB.
const maxSymbolBytes = 8 << 20

const maxEndless = 64

func (m *Module) readEndless(f *elf.File) {
	for _, s := range f.Sections {
		if s.Type != elf.SHT_DYNSYM && s.Type != elf.SHT_SYMTAB || s.Link >= uint32(len(f.Sections)) {
			continue
		}
		symbols, err := symbol.Section(s, maxSymbolBytes)
		if err != nil {
			continue // and so is what the table would have told
		}
		names, err := symbol.Section(f.Sections[s.Link], maxSymbolBytes)
		if err != nil {
			continue
		}
		for ; len(symbols) >= elf.Sym64Size; symbols = symbols[elf.Sym64Size:] {
			at := binary.LittleEndian.Uint32(symbols)
			addr := binary.LittleEndian.Uint64(symbols[8:])
			if len(m.noReturn) == maxEndless {
				return
			}
			if addr == 0 || uint64(at) >= uint64(len(names)) {
				continue
			}
			name := names[at:min(uint64(at)+24, uint64(len(names)))]
			if end := bytes.IndexByte(name, 0); end >= 0 && endlessNames[string(name[:end])] {
				m.noReturn[addr] = true
			}
		}
	}
}
