package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/tcap-dev/tcap/format"
)

// A subject is a program whose stacks are counted.
type subject struct {
	name string
	run  func() error // leaves the capture "complete"
}

const (
	stackSources = "testdata/programs/stack/"
	pythonJSON   = `import json; d = [{"id": i, "name": "n%d" % i, "tags": ["a", "b", str(i)]} for i in range(3000)]; json.loads(json.dumps(d))`
	perlHash     = `my %h; $h{"k$_"} = [$_, "x" x ($_ % 50)] for 1..20000`
	oneLine      = `fn main() { println!("{}", (1..10).map(|i| i.to_string()).collect::<Vec<_>>().join(",")); }`
)

// complete is the share of allocations whose stack is known up to the start of the
// process or the thread, in programs as the distribution has them.
func (b *bench) complete() error {
	subjects := []subject{
		{"perl, 20,000 hash entries", b.command("perl", "-e", perlHash)},
		{"git log -p --stat -50", b.command("git", "log", "-p", "--stat", "-50")},
		{"python3, json of 3,000 objects", b.command("python3", "-c", pythonJSON)},
		{"redis-server under redis-benchmark", b.completeRedis},
		{"mariadbd, 200 statements", b.completeMariaDB},
		{"C++: gdb, symbols of libc", b.command("gdb", "-nx", "-batch", "-ex", "info functions mem", "/bin/true")},
		{"C++: clang -O2 of one file", b.command("clang", "-O2", "-w", "-c", "-o", "/dev/null", stackSources+"stack.c")},
		{"C++: testdata, in exceptions, too", b.built("stackcpp", "g++", "-O2", "-g", "-fomit-frame-pointer", "-pthread", stackSources+"stack.cpp")},
		{"Rust: testdata, in panics, too", b.built("stackrs", "rustc", "-g", "-C", "opt-level=2", "-C", "force-frame-pointers=no", stackSources+"stack.rs")},
		{"Rust: rustc of one line", b.rustc},
	}
	for _, s := range subjects {
		if err := os.Remove(b.capture("complete")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		err := s.run()
		if errors.Is(err, exec.ErrNotFound) {
			b.row(s.name, "skipped: %v", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := b.countStacks(s.name); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// countStacks prints what the capture says of its stacks.
func (b *bench) countStacks(name string) error {
	if _, err := b.look("complete"); err != nil { // nothing may be lost
		return err
	}
	out, err := exec.Command(b.tcap, "info", "--format", "json", b.capture("complete")).Output()
	if err != nil {
		return err
	}
	var in struct {
		Ends   map[string]uint64 `json:"stack_ends"`
		Tables struct{ Stacks int }
	}
	if err := json.Unmarshal(out, &in); err != nil {
		return err
	}
	var all uint64
	for _, n := range in.Ends {
		all += n
	}
	whole := in.Ends[format.EndComplete.String()]
	text := fmt.Sprintf("%s events\t%.2f %% complete\t%s rows", humanize.Comma(int64(all)),
		float64(10000*whole/max(all, 1))/100, humanize.Comma(int64(in.Tables.Stacks)))
	for end := range format.StackEnds {
		if n := in.Ends[end.String()]; n > 0 && end != format.EndComplete {
			text += fmt.Sprintf("\t%s %s", humanize.Comma(int64(n)), end.Explain())
		}
	}
	b.row(name, "%s", text)
	return nil
}

// recordHeap is the recording of a program's heap.
func (b *bench) recordHeap(argv ...string) *exec.Cmd {
	return exec.Command(b.tcap, append([]string{"record", "--force", "-q", "-e", "heap", "-o", b.capture("complete"), "--"}, argv...)...)
}

func (b *bench) command(argv ...string) func() error {
	return func() error {
		if _, err := exec.LookPath(argv[0]); err != nil {
			return err
		}
		return quietly(b.recordHeap(argv...))
	}
}

// built records a program that is compiled first.
func (b *bench) built(name, compiler string, args ...string) func() error {
	return func() error {
		cmd := exec.Command(compiler, append([]string{"-o", b.program(name)}, args...)...)
		if err := quietly(cmd); err != nil {
			return err
		}
		return b.command(b.program(name))()
	}
}

func (b *bench) rustc() error {
	source := filepath.Join(b.dir, "line.rs")
	if err := os.WriteFile(source, []byte(oneLine), 0o600); err != nil {
		return err
	}
	return b.command("/usr/bin/rustc", "--emit=metadata", "-o", filepath.Join(b.dir, "line.rmeta"), source)()
}

// quietly runs a command whose output matters only if it does not succeed.
func quietly(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}

// completeRedis attaches to a server that serves.
func (b *bench) completeRedis() error {
	server := exec.Command("redis-server", "--port", redisPort, "--save", "", "--bind", "127.0.0.1", "--dir", b.dir)
	return b.completeServer(server, "127.0.0.1:"+redisPort, func() error {
		return quietly(exec.Command("redis-benchmark", "-p", redisPort, "-n", "2000", "-q"))
	})
}

const mariaPort = "13306"

// completeMariaDB attaches to a server with a directory of its own.
func (b *bench) completeMariaDB() error {
	if _, err := exec.LookPath("mariadbd"); err != nil {
		return err
	}
	data, err := filepath.Abs(filepath.Join(b.dir, "mariadb"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := quietly(exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+data,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--user=root")); err != nil {
		return err
	}
	socket := filepath.Join(data, "sock")
	server := exec.Command("mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--socket="+socket,
		"--pid-file="+filepath.Join(data, "pid"), "--port="+mariaPort, "--bind-address=127.0.0.1")
	var sql strings.Builder
	sql.WriteString("CREATE DATABASE t; USE t; CREATE TABLE a (id INT PRIMARY KEY, b VARBINARY(100));\n")
	for i := range 100 {
		fmt.Fprintf(&sql, "INSERT INTO a VALUES (%d, REPEAT('x', %d)); SELECT b, COUNT(*) FROM a WHERE id < %d GROUP BY b ORDER BY b;\n", i, i, i)
	}
	return b.completeServer(server, "127.0.0.1:"+mariaPort, func() error {
		client := exec.Command("mariadb", "--no-defaults", "-S", socket)
		client.Stdin = strings.NewReader(sql.String())
		return quietly(client)
	})
}

// completeServer records a server while a load runs.
func (b *bench) completeServer(server *exec.Cmd, addr string, load func() error) error {
	if server.Err != nil {
		return server.Err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	if err := answers(addr); err != nil {
		return err
	}
	stop, err := startRecorder(exec.Command(b.tcap, "record", "--force", "-q", "-e", "heap",
		"-p", strconv.Itoa(server.Process.Pid), "-o", b.capture("complete")))
	if err != nil {
		return err
	}
	return errors.Join(load(), stop())
}
