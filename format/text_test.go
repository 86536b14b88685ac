package format

import (
	"bytes"
	"strings"
	"testing"
)

// parseText makes a capture of text.
func parseText(t testing.TB, text string) (*Reader, error) {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{Start: ClockAnchor{Mono: 1e12}}, WriterOptions{BlockEvents: 100})
	if err != nil {
		t.Fatal(err)
	}
	parseErr := Parse(w, strings.NewReader(text))
	if err := w.Close(Trailer{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, parseErr
}

// formatText is the text of a whole capture.
func formatText(t testing.TB, r *Reader) string {
	t.Helper()
	var out []byte
	for _, p := range r.Probes() {
		out = append(FormatProbe(out, &p), '\n')
	}
	for e, err := range r.Events(Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(Format(out, r, e), '\n')
	}
	return string(out)
}

func TestText(t *testing.T) {
	const text = `0.000000000 100/101 leaky heap.alloc addr=0x1000 size=32 stack=leak_here;"operator new(unsigned long)";main fn=malloc
0.000000500 100/100 leaky heap.realloc old=0x1000 addr=0x2000 size=64 stack=main fn=realloc duration=100
1.500000000 100/100@7 "my shell" heap.free addr=0x2000 fn=free
-0.000000001 0/0 - mem.map addr=0x7f0000000000 length=4096 prot=3 flags=0x22 fd=-1 nested=yes
12.000000000 100/100 leaky proc.exec path="/bin/a b\n\x1b[31m" space=8
12.000000001 100/100 leaky proc.mapping start=0x1000 end=0x2000 offset=0x0 module=/lib/libc.so.6
12.000000002 100/100 leaky tcp.endpoints conn=1 netns=4026531840 family=ipv4 laddr=127.0.0.1 lport=80 raddr=127.0.0.1 rport=4242 uid=0
12.000000003 100/100 "-" heap.alloc addr=0x1010 size=0 stack=#77 fn=99
`
	r, err := parseText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := formatText(t, r); got != text {
		t.Errorf("got:\n%s\nwant:\n%s", got, text)
	}
}

func TestTextDefaults(t *testing.T) {
	r, err := parseText(t, "# a comment\n\n 1.5   7/8  x heap.free space=9 \n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := formatText(t, r), "1.500000000 7/8@9 x heap.free addr=0x0 fn=malloc\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTextErrors(t *testing.T) {
	for text, want := range map[string]string{
		"1.0 1/1 x":                             "want TIME PID/TID COMM KIND",
		"x 1/1 x heap.free":                     `time "x"`,
		"1.0000000001 1/1 x heap.free":          "nine decimals",
		"1.0 1 x heap.free":                     "want PID/TID",
		"1.0 1/1 x heap.fry":                    `no event kind is named "heap.fry"`,
		"1.0 1/1 x heap.free addr=zz":           "field addr",
		"1.0 1/1 x heap.free size=1":            "heap.free has no such field",
		"1.0 1/1 x heap.free addr=1 addr=1":     "each once",
		`1.0 1/1 "x heap.free`:                  "quote is not closed",
		"1.0 1/1 x invalid":                     "no event kind",
		"\n1.0 1/1 x heap.free fn=nosuchmalloc": "line 2: field fn",
	} {
		if _, err := parseText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}
