package tracefs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Limits of what is read; all far above what kernels have.
const (
	maxFormat    = 1 << 20
	maxFunctions = 64 << 20
	maxFields    = 256
)

// A Field is a field of a trace event's record.
type Field struct {
	Name   string
	Type   string // as in C
	Offset int
	Size   int
	Signed bool
}

// Format returns the fields of a trace event's record, those that all have left
// out.
func (f *FS) Format(group, name string) ([]Field, error) {
	if err := checkName(group, name); err != nil {
		return nil, err
	}
	data, err := f.root.ReadFile("events/" + group + "/" + name + "/format")
	if err != nil {
		return nil, fmt.Errorf("read the format of trace event %s:%s in %v: %w", group, name, f, err)
	}
	fields, err := parseFormat(string(data[:min(len(data), maxFormat)]))
	if err != nil {
		return nil, fmt.Errorf("read the format of trace event %s:%s: %w", group, name, err)
	}
	return fields, nil
}

var fieldLine = regexp.MustCompile(`^\s*field:(.*?)\s*([A-Za-z_][A-Za-z0-9_]*)(\[[^\]]*\])?;\s*offset:(\d+);\s*size:(\d+);\s*signed:([01]);`)

func parseFormat(text string) ([]Field, error) {
	var list []Field
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "field:") {
			continue
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%q is no field", strings.TrimSpace(line))
		}
		off, err1 := strconv.ParseUint(m[4], 10, 16)
		size, err2 := strconv.ParseUint(m[5], 10, 16)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("field %s: %w", m[2], err)
		}
		if strings.HasPrefix(m[2], "common_") {
			continue
		}
		if len(list) == maxFields {
			return nil, fmt.Errorf("more than %d fields", maxFields)
		}
		list = append(list, Field{Name: m[2], Type: strings.TrimSpace(m[1] + m[3]), Offset: int(off), Size: int(size), Signed: m[6] == "1"})
	}
	return list, nil
}

// Events returns group and name of the tracepoints that match patterns of
// path.Match, sorted. Definitions of probes are none.
func (f *FS) Events(group, name string) ([][2]string, error) {
	groups, err := f.matching("events", group)
	if err != nil {
		return nil, err
	}
	var list [][2]string
	for _, g := range groups {
		names, err := f.matching("events/"+g, name)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if _, err := f.root.Stat("events/" + g + "/" + n + "/id"); err == nil {
				list = append(list, [2]string{g, n})
			}
		}
	}
	return list, nil
}

// matching lists the directories that match a pattern; a name that is none need
// not be looked for.
func (f *FS) matching(dir, pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[") {
		if checkName(pattern) != nil {
			return nil, nil
		}
		if _, err := f.root.Stat(dir + "/" + pattern); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return []string{pattern}, nil
	}
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("list the trace events in %v: %w", f, err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list the trace events in %v: %w", f, err)
	}
	var list []string
	for _, e := range entries {
		if ok, _ := path.Match(pattern, e.Name()); ok && e.IsDir() && checkName(e.Name()) == nil {
			list = append(list, e.Name())
		}
	}
	slices.Sort(list)
	return list, nil
}

// Functions returns the functions of the kernel that kprobes can be put at.
func (f *FS) Functions() ([]string, error) {
	file, err := f.root.Open("available_filter_functions")
	if err != nil {
		return nil, fmt.Errorf("list the functions of the kernel in %v: %w", f, err)
	}
	defer file.Close()
	var list []string
	lines := bufio.NewScanner(io.LimitReader(file, maxFunctions))
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), " ") // of a module: NAME [MODULE]
		list = append(list, name)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list the functions of the kernel in %v: %w", f, err)
	}
	return list, nil
}
