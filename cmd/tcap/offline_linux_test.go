package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// The program has this on its stack when it allocates, and nowhere else.
const stackSecret = "hiding-in-plain-sight"

func secretProgram(t *testing.T) string {
	t.Helper()
	// Of its own, since it is moved away.
	prog := filepath.Join(t.TempDir(), "secret")
	debugTool(t, "cp", kerneltest.Build(t, "testdata/secret.c", "-O2", "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-Wl,--build-id"), prog)
	return prog
}

// folded are the stacks of all allocations and how often each was there.
func folded(t *testing.T, path string) string {
	t.Helper()
	return mustTcap(t, "analyze", "heap", "--format", "folded", "--cost", "allocs", path).stdout
}

// allBytes is what is in the blocks of a capture, decompressed.
func allBytes(t *testing.T, path string) []byte {
	t.Helper()
	file := fileSum(t, path)
	r, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	out := bytes.Clone(file)
	for _, b := range r.Blocks() {
		const header, stored = 64, 0
		payload := file[b.Offset+header : b.End()]
		if b.Codec != stored {
			if payload, err = dec.DecodeAll(payload, nil); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, payload...)
	}
	return out
}

func stackEnds(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(mustTcap(t, "info", "--format", "json", path).stdout), &s); err != nil {
		t.Fatal(err)
	}
	return s.StackEnds
}

// TestUnwindOffline: a recording whose stacks are unwound later tells the same as
// one whose stacks were unwound at once; until then it says that it holds private
// memory. When the program is gone, its stacks still wait, and end where it would
// be needed.
func TestUnwindOffline(t *testing.T) {
	kerneltest.Require(t)
	prog, dir := secretProgram(t), t.TempDir()
	online, offline := filepath.Join(dir, "online.tcap"), filepath.Join(dir, "offline.tcap")
	mustTcap(t, "record", "-q", "-e", "heap", "-o", online, "--", prog)
	mustTcap(t, "record", "-q", "-e", "heap", "--unwind", "offline", "-o", offline, "--", prog)
	want := folded(t, online)
	if !strings.Contains(want, "main;with_secret;deeper;deeper;deeper;deeper;make") {
		t.Fatalf("online: %s", want)
	}
	if info := mustTcap(t, "info", online).stdout; strings.Contains(info, "PRIVATE") || bytes.Contains(allBytes(t, online), []byte(stackSecret)) {
		t.Errorf("a usual capture has private memory:\n%s", info)
	}
	if info := mustTcap(t, "info", offline).stdout; !strings.Contains(info, "PRIVATE") || !strings.Contains(info, "not unwound yet") {
		t.Errorf("info does not say what the capture holds:\n%s", info)
	}
	mustTcap(t, "verify", offline)
	if bytes.Contains(allBytes(t, offline), []byte(stackSecret)) {
		t.Error("the copies of stacks have text, which no unwinding needs")
	}

	away := filepath.Join(t.TempDir(), filepath.Base(prog))
	if err := os.Rename(prog, away); err != nil {
		t.Fatal(err)
	}
	waiting := filepath.Join(dir, "waiting.tcap")
	o := mustTcap(t, "symbolize", offline, "-o", waiting)
	if !strings.Contains(o.stderr, "not unwound for want of "+prog) || !strings.Contains(o.stderr, "copies are kept") {
		t.Errorf("without the program, symbolize says %s", o.stderr)
	}
	if ends := stackEnds(t, waiting); ends["waiting"] < 20 || strings.Contains(folded(t, waiting), "main;") {
		t.Errorf("without the program, ends %v\n%s", ends, folded(t, waiting))
	}
	mustTcap(t, "verify", waiting)

	for _, from := range []string{offline, waiting} {
		done := filepath.Join(dir, "done.tcap")
		o = mustTcap(t, "symbolize", from, "--debug-dir", filepath.Dir(away), "--debug-dir", "/usr/lib/debug", "-o", done, "--force")
		if !strings.Contains(o.stderr, "copies dropped") {
			t.Errorf("symbolize says %s", o.stderr)
		}
		mustTcap(t, "verify", done)
		if got := folded(t, done); got != want {
			t.Errorf("unwound later:\n%s\nat once:\n%s", got, want)
		}
		if got, ends := stackEnds(t, done), stackEnds(t, online); got["complete"] != ends["complete"] || len(got) != 1 {
			t.Errorf("unwound later, ends %v; at once, %v", got, ends)
		}
		if bytes.Contains(allBytes(t, done), []byte(stackSecret)) {
			t.Error("the secret is still there when nothing needs it any more")
		}
	}
	mustTcap(t, "symbolize", waiting, "--debug-dir", filepath.Dir(away), "--debug-dir", "/usr/lib/debug")
	if !bytes.Equal(fileSum(t, waiting), fileSum(t, filepath.Join(dir, "done.tcap"))) {
		t.Error("replacing the file gives another than -o")
	}
}

// TestRedactCapture: what was on the stack is in no byte of the redacted capture, and
// its reports are the same.
func TestRedactCapture(t *testing.T) {
	kerneltest.Require(t)
	prog, dir := secretProgram(t), t.TempDir()
	path, public := filepath.Join(dir, "run.tcap"), filepath.Join(dir, "public.tcap")
	mustTcap(t, "record", "-q", "-e", "heap", "--unwind", "offline", "-o", path, "--", prog, "argument-secret")
	before := allBytes(t, path)
	if info := mustTcap(t, "info", path).stdout; !strings.Contains(info, "PRIVATE") || !bytes.Contains(before, []byte("argument-secret")) {
		t.Fatalf("what is to be taken out is not there, this tests nothing:\n%s", info)
	}
	if o := tcap(t, "redact", path); o.code != exitUsage {
		t.Errorf("without -o: exit %d, %s", o.code, o.stderr)
	}
	mustTcap(t, "redact", path, "-o", public)
	after := allBytes(t, public)
	for _, secret := range []string{stackSecret, stackSecret[:8], "argument-secret"} {
		if bytes.Contains(after, []byte(secret)) {
			t.Errorf("%q is still there", secret)
		}
	}
	mustTcap(t, "verify", public)
	if a, b := folded(t, path), folded(t, public); a != b {
		t.Errorf("redacted:\n%s\nbefore:\n%s", b, a)
	}
	if info := mustTcap(t, "info", public).stdout; strings.Contains(info, "PRIVATE") || !strings.Contains(info, "copies are gone") {
		t.Errorf("info of the redacted capture:\n%s", info)
	}
	if o := tcap(t, "redact", path, "-o", public); o.code != exitFailed || !strings.Contains(o.stderr, "--force") {
		t.Errorf("overwrites: exit %d, %s", o.code, o.stderr)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(public, link); err != nil {
		t.Fatal(err)
	}
	if o := tcap(t, "redact", path, "-o", link, "--force"); o.code != exitFailed || !strings.Contains(o.stderr, "symbolic link") {
		t.Errorf("follows a link: exit %d, %s", o.code, o.stderr)
	}
}
