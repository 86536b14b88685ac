package pack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEmbedded: every pack that tcap comes with is right.
func TestEmbedded(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	names := Names()
	if len(names) < 6 {
		t.Errorf("packs %q", names)
	}
	for _, name := range names {
		p, err := Load(name)
		if err != nil {
			t.Error(err)
		} else if p.Name != name || p.About == "" {
			t.Errorf("%s is called %q: %q", name, p.Name, p.About)
		}
	}
}

const good = `pack: mine
find: {names: [server]}
probes:
  - name: handle
    role: query
    probe: handle_request(sql=str(arg1), size=u32(arg0->8)) {returns} /size > 0/
`

func TestGood(t *testing.T) {
	p, err := Parse("mine.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.probes[0].variants[0].declare("mine.yaml", "/usr/bin/server", nil)
	if err != nil || d.Path != "/usr/bin/server" || d.Symbol != "handle_request" || len(d.Args) != 2 || !d.NeedsReturn() {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestMistakes: each is told with its line and column.
func TestMistakes(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, tt := range []struct{ text, want string }{
		{edit("pack: mine", "pack: My Pack"), "p.yaml:1:7: pack:"},
		{edit("find: {names: [server]}\n", ""), "find: say which program"},
		{edit("role: query", "rôle: query"), "p.yaml:5:5: unknown field"},
		{edit("[server]", "[server"), "p.yaml:2:"},
		{edit("[server]", "['[']"), "is no pattern"},
		{edit("name: handle", "name: Handle It"), "p.yaml:4:11: name:"},
		{edit("str(arg1)", "text(arg1)"), "p.yaml:6:31: "},
		{edit("str(arg1)", "str(arg1"), "p.yaml:6:"},
		{edit("arg0->8", "arg0->{size}"), "{size}: no layout, accessor or dwarf has this offset"},
		{edit("size > 0", "size >"), "p.yaml:6:"},
		{edit("    probe: h", "    variants: [{probe: 'f(a=u32(arg0))'}]\n    probe: h"), "either probe or variants"},
		{edit("probes:", "version: {strings: '^[0-9]+$'}\nprobes:"), "p.yaml:3:21: strings: it needs one group"},
		{edit("probes:", "version: {pick: last}\nprobes:"), "p.yaml:3:17: pick:"},
		{edit("probes:", "layout: [{version: '7.x', offsets: {}}]\nprobes:"), "p.yaml:3:21: version:"},
		{edit("probes:", "accessors: {size_of: []}\nprobes:"), "p.yaml:3:22: want names"},
		{edit("probes:", "dwarf: {size: size}\nprobes:"), "p.yaml:3:15: \"size\": want TYPE.MEMBER"},
		{edit("/size > 0/", "/size > 0/\n    extra: ['a=u32(arg0->{length})']"), "{length}: no layout, accessor or dwarf has this offset"},
		{edit("    role: query\n", "    check: {sql: '['}\n"), "p.yaml:5:19: check sql"},
		{edit("    role: query\n", "    check: {sqll: 'x'}\n"), "p.yaml:5:20: check sqll: the probe reads no such argument"},
		{edit("role: query", "role: quary"), `p.yaml:5:11: role: no analysis knows "quary"; there are answer, close,`},
		{edit("sql=str", "text=str"), "p.yaml:5:11: role: of role query the analysis needs the argument sql"},
		{edit("role: query", "role: prepare"), "needs the argument statement"},
		{good + "---\npack: other\n", "p.yaml:7:1: a pack is one document"},
		{edit("probe: handle_request(sql=str(arg1),", "probe: >-\n      handle_request(sql=str(arg1),\n     "), ""},
		{edit("probe: handle_request(sql=str(arg1), size=u32", "probe: >-\n      handle_request(sql=str(arg1),\n      size=u33"), `p.yaml:6:12: there is no type "u33"`},
		{edit("/size > 0/", ""), ""},
		{"", "pack:"},
		{"- a\n", "p.yaml:1:"},
		{strings.Repeat("[", 100), "nested"},
		{"pack: &a [*a]", "p.yaml:1:"},
	} {
		_, err := Parse("p.yaml", []byte(tt.text))
		if tt.want == "" {
			if err != nil {
				t.Errorf("%v", err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || e.Line < 1 || e.Col < 1 {
			t.Errorf("got %v, want %s\n%s", err, tt.want, tt.text)
		}
	}
}

// TestColumn: an error behind an offset is where the file has it, not where the
// declaration has it after the offset was put in.
func TestColumn(t *testing.T) {
	text := strings.Replace(good, "probes:", "layout: [{offsets: {somewhere: 8}}]\nprobes:", 1)
	text = strings.Replace(text, "sql=str(arg1), size=u32(arg0->8)", "a=u32(arg0->{somewhere}), b=nonsense(arg1)", 1)
	_, err := Parse("p.yaml", []byte(text))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	line := strings.Split(text, "\n")[e.Line-1]
	if !strings.HasPrefix(line[e.Col-1:], "nonsense") {
		t.Errorf("%v points at %q", err, line[e.Col-1:])
	}
}

func TestUserPacks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	own := filepath.Join(dir, "tcap", "packs")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(own, "mine.yaml"), good)
	write(filepath.Join(own, "nginx.yaml"), strings.Replace(good, "pack: mine", "pack: nginx", 1))
	for _, word := range []string{"mine", filepath.Join(own, "mine.yaml"), "nginx"} {
		p, err := Load(word)
		if err != nil || p.Names[0] != "server" {
			t.Errorf("%s: %+v, %v", word, p, err)
		}
	}
	_, err := Load("nosuch")
	if !errors.Is(err, ErrNoPack) || !strings.Contains(err.Error(), "mine, mysql, nginx") {
		t.Errorf("%v", err)
	}
	if _, err := Load("./nosuch.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		c, v string
		want bool
	}{
		{"", "1.2", true}, {">=7.0.1 <7.2", "7.0.1", true}, {">=7.0.1 <7.2", "7.0.0", false}, {">=7.0.1 <7.2", "7.2.0", false},
		{"=7.0.0", "7.0", true}, {"<=5", "5.0.1", false}, {">5", "5.0.1", true}, {"<6.0", "5.0.14", true},
	} {
		c, err := parseConstraint(tt.c)
		v, ok := parseVersion(tt.v)
		if err != nil || !ok || c.allows(v) != tt.want {
			t.Errorf("%s of %q: %v, %v", tt.v, tt.c, !tt.want, err)
		}
	}
	for _, bad := range []string{"7.0", ">=x", ">= 7", "~1", ">=1.2.3.4.5"} {
		if _, err := parseConstraint(bad); err == nil {
			t.Errorf("%q is no constraint", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	files, _ := embedded.ReadDir("packs")
	for _, file := range files {
		text, err := embedded.ReadFile("packs/" + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("p.yaml", []byte(text))
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Line < 1 || e.Col < 1) {
			t.Errorf("%v has no place", err)
		}
	})
}

const alike = `pack: mine
about: redis, and its argument vector
like: redis
extra:
  call: ['vector=ptr(arg0->{argv})']
`

// TestLike: a pack made of another has its probes and its versions, and arguments more.
func TestLike(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	p, err := Parse("mine.yaml", []byte(alike))
	if err != nil {
		t.Fatal(err)
	}
	base, err := Load("redis")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "mine" || p.Private || len(p.layouts) != len(base.layouts) || len(p.Names) != len(base.Names) || base.Name != "redis" {
		t.Errorf("%+v", p)
	}
	for i := range p.probes[0].variants {
		v, old := &p.probes[0].variants[i], &base.probes[0].variants[i]
		d, err := v.declare("mine.yaml", "/redis-server", anyOffset)
		if err != nil || len(v.extra) != len(old.extra)+1 || d.Args[len(d.Args)-1].Name != "vector" {
			t.Errorf("%v, %v, extra %d, of the other %d", d, err, len(v.extra), len(old.extra))
		}
	}
	if keys, err := Load("redis-keys"); err != nil || !keys.Private {
		t.Errorf("redis-keys: %+v, %v", keys, err)
	}
	nginx, err := Load("nginx")
	if err != nil {
		t.Fatal(err)
	}
	requests, err := Load("nginx-requests")
	if err != nil || len(requests.probes) != len(nginx.probes)+2 || !requests.OnRequest() || nginx.OnRequest() {
		t.Errorf("nginx-requests has %+v, %v, nginx %+v", requests, err, nginx)
	}
	// One's own file may have the name of the pack that it is like; files may not be
	// like each other.
	dir := filepath.Join(userDir())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"redis": alike, "a": "pack: a\nlike: b\n", "b": "pack: b\nlike: a\n"} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := Load("redis"); err != nil || p.Name != "mine" || len(p.probes) != len(base.probes) {
		t.Errorf("redis of the user's: %+v, %v", p, err)
	}
	if _, err := Load("a"); err == nil || !strings.HasSuffix(err.Error(), "a.yaml:2:7: like: pack b is like another itself: name that") {
		t.Errorf("like each other: %v", err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	edit := func(old, new string) string { return strings.Replace(alike, old, new, 1) }
	for _, tt := range []struct{ text, want string }{
		{edit("like: redis", "like: nosuch"), "m.yaml:3:7: like: nosuch: no such pack"},
		{edit("like: redis", "like: redis-keys"), "m.yaml:3:7: like: pack redis-keys is like another"},
		{edit("like: redis", "like: ./x.yaml"), "m.yaml:3:7: like: "},
		{edit("like: redis", "like: mine"), "m.yaml:3:7: like: "},
		{alike + "probes: [{name: call, probe: more}]\n", "m.yaml:6:17: name: \"call\": want a word of small letters that no other probe"},
		{edit("call:", "coll:"), "m.yaml:5:9: extra: pack redis has no probe coll"},
		{edit("{argv}", "{argw}"), "m.yaml:5:11: {argw}: "},
		{edit("ptr(", "pointer("), "m.yaml:5:11: "},
		{edit("['vector", "['vector=u64(arg0)', 'vector"), "m.yaml:5:31: "},
		{edit("extra:", "dwarf: {a: b.c}\nextra:"), "m.yaml:3:7: like: a pack that is like"},
		{edit("like: redis", "find: {names: [a]}"), "m.yaml:5:7: extra: it belongs"},
	} {
		if _, err := Parse("m.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s\n%s", err, tt.want, tt.text)
		}
	}
}
