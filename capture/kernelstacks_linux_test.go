package capture_test

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcap-dev/tcap/capture"
	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// recordTCP records the machine's connections while something is done.
func recordTCP(t *testing.T, stacks bool, do func()) *result {
	t.Helper()
	r := attach(t, func(o *capture.Options) { o.Packs, o.KernelStacks = []string{"tcp"}, stacks })
	do()
	return r.stop("")
}

// refuse connects to a port on which nobody listens.
func refuse(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if c, err := net.Dial("tcp4", addr); err == nil {
		c.Close()
		t.Fatal("nobody listens, and it is connected")
	}
}

// abort closes a connection whose data was not read.
func abort(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(make([]byte, 1)); err != nil { // so the others are there, too
		t.Fatal(err)
	}
	a.Close()
}

// resend has a SYN sent again: the queue of the listener is full.
func resend(t *testing.T) {
	t.Helper()
	var fds []int
	defer func() { // and no further one while the recording ends
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	socket := func(kind int) int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		return fd
	}
	l := socket(0)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 0); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(socket(0), addr); err != nil {
		t.Fatal(err)
	}
	waits := socket(unix.SOCK_NONBLOCK)
	if err := unix.Connect(waits, addr); err != unix.EINPROGRESS {
		t.Fatalf("connect to a full queue: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		info, err := unix.GetsockoptTCPInfo(waits, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if info.Total_retrans > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no SYN was sent again")
		}
	}
}

// TestKernelStacks: what happens to connections has the kernel's stack, of names
// alone, without what took it; and nothing has one unless that was asked for.
func TestKernelStacks(t *testing.T) {
	kerneltest.Require(t)
	r := recordTCP(t, true, func() { refuse(t); abort(t); resend(t) })
	file, err := format.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fields := format.Kinds[format.KindTCPStack].Fields
	seen := map[string][]string{} // stacks by what happened
	for _, h := range r.events(format.KindTCPStack) {
		what := fields[format.TCPStackAt].Enum[h.V[format.TCPStackAt]] + " " + fields[format.TCPStackOld].Enum[h.V[format.TCPStackOld]]
		if h.V[format.TCPStackAt] == format.StackAtState {
			what += " " + fields[format.TCPStackNew].Enum[h.V[format.TCPStackNew]]
		}
		names := ";"
		for _, f := range file.Stack(format.StackID(h.V[format.TCPStackStack]), nil) {
			if f.Function == "" || f.Offset >= 1<<32 || !strings.HasPrefix(file.Module(f.Module).Path, "[") {
				t.Errorf("%s: a frame %q of %s at %#x", what, f.Function, file.Module(f.Module).Path, f.Offset)
			}
			names += f.Function + ";"
		}
		seen[what] = append(seen[what], names)
	}
	for what, want := range map[string]string{
		"state CLOSE SYN_SENT":       ";tcp_v4_connect;",
		"state SYN_SENT ESTABLISHED": ";tcp_finish_connect;",
		"state SYN_SENT CLOSE":       ";tcp_done",
		"state ESTABLISHED CLOSE":    ";tcp_close;",
		"reset_received SYN_SENT":    ";tcp_reset;",
		"reset_sent CLOSE":           ";tcp_send_active_reset;",
		"retransmit SYN_SENT":        ";tcp_retransmit_timer;",
	} {
		if !slices.ContainsFunc(seen[what], func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%s: no stack with %s in %q; %d retransmissions, %d losses", what, want, seen[what],
				len(r.events(format.KindTCPRetransmit)), len(r.events(format.KindLoss)))
		}
		for _, s := range seen[what] {
			// A timer may have interrupted another's work with BPF, which the stack then goes on in.
			if s, _, _ := strings.Cut(s, ";asm_sysvec_"); strings.Contains(s, ";bpf_") || strings.Contains(s, "__bpf_") || strings.Contains(s, "__traceiter_") {
				t.Errorf("%s: the stack is tcap's own: %s", what, s)
			}
		}
	}
	stacks := 0
	for what, list := range seen {
		if strings.HasPrefix(what, "retransmit ") {
			stacks += len(list)
		}
	}
	if n := len(r.events(format.KindTCPRetransmit)); n != stacks {
		t.Errorf("%d retransmissions and %d stacks of them", n, stacks)
	}
	without := recordTCP(t, false, func() { refuse(t) })
	if n := len(without.events(format.KindTCPStack)); n != 0 {
		t.Errorf("%d stacks that nobody asked for", n)
	}
	if len(without.events(format.KindTCPState)) == 0 {
		t.Error("nothing was recorded without stacks")
	}
}
