// Package sql tells which queries are the same query with other literals.
package sql

import (
	"strings"

	"github.com/DataDog/go-sqllexer"
)

// A Dialect says what SQL a server speaks, as far as it matters here.
type Dialect int

// Dialects.
const (
	MySQL    Dialect = iota // double quotes are strings, # begins a comment
	Standard                // double quotes are names, $$ quotes strings
)

// MaxFingerprint bounds a fingerprint, in bytes.
const MaxFingerprint = 1 << 10

// Fingerprint returns text in lower case with every literal, and every list of
// literals, replaced by ?, without comments and with single spaces. Optimizer
// hints and MySQL's conditional comments stay. cut says that text is only the
// beginning of the query, which then is told by a … at the end.
//
// It takes any bytes and never fails: what is no SQL is its own fingerprint.
func Fingerprint(text string, cut bool, d Dialect) string {
	dbms := sqllexer.DBMSMySQL
	if d == Standard {
		dbms = sqllexer.DBMSPostgres
	}
	f := fingerprint{}
	// A NUL would end the text for the lexer.
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	lexer := sqllexer.New(text, sqllexer.WithDBMS(dbms))
	for f.out.Len() < MaxFingerprint && !f.full {
		t := lexer.Scan()
		if t.Type == sqllexer.EOF {
			return f.end(cut)
		}
		f.token(t)
	}
	return f.end(true)
}

// fingerprint is one under construction.
type fingerprint struct {
	out   strings.Builder
	words []string // of the lists in parentheses that are open, not yet in out
	open  []int    // where in words each of them begins
	last  string   // the last word
	space bool     // there was space, or a comment, after it
	full  bool     // a list is longer than a fingerprint can be
}

func (f *fingerprint) token(t *sqllexer.Token) {
	v := t.Value
	switch t.Type {
	case sqllexer.SPACE:
		f.space = true
	case sqllexer.COMMENT, sqllexer.MULTILINE_COMMENT:
		if strings.HasPrefix(v, "/*+") || strings.HasPrefix(v, "/*!") {
			f.word(strings.ToLower(strings.Join(strings.Fields(v), " ")))
			break
		}
		f.space = true
	case sqllexer.NUMBER:
		if (v[0] == '-' || v[0] == '+') && isOperand(f.last) {
			f.word(v[:1]) // the lexer takes the operator for a sign
		}
		f.word("?")
	case sqllexer.STRING, sqllexer.INCOMPLETE_STRING, sqllexer.DOLLAR_QUOTED_STRING, sqllexer.DOLLAR_QUOTED_FUNCTION:
		f.literal()
	case sqllexer.POSITIONAL_PARAMETER, sqllexer.BIND_PARAMETER, sqllexer.BOOLEAN, sqllexer.NULL:
		if f.last == "is" || f.last == "not" {
			f.plain(v)
			break
		}
		if t.Type == sqllexer.BIND_PARAMETER && strings.HasPrefix(v, "@") {
			f.word(strings.ToLower(v)) // a variable of MySQL
			break
		}
		f.word("?")
	default:
		f.plain(v)
	}
}

// literal adds a string, together with what says of what kind: x'ff', n'text',
// _utf8'text'.
func (f *fingerprint) literal() {
	if !f.space && (f.last == "x" || f.last == "b" || f.last == "n" || f.last == "e" || strings.HasPrefix(f.last, "_")) {
		f.drop()
	}
	f.word("?")
}

// plain adds a name, a keyword or an operator. A qualified name, of which the
// lexer may make one word, stays one.
func (f *fingerprint) plain(v string) {
	v = strings.ToLower(strings.Join(strings.Fields(v), " "))
	if v == "" {
		f.space = true
		return
	}
	f.word(v)
}

// isOperand reports whether a + or - after a word is an operator.
func isOperand(last string) bool {
	if last == "" {
		return false
	}
	switch last {
	case "select", "where", "and", "or", "not", "in", "between", "then", "else", "when", "limit", "by", "values", "set", "return":
		return false
	}
	return !strings.ContainsRune("(,=<>+-*/%|&^~!;:", rune(last[len(last)-1]))
}

// words of a list are kept back until it is closed, since only then it shows
// whether they are literals all.
func (f *fingerprint) word(v string) {
	defer func() { f.last, f.space = v, false }()
	switch v {
	case "(":
		f.open = append(f.open, len(f.words))
		f.words = append(f.words, f.gap(v), v)
		f.full = len(f.open) > MaxFingerprint
		return
	case ")":
		if len(f.open) > 0 {
			f.close()
			return
		}
	}
	f.add(f.gap(v), v)
	if len(f.words) > 2*MaxFingerprint {
		f.collapse(f.open[len(f.open)-1] + 2) // a list of a million literals
		f.full = len(f.words) > 2*MaxFingerprint
	}
}

func (f *fingerprint) add(gap, v string) {
	if len(f.open) > 0 {
		f.words = append(f.words, gap, v)
		return
	}
	f.out.WriteString(gap)
	f.out.WriteString(v)
}

// drop takes the last word back.
func (f *fingerprint) drop() {
	if len(f.open) > 0 {
		f.words = f.words[:len(f.words)-1]
		f.words = append(f.words, "")
		return
	}
	s := strings.TrimSuffix(f.out.String(), f.last)
	f.out.Reset()
	f.out.WriteString(s)
	f.last = ""
}

// gap is what goes before a word.
func (f *fingerprint) gap(v string) string {
	if f.last == "" {
		return ""
	}
	switch v {
	case ",", ";", ")":
		return ""
	case "(":
		if !f.space && isName(f.last) {
			return "" // a call
		}
	}
	if f.last == "(" || f.last == "." || v == "." || strings.HasSuffix(f.last, "@") {
		return ""
	}
	return " "
}

func isName(s string) bool {
	c := s[len(s)-1]
	return c == '_' || c == '`' || c == '"' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 0x80
}

// close ends a list: one of literals becomes (?), and a (?) right after another
// goes, as in values (?), (?).
func (f *fingerprint) close() {
	at := f.open[len(f.open)-1]
	f.open = f.open[:len(f.open)-1]
	f.collapse(at + 2)
	list := strings.Join(f.words[at:], "") + ")"
	f.words = f.words[:at]
	if strings.TrimSpace(list) == "(?)" {
		if f.repeats() {
			return
		}
	}
	f.add("", list)
}

// repeats reports whether what was written ends in "(?),", and takes the comma
// back.
func (f *fingerprint) repeats() bool {
	if n := len(f.words); n >= 4 && f.words[n-1] == "," && strings.TrimSpace(f.words[n-3]) == "(?)" {
		f.words = f.words[:n-2]
		return true
	}
	if s, ok := strings.CutSuffix(f.out.String(), "(?),"); ok && len(f.open) == 0 {
		f.out.Reset()
		f.out.WriteString(s + "(?)")
		return true
	}
	return false
}

// collapse makes one ? of ?, ?, ? from a place in words on, if there is nothing
// else.
func (f *fingerprint) collapse(from int) {
	if len(f.words) <= from+2 {
		return
	}
	for i := from; i+1 < len(f.words); i += 2 {
		if v := f.words[i+1]; v != "?" && v != "," && v != "-" && v != "+" {
			return
		}
	}
	f.words = append(f.words[:from], "", "?")
}

func (f *fingerprint) end(cut bool) string {
	if len(f.open) > 0 {
		f.collapse(f.open[len(f.open)-1] + 2)
		f.out.WriteString(strings.Join(f.words, ""))
	}
	s := strings.TrimRight(f.out.String(), " ;")
	if len(s) > MaxFingerprint {
		s, cut = strings.ToValidUTF8(s[:MaxFingerprint], ""), true
	}
	if cut {
		s += "…"
	}
	return s
}
