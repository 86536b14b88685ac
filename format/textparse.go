package format

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Parse reads events as [Format] writes them and appends them to w. Empty
// lines and lines that begin with # are skipped.
//
// A line of the word probe and JSON declares a [Probe], which the calls after
// it can name.
//
// Fields may come in any order; those that are left out are 0. Tasks and
// stacks are made on the fly: a stack is the names of its functions, innermost
// first, stack=leak_here;main. The address space of a task has the number of
// its process unless @SPACE after PID/TID, or space= with a kind that has no
// such field, says otherwise. The text has no other facts of a task or a
// frame.
func Parse(w *Writer, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if declaration, ok := strings.CutPrefix(text, "probe "); ok {
			if err := parseProbe(w, declaration); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		e, err := parseEvent(w, text)
		if err == nil {
			err = w.Append(&e)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

func parseEvent(w *Writer, line string) (Event, error) {
	words, err := splitQuoted(line, ' ')
	if err != nil {
		return Event{}, err
	}
	if len(words) < 4 {
		return Event{}, errors.New("want TIME PID/TID COMM KIND, then field=value")
	}
	var e Event
	ns, err := parseSeconds(words[0])
	if err != nil {
		return e, err
	}
	e.Time = w.start + ns
	task, err := parseTask(words[1])
	if err != nil {
		return e, err
	}
	if task.Comm, err = unquote(words[2]); err != nil {
		return e, err
	}
	info, err := kindNamed(words[3])
	if err != nil {
		return e, err
	}
	e.Kind = info.Kind
	seen := map[string]bool{}
	var args []textArg
	for _, word := range words[4:] {
		name, value, ok := strings.Cut(word, "=")
		if !ok || seen[name] {
			return e, fmt.Errorf("field %q: want each once, as field=value", word)
		}
		seen[name] = true
		if info.Kind == KindCall && (name == "args" || !isCallField(name)) {
			if name, err = unquote(name); err != nil {
				return e, err
			}
			args = append(args, textArg{name, value})
			continue
		}
		if err := parseField(w, info, &e, &task, name, value); err != nil {
			return e, fmt.Errorf("field %s: %w", name, err)
		}
	}
	if info.Kind == KindCall {
		if err := parseArgs(w, &e, args); err != nil {
			return e, err
		}
	}
	e.Task = w.Task(task)
	return e, nil
}

func kindNamed(name string) (*KindInfo, error) {
	for i := range Kinds {
		if Kinds[i].Name == name && i > 0 {
			return &Kinds[i], nil
		}
	}
	return nil, fmt.Errorf("no event kind is named %q", name)
}

func parseField(w *Writer, info *KindInfo, e *Event, task *Task, name, value string) (err error) {
	for i, f := range info.Fields {
		if f.Name == name {
			if e.Kind == KindLoss && i == LossKind {
				if lost, err := kindNamed(value); err == nil {
					e.V[i] = uint64(lost.Kind)
					return nil
				}
			}
			e.V[i], err = parseValue(w, &f, value)
			return err
		}
	}
	if name != "space" {
		return fmt.Errorf("%s has no such field", info.Name)
	}
	space, err := strconv.ParseUint(value, 10, 32)
	task.Space = uint32(space)
	return err
}

func parseValue(w *Writer, f *Field, value string) (uint64, error) {
	switch f.Type {
	case TypeString, TypeModule:
		s, err := unquote(value)
		if f.Type == TypeString {
			return uint64(w.String(s)), err
		}
		return uint64(w.Module(Module{Path: s})), err
	case TypeProbe:
		s, err := unquote(value)
		if err != nil {
			return 0, err
		}
		id, err := w.probeNamed(s)
		return uint64(id), err
	case TypeStack:
		return parseStack(w, value)
	case TypeInt:
		v, err := strconv.ParseInt(value, 0, 64)
		return uint64(v), err
	case TypeEnum:
		name, err := unquote(value)
		if err != nil {
			return 0, err
		}
		for i, s := range f.Enum {
			if s == name {
				return uint64(i), nil
			}
		}
	}
	return strconv.ParseUint(value, 0, 64)
}

func parseStack(w *Writer, value string) (uint64, error) {
	if strings.HasPrefix(value, "#") {
		return strconv.ParseUint(value[1:], 10, 32)
	}
	names, err := splitQuoted(value, ';')
	if err != nil {
		return 0, err
	}
	var id StackID
	for i := len(names) - 1; i >= 0; i-- {
		name, err := unquote(names[i])
		if err != nil {
			return 0, err
		}
		id = w.Stack(id, w.Frame(Frame{Function: name}))
	}
	return uint64(id), nil
}

func parseTask(s string) (Task, error) {
	ids, space, hasSpace := strings.Cut(s, "@")
	pid, tid, ok := strings.Cut(ids, "/")
	p, err1 := strconv.ParseUint(pid, 10, 32)
	t, err2 := strconv.ParseUint(tid, 10, 32)
	sp, err3 := p, error(nil)
	if hasSpace {
		sp, err3 = strconv.ParseUint(space, 10, 32)
	}
	if !ok || err1 != nil || err2 != nil || err3 != nil {
		return Task{}, fmt.Errorf("task %q: want PID/TID or PID/TID@SPACE", s)
	}
	return Task{Pid: uint32(p), Tid: uint32(t), Space: uint32(sp)}, nil
}

// parseSeconds reads seconds with up to nine decimals as ns.
func parseSeconds(s string) (int64, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, frac, _ := strings.Cut(digits, ".")
	if len(frac) > 9 {
		return 0, fmt.Errorf("time %q: more than nine decimals", s)
	}
	sec, err1 := strconv.ParseUint(whole, 10, 63)
	ns, err2 := strconv.ParseUint(frac+"000000000"[len(frac):], 10, 63)
	if err1 != nil || err2 != nil || sec > math.MaxInt64/1_000_000_000-1 {
		return 0, fmt.Errorf("time %q: want seconds, as 12.345", s)
	}
	v := int64(sec*1e9 + ns)
	if negative {
		v = -v
	}
	return v, nil
}

// unquote is the reverse of appendText.
func unquote(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	if s == "" || s[0] != '"' {
		return s, nil
	}
	v, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("quoted text %s: %w", s, err)
	}
	return v, nil
}

// splitQuoted splits s at sep, but not within double quotes; runs of spaces
// count as one.
func splitQuoted(s string, sep byte) ([]string, error) {
	var parts []string
	start, quoted := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) && quoted:
			return nil, fmt.Errorf("quote is not closed in %q", s)
		case i == len(s) || s[i] == sep && !quoted:
			if sep != ' ' || i > start {
				parts = append(parts, s[start:i])
			}
			start = i + 1
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		}
	}
	return parts, nil
}
