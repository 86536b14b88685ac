package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

// pings are the calls of PING that a recording has of a process.
func (r *recorder) pings(pid int) (n uint64) {
	r.t.Helper()
	var got commandTotals
	r.analyze(&got, "commands", "--pid", fmt.Sprint(pid))
	for _, c := range got.Commands {
		if c.Command != "ping" {
			r.t.Errorf("a command %s of pid %d", c.Command, pid)
		}
		n += c.Calls
	}
	return n
}

// TestServerElsewhere: a server whose file was replaced since, as by an upgrade, and one
// in a mount namespace of its own, as a container has, are recorded without being named:
// what runs is probed and not what is at its path.
func TestServerElsewhere(t *testing.T) {
	kerneltest.Require(t)
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		kerneltest.Skip(t, "redis-server is not installed: scripts/deps.sh test")
	}
	replaced := named(t, exe, "redis-server")
	first := startRedis(t, replaced)
	if err := os.Remove(replaced); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(replaced, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The file is on what is mounted for the server alone.
	port, dir := freePort(t), filepath.Join(t.TempDir(), "inside")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	second := start(t, port, "unshare", "--mount", "sh", "-c", `mount -t tmpfs none "$1" && cp "$2" "$1/redis-server" && exec "$1/redis-server" --save "" --bind 127.0.0.1 --dir "$1" --port "$3"`,
		"sh", dir, exe, fmt.Sprint(port))
	r := recordNow(t, "-e", "redis")
	for range 3 {
		runClient(t, "", "redis-cli", "-p", fmt.Sprint(first.port), "ping")
	}
	for range 4 {
		runClient(t, "", "redis-cli", "-p", fmt.Sprint(second.port), "ping")
	}
	r.stop()
	if a, b := r.pings(first.pid()), r.pings(second.pid()); a != 3 || b != 4 {
		t.Errorf("%d calls of a server whose file was replaced, want 3; %d of one in another mount namespace, want 4\n%s", a, b, r.log.String())
	}
}

// TestServerLater: a server that becomes a target by its name is recorded, though it has a
// mount namespace of its own and another file is at the server's path there.
func TestServerLater(t *testing.T) {
	kerneltest.Require(t)
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		kerneltest.Skip(t, "redis-server is not installed: scripts/deps.sh test")
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		t.Fatal(err)
	}
	r := recordNow(t, "-e", "redis", "--comm", "redis-server")
	port := freePort(t)
	s := start(t, port, "unshare", "--mount", "sh", "-c", `mount --bind "$2" "$1" && exec redis-server --save "" --bind 127.0.0.1 --dir "$3" --port "$4"`,
		"sh", exe, named(t, exe, "redis-copy"), t.TempDir(), fmt.Sprint(port))
	if !eventually(func() bool { // it is recorded from a moment after its exec, and the file written once a second
		runClient(t, "", "redis-cli", "-p", fmt.Sprint(port), "ping")
		return r.pings(s.pid()) > 0
	}) {
		t.Error("no call is recorded")
	}
	r.stop()
}

// TestRestart: servers that are restarted or reload while they are recorded go on being
// recorded, as long as their file is the same: redis-server's next process, nginx's next
// worker. With the old process as target the recording is over.
func TestRestart(t *testing.T) {
	kerneltest.Require(t)
	n := startNginx(t, "127.0.0.1:1")
	before := n.worker()
	first := startRedis(t, "redis-server")
	machine := recordNow(t, "-e", "redis,nginx")
	target := recordNow(t, "-e", "redis", "-p", fmt.Sprint(first.pid()))
	master := recordNow(t, "-e", "nginx", "-p", fmt.Sprint(n.pid()))
	ping := func(s *server) { runClient(t, "", "redis-cli", "-p", fmt.Sprint(s.port), "ping") }
	ping(first)
	first.stop()
	second := startRedis(t, "redis-server")
	ping(second)
	ping(second)
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	after := 0
	if !eventually(func() bool { after = n.worker(); return after != before }) {
		t.Fatal("nginx has no other worker")
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.plain))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(request(c, "/file", ""), untilEnd(c)); err != nil { // which nginx brings about
		t.Fatal(err)
	}
	if err := target.cmd.Wait(); err != nil || !strings.Contains(target.log.String(), "last target exited") {
		t.Errorf("with the first process as target: %v, %s", err, target.log.String())
	}
	machine.stop()
	master.stop()
	if a, b := machine.pings(first.pid()), machine.pings(second.pid()); a != 1 || b != 2 {
		t.Errorf("%d calls of redis-server, and %d of the next; want 1 and 2", a, b)
	}
	if a, b := target.pings(first.pid()), target.pings(second.pid()); a != 1 || b != 0 {
		t.Errorf("with the first process as target: %d calls of it, and %d of the next; want 1 and 0", a, b)
	}
	for name, r := range map[string]*recorder{"of the machine": machine, "with the master as target": master} {
		out := tcap(t, "print", r.file, "--kind", "call", "--pid", fmt.Sprint(after)).stdout
		if strings.Count(out, "probe=nginx.") == 0 {
			t.Errorf("nothing of nginx's next worker in a recording %s", name)
		}
	}
}
