package analyze

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tcap-dev/tcap/analyze/export"
)

func TestSuppressionMatch(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		yes, not []string
	}{
		{"foo", []string{"foo", "xfoox"}, []string{"fo", ""}},
		{"^foo", []string{"foo", "foobar"}, []string{"xfoo"}},
		{"foo$", []string{"foo", "xfoo"}, []string{"foox"}},
		{"^foo$", []string{"foo"}, []string{"foox", "xfoo", ""}},
		{"a*b", []string{"ab", "xaxxbx"}, []string{"ba"}},
		{"^a*b$", []string{"ab", "aabb"}, []string{"abc", "cab"}},
		{"^a*a$", []string{"aa", "aba"}, []string{"a"}},
		{"*", []string{"", "x"}, nil},
		{"^*$", []string{"", "x"}, nil},
		{"^$", []string{""}, []string{"x"}},
		{"a*a*a", []string{"aaa"}, []string{"aa"}},
	} {
		s, err := newSuppression(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.yes {
			if !s.Match(name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for _, name := range c.not {
			if s.Match(name) {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
}

func TestSuppressionErrors(t *testing.T) {
	for text, want := range map[string]string{
		"leak:a\nrace:b": "line 2",
		"nonsense":       "line 1",
		"leak:":          "matches everything",
		"leak:^":         "matches everything",
		"leak:" + strings.Repeat("x", maxPattern+1):   "line 1",
		strings.Repeat("leak:a\n", maxSuppressions+1): "more than",
		"leak:" + strings.Repeat("x", 1<<17):          "too long",
	} {
		if _, err := ParseSuppressions(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want %q in it", text, err, want)
		}
	}
}

// FuzzSuppressions compares the matcher with a regular expression.
func FuzzSuppressions(f *testing.F) {
	for _, s := range []string{"leak:foo", "leak:^a*b$", "# c\nleak:*\n", "leak:^$", "race:x", "leak:a**b", "leak:^*a", "leak:a^b$c"} {
		f.Add(s, "foo")
		f.Add(s, "aXb")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		list, err := ParseSuppressions(strings.NewReader(text))
		if err != nil || !utf8.ValidString(text) || !utf8.ValidString(name) {
			return // a regular expression takes no other text
		}
		for _, s := range list {
			if want := suppressionRegexp(s.Pattern).MatchString(name); s.Match(name) != want {
				t.Errorf("pattern %q, name %q: %v, want %v", s.Pattern, name, !want, want)
			}
		}
	})
}

func suppressionRegexp(p string) *regexp.Regexp {
	p, begin := strings.CutPrefix(p, "^")
	p, end := strings.CutSuffix(p, "$")
	parts := strings.Split(p, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	expr := strings.Join(parts, `(?s:.*)`)
	if begin {
		expr = `\A` + expr
	}
	if end {
		expr += `\z`
	}
	return regexp.MustCompile(expr)
}

// TestBuiltinSuppressions tells what the runtime keeps from what a program
// allocates by way of the same library.
func TestBuiltinSuppressions(t *testing.T) {
	const libstdcxx = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30"
	for _, c := range []struct {
		stack []export.Frame
		want  bool
	}{
		{[]export.Frame{{Module: libstdcxx}}, true}, // the emergency pool
		{[]export.Frame{{Function: "operator new(unsigned long)", Module: libstdcxx}, {Module: libstdcxx}}, false},
		{[]export.Frame{{Function: "operator new(unsigned long)", Module: libstdcxx}, {Function: "main"}}, false},
		{[]export.Frame{{Module: "/opt/app/plugin.so"}, {Module: libstdcxx}}, false},
		{[]export.Frame{{Function: "_dl_new_object"}}, true},
		{[]export.Frame{{Function: "my_dl_new_object"}}, false},
		{nil, false},
	} {
		got := false
		for i := range builtinSuppressions {
			got = got || builtinSuppressions[i].matchStack(c.stack)
		}
		if got != c.want {
			t.Errorf("%+v: left out %v, want %v", c.stack, got, c.want)
		}
	}
}
