package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const callTrace = `probe {"name":"mysql.dispatch","pack":"mysql","role":"query","args":[{"name":"cmd","type":"u32"},{"name":"sql","type":"buf"},{"name":"thd","type":"ptr"},{"name":"rc","type":"i32"},{"name":"more","type":"bool"},{"name":"peer","type":"ipaddr"},{"name":"fn","type":"sym"}]}
0.000001500 9/10@9 mariadbd call probe=mysql.dispatch outcome=returned duration=500 depth=1 faults=0x0 stack=dispatch;main cmd=3 sql="select \"1;2\"\n" thd=0x7f00 rc=-1 more=true peer=10.0.0.1 fn=do_command
0.000001600 9/10@9 mariadbd call probe=mysql.dispatch outcome=left duration=70 depth=2 faults=0x43 cmd=? sql=? thd=0x0 rc=0 more=false peer=::1 fn=?
0.000001700 9/10@9 mariadbd call probe=mysql.dispatch outcome=unfinished duration=0 depth=1 faults=0x200000000 cmd=3 sql="select 'aaa"+70000+ thd=0x0 rc=0 more=true peer="\x01\x02" fn=0x0
0.000001800 9/10@9 mariadbd call outcome=returned duration=0 depth=0 faults=0x0 args="\x01"
`

func TestCallText(t *testing.T) {
	want := strings.ReplaceAll(callTrace, "9/10@9", "9/10")
	r, err := parseText(t, callTrace)
	if err != nil {
		t.Fatal(err)
	}
	if got := formatText(t, r); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	p := r.Probes()
	if len(p) != 1 || p[0].Role != "query" || p[0].Pack != "mysql" || len(p[0].Args) != 7 || p[0].Args[1].Type != ArgBuf {
		t.Errorf("probes %+v", p)
	}
}

func TestCalls(t *testing.T) {
	r, err := parseText(t, callTrace)
	if err != nil {
		t.Fatal(err)
	}
	var n, bad int
	for c, err := range r.Calls(Filter{}) {
		if err != nil {
			bad++ // the last has no probe
			continue
		}
		switch n++; n {
		case 1:
			sql, length, ok := c.Text("sql")
			rc, _ := c.Int("rc")
			if cmd, _ := c.Uint("cmd"); cmd != 3 || string(sql) != "select \"1;2\"\n" || length != len(sql) || !ok || rc != -1 ||
				c.Duration() != 500 || c.Return-c.Entry != 500 || c.Depth != 1 || c.Probe.Name != "mysql.dispatch" {
				t.Errorf("first call: %+v", c)
			}
			if _, ok := c.Uint("nosuch"); ok {
				t.Error("an argument that is not declared")
			}
		case 2:
			if _, ok := c.Uint("cmd"); ok || !c.Args[0].Fault || c.Outcome != CallLeft {
				t.Errorf("second call: %+v", c)
			}
		case 3:
			if sql := c.Arg("sql"); sql.Len != 11+70000 || !sql.AtLeast {
				t.Errorf("text of %d bytes, at least: %v", sql.Len, sql.AtLeast)
			}
		}
	}
	if n != 3 || bad != 1 {
		t.Errorf("%d calls, %d errors", n, bad)
	}
}

func TestCallJSON(t *testing.T) {
	r, err := parseText(t, callTrace)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"cmd":3,"sql":"select \"1;2\"\u000a","thd":"0x7f00","rc":-1,"more":true,"peer":"10.0.0.1","fn":"do_command"}`,
		`{"cmd":null,"sql":null,"thd":"0x0","rc":0,"more":false,"peer":"::1","fn":null}`,
		`{"cmd":3,"sql":{"text":"select 'aaa","length_bytes":70011,"length_at_least":true},"thd":"0x0","rc":0,"more":true,"peer":"\u0001\u0002","fn":"0x0"}`,
		`null`,
	}
	enc, n := NewJSONEncoder(r), 0
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		line := string(enc.Append(nil, e))
		if !strings.HasSuffix(line, `,"args":`+want[n]+"}") || !json.Valid([]byte(line)) {
			t.Errorf("event %d: %s\nwant args %s", n, line, want[n])
		}
		n++
	}
}

func TestArgTextJSON(t *testing.T) {
	for in, want := range map[string]string{
		"caf\xc3\xa9":      `"café"`,
		"caf\xc3":          `{"hex":"636166c3","length_bytes":4}`,
		"caf\xc3|cut":      `{"text":"caf","length_bytes":9}`,
		"\xff\x00|cut":     `{"hex":"ff00","length_bytes":7}`,
		"\xf0\x9f\x98|cut": `{"text":"","length_bytes":8}`,
	} {
		text, cut := strings.CutSuffix(in, "|cut")
		a := Arg{Text: []byte(text), Len: len(text)}
		if cut {
			a.Len += 5
		}
		if got := string((&Reader{}).AppendArgJSON(nil, ArgStr, &a)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestCallTextErrors(t *testing.T) {
	const probe = `probe {"name":"p","args":[{"name":"a","type":"u8"},{"name":"s","type":"str"}]}` + "\n"
	for text, want := range map[string]string{
		"1.0 1/1 x call probe=q":                       `no probe is named "q"`,
		probe + "1.0 1/1 x call probe=p b=1":           "field b: neither call nor probe p",
		probe + "1.0 1/1 x call probe=p a=x":           "field a",
		probe + `1.0 1/1 x call probe=p s="x"7`:        `or "text"+N`,
		probe + `1.0 1/1 x call probe=p s="x"+`:        `or "text"+N`,
		"1.0 1/1 x call a=1":                           "no probe that could",
		`probe {"name":"p","args":[{"name":"1"}]}`:     `"1" is no name`,
		`probe {"name":"p","args":[{"name":"a"}]}`:     `of type ""`,
		`probe {"args":[]}`:                            "needs a name",
		`probe {"name":"p","color":1}`:                 "unknown field",
		strings.ReplaceAll(probe, `"s"`, `"a"`):        "there twice",
		strings.ReplaceAll(probe, `"a"`, `"duration"`): "every call uses already",
	} {
		if _, err := parseText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}

// TestLongTexts writes more text than a block may have and wants it back, in
// blocks that readers of version 1.0 accept.
func TestLongTexts(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{}, WriterOptions{Level: zstd.SpeedFastest})
	if err != nil {
		t.Fatal(err)
	}
	p := Probe{Name: "p", Declaration: Declaration{Args: []Argument{{Name: "s", Type: ArgStr}, {Name: "u", Type: ArgStr}}}}
	id, err := w.Probe(p)
	if err != nil {
		t.Fatal(err)
	}
	text := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%d,", i)), 1000+i*17%4000) }
	const calls = 500
	for i := range calls {
		e := Event{Kind: KindCall, Time: int64(i)}
		e.V[CallProbe] = uint64(id)
		e.Data, e.V[CallFaults] = AppendArgs(nil, &p, []Arg{{Text: text(i)}, {Text: bytes.Repeat([]byte{'x'}, 1<<16)}})
		if len(e.Data) > maxData {
			t.Fatalf("%d bytes", len(e.Data))
		}
		if err := w.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append(&Event{Kind: KindCall, Data: make([]byte, maxData+1)}); !errors.Is(err, ErrLimit) {
		t.Errorf("too much data: %v", err)
	}
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, b := range r.Blocks() {
		if b.Type == BlockEvents && b.RawLen > 64<<10+256*b.Events {
			t.Errorf("block of %d bytes for %d events", b.RawLen, b.Events)
		}
	}
	i := 0
	for c, err := range r.Calls(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		s, length, _ := c.Text("s")
		if !bytes.Equal(s, text(i)) || length != len(s) || c.Args[1].Len != 1<<16 {
			t.Fatalf("call %d: %d of %d bytes", i, len(s), length)
		}
		i++
	}
	if found, err := r.Validate(); i != calls || err != nil || len(found) > 0 {
		t.Errorf("%d calls, %v, %v", i, err, found)
	}
}

// FuzzCall decodes what may be the arguments of a call, and writes again what
// it got.
func FuzzCall(f *testing.F) {
	f.Add(uint64(0), []byte{3, 1, 2, 0, 'a', 'b'}, []byte("ups"))
	f.Add(uint64(1), []byte{}, []byte("f"))
	f.Fuzz(func(t *testing.T, faults uint64, data, types []byte) {
		names := map[byte]ArgType{'u': ArgU64, 'i': ArgI16, 'b': ArgBool, 'p': ArgPtr, 'f': ArgSym, 's': ArgStr, 'n': ArgBuf, 'a': ArgIPAddr, '?': "later"}
		p := &Probe{Name: "p"}
		for i, c := range types[:min(len(types), MaxArgs)] {
			if names[c] != "" {
				p.Args = append(p.Args, Argument{Name: fmt.Sprint("a", i), Type: names[c]})
			}
		}
		r := &Reader{probes: map[ProbeID]*Probe{1: p}}
		e := Event{Kind: KindCall, Data: data}
		e.V[CallProbe], e.V[CallFaults], e.V[CallDuration] = 1, faults, math.MaxUint64
		var c Call
		if err := r.Call(&e, &c); err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrTruncated) && !errors.Is(err, errUnknown) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, set := AppendArgs(nil, p, c.Args)
		if mask := uint64(1)<<len(p.Args) - 1; set != faults&mask {
			t.Fatalf("faults %#x, want %#x", set, faults&mask)
		}
		kept := append([]Arg(nil), c.Args...)
		if err := c.decodeArgs(again, set); err != nil {
			t.Fatal(err)
		}
		for i := range kept {
			if a, b := kept[i], c.Args[i]; a.Fault != b.Fault || a.Num != b.Num || a.Len != b.Len || !bytes.Equal(a.Text, b.Text) && len(data) < maxData/2 {
				t.Fatalf("argument %d: %+v, then %+v", i, a, b)
			}
		}
	})
}
