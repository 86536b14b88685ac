package pack

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	maxRodata   = 256 << 20 // bytes of a program's read-only data that are looked through
	maxEntries  = 20 << 20  // of DWARF that are looked through
	maxStrings  = 64        // bytes of a version
	maxVersions = 1024      // that a program's text has
)

// findVersions looks through a program's read-only text for what a version looks
// like: between two NUL bytes, as compilers keep strings. They come as they are
// found, or highest first.
func findVersions(file string, re *regexp.Regexp, highest bool) (found []string, err error) {
	defer func() { // debug/elf meets foreign bytes first
		if p := recover(); p != nil {
			err = fmt.Errorf("read %s: %v", file, p)
		}
	}()
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("look for its version: %w", err)
	}
	defer f.Close()
	sec := f.Section(".rodata")
	if sec == nil || sec.FileSize > maxRodata || sec.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(sec.Open(), maxRodata))
	if err != nil {
		return nil, fmt.Errorf("look for its version: %w", err)
	}
	return versionsIn(data, re, highest), nil
}

func versionsIn(data []byte, re *regexp.Regexp, highest bool) (found []string) {
	for len(data) > 0 && len(found) < maxVersions {
		s, rest, _ := bytes.Cut(data, []byte{0})
		data = rest
		if len(s) < 3 || len(s) > maxStrings {
			continue
		}
		m := re.FindSubmatch(s)
		if m == nil {
			continue
		}
		if _, ok := parseVersion(string(m[1])); ok && !slices.Contains(found, string(m[1])) {
			found = append(found, string(m[1]))
		}
	}
	if highest {
		slices.SortStableFunc(found, func(a, b string) int {
			v, _ := parseVersion(a) // it was one above
			w, _ := parseVersion(b)
			return w.compare(v)
		})
	}
	return found
}

// dwarfOffsets reads where members of structures are from a program's debugging
// information, or from that of its debug file; nothing when there is none.
// fields are, by the name of the offset, TYPE.MEMBER in one version or another.
func dwarfOffsets(file, buildID string, fields map[string][]string) (out map[string]int64) {
	out = map[string]int64{}
	if len(fields) == 0 {
		return out
	}
	defer func() { // debug/dwarf, too
		if recover() != nil {
			out = map[string]int64{}
		}
	}()
	paths := []string{file}
	if len(buildID) > 2 {
		paths = append(paths, filepath.Join("/usr/lib/debug/.build-id", buildID[:2], buildID[2:]+".debug"))
	}
	for _, p := range paths {
		f, err := elf.Open(p)
		if err != nil {
			continue // that there is none is usual
		}
		d, err := f.DWARF()
		if err == nil {
			err = membersIn(d, fields, out)
		}
		f.Close()
		if err == nil && len(out) > 0 {
			return out
		}
		clear(out)
	}
	return out
}

var errTooMuch = errors.New("more debugging information than is looked through")

// membersIn walks over the types, the first definition of each counts.
func membersIn(d *dwarf.Data, fields map[string][]string, out map[string]int64) error {
	wanted := map[string]map[string]string{} // type -> member -> name
	for name, alternatives := range fields {
		for _, field := range alternatives {
			typ, member, _ := strings.Cut(field, ".")
			if wanted[typ] == nil {
				wanted[typ] = map[string]string{}
			}
			wanted[typ][member] = name
		}
	}
	r := d.Reader()
	for n := 0; len(out) < len(fields); n++ {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil {
			return nil
		}
		if n > maxEntries {
			return errTooMuch
		}
		switch e.Tag {
		case dwarf.TagStructType, dwarf.TagClassType:
			name, _ := e.Val(dwarf.AttrName).(string)
			if members := wanted[name]; members != nil && e.Children {
				if err := structMembers(r, members, out); err != nil {
					return err
				}
			}
		case dwarf.TagSubprogram:
			r.SkipChildren()
		}
	}
	return nil
}

func structMembers(r *dwarf.Reader, members map[string]string, out map[string]int64) error {
	for {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil || e.Tag == 0 {
			return nil
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		off, ok := e.Val(dwarf.AttrDataMemberLoc).(int64)
		if as := members[name]; as != "" && ok && e.Tag == dwarf.TagMember {
			if _, seen := out[as]; !seen {
				out[as] = off
			}
		}
		r.SkipChildren()
	}
}
