package analyze

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/tcap-dev/tcap/analyze/export"
)

// A Suppression is a rule "leak:PATTERN" of a LeakSanitizer suppression file:
// blocks whose stack has a frame whose function, source file or module matches
// are left out of the report, and counted. In a pattern * stands for any
// characters; the pattern matches anywhere in the name unless it begins with ^
// or ends with $.
type Suppression struct {
	Pattern string
	Builtin bool

	unnamed    bool     // match the module of an innermost frame that has no function
	begin, end bool     // anchored
	parts      []string // between the stars
}

// maxSuppressions and maxPattern bound what a suppression file can demand.
const (
	maxSuppressions = 10_000
	maxPattern      = 4096
)

// ParseSuppressions reads a suppression file: a rule per line, # begins a
// comment. Rules of other sanitizers (race:, thread: and so on) are an error,
// so that a wrong file is noticed; the error names the line.
func ParseSuppressions(r io.Reader) ([]Suppression, error) {
	var list []Suppression
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		kind, pattern, ok := strings.Cut(line, ":")
		if !ok || kind != "leak" {
			return nil, fmt.Errorf("line %d: %q is not leak:PATTERN", n, line)
		}
		s, err := newSuppression(pattern)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if list = append(list, s); len(list) > maxSuppressions {
			return nil, fmt.Errorf("line %d: more than %d rules", n, maxSuppressions)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read suppressions: %w", err)
	}
	return list, nil
}

func newSuppression(pattern string) (Suppression, error) {
	s := Suppression{Pattern: pattern}
	p := pattern
	if len(p) > maxPattern {
		return s, fmt.Errorf("pattern of %d bytes, at most %d are taken", len(p), maxPattern)
	}
	p, s.begin = strings.CutPrefix(p, "^")
	p, s.end = strings.CutSuffix(p, "$")
	s.parts = strings.Split(p, "*")
	if p == "" && !(s.begin && s.end) {
		return s, fmt.Errorf("pattern %q matches everything; * says so if that is meant", pattern)
	}
	return s, nil
}

// Match reports whether a name matches the pattern. It takes time linear in
// len(name) for each star: the leftmost place for each part is as good as any.
func (s *Suppression) Match(name string) bool {
	parts := s.parts
	last := len(parts) - 1
	if s.begin {
		var ok bool
		if name, ok = strings.CutPrefix(name, parts[0]); !ok {
			return false
		}
		if last == 0 {
			return !s.end || name == ""
		}
		parts = parts[1:]
		last--
	}
	for i, p := range parts {
		if i == last && s.end {
			return strings.HasSuffix(name, p)
		}
		at := strings.Index(name, p)
		if at < 0 {
			return false
		}
		name = name[at+len(p):]
	}
	return true
}

// matchStack reports whether a frame of the stack matches.
func (s *Suppression) matchStack(frames []export.Frame) bool {
	if s.unnamed {
		return len(frames) > 0 && frames[0].Function == "" && s.Match(frames[0].Module)
	}
	for i := range frames {
		f := &frames[i]
		if f.Function != "" && s.Match(f.Function) {
			return true
		}
		if !s.Builtin && (f.File != "" && s.Match(f.File) || f.Module != "" && s.Match(f.Module)) {
			return true
		}
	}
	return false
}

// builtinSuppressions name what the C runtime allocates once or keeps for
// reuse and never frees: LeakSanitizer's exemptions (pthread_create and the
// thread-local storage made in it, atexit, strerror) and heaptrack's list
// without dl_open_worker and the GLib names, under which a program's own
// constructors and callbacks run.
//
// The second half of the list is what glibc's own start allocates in a static
// program, and the pool from which libstdc++ throws when memory is short. The
// latter's function has a name only where libstdc++ has its symbols; all others
// of libstdc++ that call malloc itself are exported.
var builtinSuppressions = append(mustSuppressions(
	"^pthread_create$", "^__pthread_create*", "^_dl_allocate_tls$", "^allocate_dtv$", "^__tls_get_addr*", "^tls_get_addr_tail*",
	"^__cxa_atexit$", "^__new_exitfn$", "^atexit$", "^pthread_atfork$", "^__register_atfork$", "^strerror$", "^strerror_l$",
	"^__nss_module_allocate$", "^__gconv_read_conf$", "^__gconv_load_conf$", "^tzset_internal$",

	"^_dl_non_dynamic_init$", "^_dl_get_origin$", "^_dl_init_paths*", "^_dl_find_object_init$", "^_dl_new_object$",
	"^_GLOBAL__sub_I_eh_alloc.cc$", "^(anonymous namespace)::pool::pool*",
), Suppression{Pattern: "libstdc++.so", Builtin: true, unnamed: true, parts: []string{"libstdc++.so"}})

func mustSuppressions(patterns ...string) []Suppression {
	list := make([]Suppression, len(patterns))
	for i, p := range patterns {
		s, err := newSuppression(p)
		if err != nil {
			panic(err) // a constant of this file is wrong; its test runs it
		}
		s.Builtin = true
		list[i] = s
	}
	return list
}
