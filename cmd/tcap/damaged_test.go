package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tcap-dev/tcap/format"
)

// A flipped bit costs its block. It is named where it is met; the rest is read.
func TestDamaged(t *testing.T) {
	whole := writeCapture(t, 1000, 100)
	r, err := format.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	var hit format.BlockInfo
	n := 0
	for _, b := range r.Blocks() {
		if b.Type == format.BlockEvents {
			if n++; n == 5 {
				hit = b
			}
		}
	}
	r.Close()
	path := edit(t, whole, func(b []byte) []byte { b[hit.End()-1] ^= 1; return b })

	o := tcap(t, "print", path)
	all := tcap(t, "print", whole)
	missing := strings.Count(all.stdout, "\n") - strings.Count(o.stdout, "\n")
	at := fmt.Sprintf("offset %d", hit.Offset)
	if o.code != exitOK || missing != hit.Events || !strings.Contains(o.stderr, at) || !strings.Contains(o.stderr, "100 events missing") {
		t.Errorf("print: exit %d, %d events of the block's %d missing, stderr %q", o.code, missing, hit.Events, o.stderr)
	}
	if o := tcap(t, "print", "--strict", path); o.code != exitIncomplete {
		t.Errorf("print --strict: exit %d", o.code)
	}
	if o := tcap(t, "verify", path); o.code != exitFailed || !strings.Contains(o.stdout, at) {
		t.Errorf("verify: exit %d, %q", o.code, o.stdout)
	}
	if o := tcap(t, "analyze", "leaks", "--strict", path); o.code != exitIncomplete {
		t.Errorf("analyze leaks --strict: exit %d", o.code)
	}
	public := path + ".public"
	if o := tcap(t, "redact", path, "-o", public); o.code != exitOK || !strings.Contains(o.stderr, "1 block that cannot be read") {
		t.Errorf("redact: exit %d, %q", o.code, o.stderr)
	}
	if o := tcap(t, "info", public); !strings.Contains(o.stdout, "100 events missing") || !strings.Contains(o.stdout, "INCOMPLETE") {
		t.Errorf("redacted, info says:\n%s", o.stdout)
	}
	if o := tcap(t, "analyze", "leaks", "--strict", public); o.code != exitIncomplete {
		t.Errorf("redacted, analyze leaks --strict: exit %d", o.code)
	}
}

// TestDamagedRewritten: what writes a capture anew says what is missing in it.
func TestDamagedRewritten(t *testing.T) {
	whole := writeCapture(t, 1000, 100)
	cut := edit(t, whole, func(b []byte) []byte { return b[:len(b)/2] })
	for _, verb := range []string{"symbolize", "redact"} {
		o := tcap(t, verb, cut, "-o", cut+"."+verb)
		if o.code != exitOK || !strings.Contains(o.stderr, "no clean end") {
			t.Errorf("%s of a cut file: exit %d, %q", verb, o.code, o.stderr)
		}
		if o := tcap(t, verb, whole, "-o", whole+"."+verb); o.code != exitOK || strings.Contains(o.stderr, "warning") {
			t.Errorf("%s of a whole file: exit %d, %q", verb, o.code, o.stderr)
		}
	}
}
