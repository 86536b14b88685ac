package symbol

import (
	"debug/elf"
	"fmt"
)

// MiniDebugInfo returns the ELF file inside .gnu_debugdata, nil when there is
// none. At most limit bytes are unpacked.
func MiniDebugInfo(f *elf.File, limit int64) ([]byte, error) {
	packed, err := sectionData(f, ".gnu_debugdata", limit)
	if packed == nil || err != nil {
		return nil, err
	}
	data, err := unxz(packed, limit)
	if err != nil {
		return nil, fmt.Errorf("section .gnu_debugdata: %w", err)
	}
	return data, nil
}

// GoFunctions returns the functions of a Go program by its own table, which
// stripping leaves in place; none when it is no Go program. At most limit bytes
// are read.
func GoFunctions(f *elf.File, limit int64) ([]Symbol, error) {
	t, err := readGoTable(f, limit)
	if t == nil || err != nil {
		return nil, err
	}
	list := make([]Symbol, 0, t.count)
	for i := range t.count {
		const nameAt = 4 // in _func
		at := t.uint(t.tables[(2*i+1)*t.field:], t.field)
		if at > uint64(len(t.tables)) || uint64(len(t.tables))-at < uint64(t.field)+nameAt {
			continue
		}
		name := tableString(t.names, t.uint(t.tables[at:][t.field-4+nameAt:], 4))
		start, end := t.entry(i), t.entry(i+1)
		if name != "" && start <= end {
			list = append(list, Symbol{Addr: start, Size: end - start, Name: name})
		}
	}
	return list, nil
}

// Demangled gives C++ and Rust names as people write them, without parameters.
func Demangled(name string) string { return demangled(name) }

// Signature gives C++ names with the types of their parameters, and of their
// result where the name has it, which is in templates.
func Signature(name string) string { return demangledAs(name) }
