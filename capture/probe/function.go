package probe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tcap-dev/tcap/capture/symbol"
)

// SetName changes the path that messages tell, where the one that was opened
// leads through /proc.
func (e *ELF) SetName(path string) { e.name = path }

// Name is the path that messages tell.
func (e *ELF) Name() string {
	if e.name != "" {
		return e.name
	}
	return e.path
}

// IsPattern reports whether a name has letters that path.Match takes for others.
func IsPattern(name string) bool { return strings.ContainsAny(name, "*?[") }

// Functions returns the functions that a name or pattern means, each place once.
// The error of none tells where it was looked for, and what is named alike.
func (e *ELF) Functions(name string) ([]Symbol, error) {
	if !IsPattern(name) {
		s, err := e.Lookup(name)
		if errors.Is(err, ErrNoSymbol) && strings.Contains(name, "::") {
			return e.Exactly(name) // as people write it
		}
		if err != nil {
			return nil, err
		}
		return []Symbol{s}, nil
	}
	all, err := e.Glob(name)
	if err != nil {
		return nil, err
	}
	seen := map[uint64]bool{}
	var list []Symbol
	for _, s := range all {
		if !seen[s.Offset] {
			seen[s.Offset] = true
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("find %s in %s: %w matches in %s%s", name, e.Name(), ErrNoSymbol, e.tables(), e.nearest(strings.Trim(name, "*")))
	}
	return list, nil
}

// Exactly returns the functions of a name, as it is in the file or as people write it, with
// the types of its parameters or without, each place once: Go has as many of a generic function as there are kinds of arguments, and their
// common name, as main.Map[...], means them all.
func (e *ELF) Exactly(name string) ([]Symbol, error) {
	seen := map[uint64]bool{}
	var list []Symbol
	err := e.Each(func(s Symbol) bool {
		if !seen[s.Offset] && isWritten(s.Name, name) {
			seen[s.Offset] = true
			list = append(list, s)
		}
		return true
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("find %s in %s: %w in %s%s", name, e.Name(), ErrNoSymbol, e.tables(), e.nearest(name))
	}
	return list, err
}

// isWritten reports whether a function of the file has a name that people write so.
func isWritten(inFile, name string) bool {
	switch {
	case inFile == name:
		return true
	case isMangled(inFile):
		return symbol.Demangled(inFile) == name || strings.Contains(name, "(") && symbol.Signature(inFile) == name
	}
	return strings.Contains(name, anyShape) && generic(inFile) == name
}

// anyShape stands in .gopclntab for the types that a generic function is made for.
const anyShape = "[...]"

// generic is the name of a Go function without them.
func generic(name string) string {
	from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if from < 0 || to < from {
		return name
	}
	return name[:from] + anyShape + name[to+1:]
}

// Points are where the entry of a function is probed and, if that is wanted, its
// return.
func (e *ELF) Points(s Symbol, returns bool) (entry Point, ret *Point) {
	entry = Point{Name: s.Name + " in " + e.Name(), Path: e.path, Offset: s.Offset}
	code, err := e.Code(s.Offset, int(min(s.Size, maxCode+1)))
	if err != nil {
		code = nil // then it stays at the entry
	}
	entry.Placement = Place(e.Machine(), code)
	entry.Offset += entry.Placement.Delta
	if !returns {
		return entry, nil
	}
	r := entry
	r.Return = true
	return entry, &r
}

// Clones names the functions that the compiler made of one, as a clause; "" when
// there are none.
func (e *ELF) Clones(name string) string {
	var found []string
	_ = e.Each(func(s Symbol) bool { // a clause less does not matter
		if strings.HasPrefix(s.Name, name+".") && len(found) < maxNearest {
			found = append(found, s.Name)
		}
		return true
	})
	if len(found) == 0 {
		return ""
	}
	return " (there is " + strings.Join(found, ", ") + ")"
}

// NoMark is the error of a mark that is not there.
func (e *ELF) NoMark(provider, name string) error {
	all, err := e.Marks("*", "*")
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("find mark %s:%s in %s: the file has no marks (.note.stapsdt)", provider, name, e.Name())
	}
	var names []string
	seen := map[string]bool{}
	for _, m := range all {
		if n := m.Provider + ":" + m.Name; !seen[n] && len(names) < 8 {
			seen[n] = true
			names = append(names, printable(n))
		}
	}
	return fmt.Errorf("find mark %s:%s in %s: there is none; it has %s", provider, name, e.Name(), strings.Join(names, ", "))
}
