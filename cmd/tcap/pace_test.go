package main

import (
	"bufio"
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace runs on a clock of its own, which goes on when everybody waits: on a busy
// machine there might be nothing left to wait for.
func TestPace(t *testing.T) { synctest.Test(t, testPace) }

func testPace(t *testing.T) {
	var out bytes.Buffer
	buf := bufio.NewWriter(&out)
	p := newPace(t.Context(), buf)
	const first, step = int64(7e9), 20 * time.Millisecond
	begun := time.Now()
	for i := range int64(4) {
		if err := p.wait(first + i*int64(step)); err != nil {
			t.Fatal(err)
		}
		if want := int(i); out.Len() != want {
			t.Errorf("before a wait %d lines were written, want %d", out.Len(), want)
		}
		buf.WriteByte('\n')
	}
	if took := time.Since(begun); took != 3*step {
		t.Errorf("it took %v, the events %v", took, 3*step)
	}
	if err := p.wait(first); err != nil { // the past
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	p = newPace(ctx, buf)
	if err := p.wait(0); err != nil {
		t.Fatal(err)
	}
	cancel()
	begun = time.Now()
	if err := p.wait(int64(time.Hour)); err != nil || time.Since(begun) > 0 {
		t.Errorf("told to end it waits on, %v", err)
	}
}

// "tcap replay" is "tcap print --follow-time".
func TestReplay(t *testing.T) {
	path := writeCapture(t, 100, 0)
	plain, paced, replay := tcap(t, "print", path), tcap(t, "print", "--follow-time", path), tcap(t, "replay", path)
	if plain.stdout == "" || paced != plain || replay != plain {
		t.Errorf("print %d, print --follow-time %d, replay %d bytes", len(plain.stdout), len(paced.stdout), len(replay.stdout))
	}
}
