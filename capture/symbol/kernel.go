package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	// maxKernelSymbols is about twenty times what a distribution kernel has.
	maxKernelSymbols = 4 << 20
	// maxKallsymsLine is KSYM_NAME_LEN (512) and MODULE_NAME_LEN with room.
	maxKallsymsLine = 4096
)

// KernelSymbol is a function of the running kernel.
type KernelSymbol struct {
	Addr   uint64
	Name   string
	Module string // without brackets; "" for the kernel itself
}

// KernelSymbols are the functions of /proc/kallsyms. Safe for concurrent use.
type KernelSymbols struct {
	symbols []KernelSymbol // by address, one for each
}

// Lookup returns the function that starts at or most closely before addr.
// kallsyms has no sizes, so an address past the last function belongs to it.
func (k *KernelSymbols) Lookup(addr uint64) (KernelSymbol, bool) {
	if k == nil {
		return KernelSymbol{}, false
	}
	i := sort.Search(len(k.symbols), func(i int) bool { return k.symbols[i].Addr > addr })
	if i == 0 {
		return KernelSymbol{}, false
	}
	return k.symbols[i-1], true
}

// Resolve returns the frame of addr; its Function is "" when there is none.
// The name of a module's function is followed by " [module]", as the kernel's
// own traces write it.
func (k *KernelSymbols) Resolve(addr uint64, isReturnAddress bool) Frame {
	at := addr
	if isReturnAddress && at > 0 {
		at--
	}
	s, ok := k.Lookup(at)
	if !ok {
		return Frame{}
	}
	name := s.Name
	if s.Module != "" {
		name += " [" + s.Module + "]"
	}
	return Frame{Function: name, Offset: addr - s.Addr}
}

// Symbols returns all functions by address. The caller must not change them.
func (k *KernelSymbols) Symbols() []KernelSymbol {
	if k == nil {
		return nil
	}
	return k.symbols
}

// errHidden is what the kernel shows to whom kernel.kptr_restrict denies
// addresses: zeros (kallsyms_show_value in kernel/ksyms_common.c).
var errHidden = errors.New("all addresses are hidden: run as root with CAP_SYSLOG, or set sysctl kernel.kptr_restrict=0")

// parseKallsyms reads lines "address type name [module]" and keeps functions.
func parseKallsyms(r io.Reader) (*KernelSymbols, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, maxKallsymsLine), maxKallsymsLine)
	k := &KernelSymbols{}
	lines, hidden := 0, true
	for ; scanner.Scan(); lines++ {
		addr, rest, ok := strings.Cut(scanner.Text(), " ")
		kind, rest, ok2 := strings.Cut(rest, " ")
		if !ok || !ok2 || len(kind) != 1 {
			return nil, fmt.Errorf("parse kallsyms: line %d: too few columns", lines+1)
		}
		value, err := strconv.ParseUint(addr, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("parse kallsyms: line %d: %w", lines+1, err)
		}
		hidden = hidden && value == 0
		if value == 0 || !strings.Contains("tTwW", kind) {
			continue
		}
		if len(k.symbols) == maxKernelSymbols {
			return nil, fmt.Errorf("parse kallsyms: more than %d functions", maxKernelSymbols)
		}
		name, module, _ := strings.Cut(rest, "\t")
		k.symbols = append(k.symbols, KernelSymbol{value, name, strings.Trim(module, "[]")})
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("parse kallsyms: after line %d: %w", lines, err)
	}
	if lines > 0 && hidden {
		return nil, fmt.Errorf("parse kallsyms: %w", errHidden)
	}
	// Aliases: the first in the file's order stays, as the kernel itself
	// prefers it (kallsyms_lookup in kernel/kallsyms.c).
	slices.SortStableFunc(k.symbols, func(a, b KernelSymbol) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	k.symbols = slices.CompactFunc(k.symbols, func(a, b KernelSymbol) bool { return a.Addr == b.Addr })
	return k, nil
}
