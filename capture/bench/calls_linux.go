package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/link"
)

const callsCount = 100_000 // calls in a round

// A callSide is what is recorded of a function, by tcap and by bpftrace.
type callSide struct {
	name    string
	returns bool   // its floor is the entry's and the return's
	declare string // for tcap, @ being the program
	script  string // for bpftrace
}

var callSides = []callSide{
	{"a number", false, "uprobe:@:handle(a=u64(arg0))", `uprobe:@:handle { printf("%d\n", arg0); }`},
	{"a number and a text", false, "uprobe:@:handle(a=u64(arg0), s=str(arg1))", `uprobe:@:handle { printf("%d %s\n", arg0, str(arg1)); }`},
	{"a number and the stack", false, "uprobe:@:handle(a=u64(arg0)){stack}", `uprobe:@:handle { printf("%d %s\n", arg0, ustack); }`},
	{"a number, the result and the duration", true, "uretprobe:@:handle(a=u64(arg0), r=u64(retval))",
		`uprobe:@:handle { @t[tid] = nsecs; @a[tid] = arg0; } uretprobe:@:handle /@t[tid]/ {
			printf("%d %d %d\n", @a[tid], retval, nsecs - @t[tid]); delete(@t[tid]); delete(@a[tid]); }`},
}

// calls is the cost of a recorded call of a function.
func (b *bench) calls() error {
	var sides []*side
	for _, returns := range []bool{false, true} {
		name := "floor: an empty program at the entry"
		if returns {
			name = "floor: empty programs at entry and return"
		}
		sides = append(sides, &side{name: name, run: func() (float64, error) { return b.callsFloor(returns) }})
	}
	for _, c := range callSides {
		sides = append(sides, &side{name: "tcap, " + c.name, run: func() (float64, error) { return b.callsRecorded(c.declare) }})
	}
	_, err := exec.LookPath("bpftrace")
	scripted := err == nil
	for _, c := range callSides {
		if scripted {
			sides = append(sides, &side{name: "bpftrace, " + c.name, run: func() (float64, error) { return b.callsScripted(c.script) }})
		}
	}
	for range b.rounds {
		for _, s := range sides {
			ns, err := s.run()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.ns = append(s.ns, ns)
		}
	}
	for i, s := range sides {
		ns := median(s.ns)
		if i < 2 {
			b.row(s.name, "%.0f ns a call", ns)
			continue
		}
		c := (i - 2) % len(callSides)
		floor := sides[0]
		if callSides[c].returns {
			floor = sides[1]
		}
		text := fmt.Sprintf("%.0f ns a call, %.2f times the floor", ns, ns/median(floor.ns))
		if i >= 2+len(callSides) {
			text += fmt.Sprintf(", %.2f times tcap", ns/median(sides[2+c].ns))
		}
		b.row(s.name, "%s", text)
	}
	return nil
}

func (b *bench) callsFloor(returns bool) (float64, error) {
	p, err := b.start("calls", strconv.Itoa(callsCount))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	empty, err := emptyUprobe()
	if err != nil {
		return 0, err
	}
	defer empty.Close()
	ex, err := link.OpenExecutable(b.program("calls"))
	if err != nil {
		return 0, err
	}
	opts := &link.UprobeMultiOptions{PID: uint32(p.pid())}
	if returns {
		l, err := ex.UretprobeMulti([]string{"handle"}, empty, opts)
		if err != nil {
			return 0, err
		}
		defer l.Close()
	}
	l, err := ex.UprobeMulti([]string{"handle"}, empty, opts)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return p.runFor("ns_per_call")
}

// callsRecorded also wants every call to be in the capture.
func (b *bench) callsRecorded(declaration string) (float64, error) {
	path := b.program("calls")
	args := []string{"record", "--force", "-q", "-o", b.capture("calls"), "-e", strings.ReplaceAll(declaration, "@", path), "--", path, strconv.Itoa(callsCount)}
	out, err := exec.Command(b.tcap, args...).Output()
	if err != nil {
		return 0, err
	}
	in, err := b.look("calls")
	if err != nil {
		return 0, err
	}
	if in.Events < callsCount {
		return 0, fmt.Errorf("%d events of %d calls", in.Events, callsCount)
	}
	return figure(out, "ns_per_call")
}

func (b *bench) callsScripted(script string) (float64, error) {
	p, err := b.start("calls", strconv.Itoa(callsCount/2))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	log, err := os.Create(filepath.Join(b.dir, "bpftrace.out"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	path, err := filepath.Abs(b.program("calls"))
	if err != nil {
		return 0, err
	}
	tracer := exec.Command("bpftrace", "-p", strconv.Itoa(p.pid()), "-e", strings.ReplaceAll(script, "@:", path+":"))
	tracer.Stdout, tracer.Stderr = log, log
	if err := tracer.Start(); err != nil {
		return 0, err
	}
	defer func() { tracer.Process.Signal(os.Interrupt); tracer.Wait() }()
	if err := p.waitTraced(); err != nil {
		return 0, err
	}
	return p.runFor("ns_per_call")
}
