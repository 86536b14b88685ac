package kerneltest

import (
	"debug/elf"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// envHooks names, separated by spaces, the hooks that the machine must have.
// The virtual machine's script sets it, so that a run there proves the hooks
// which other machines lack.
const envHooks = "TCAP_TEST_HOOKS"

// load loads a program that does nothing.
func load(typ ebpf.ProgramType, attach ebpf.AttachType, to string) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: typ, AttachType: attach, AttachTo: to, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
}

// hooks attaches an empty program of each kind that tcap has a use for.
var hooks = map[string]func() (link.Link, error){
	"tp_btf": func() (link.Link, error) {
		return tracing(ebpf.AttachTraceRawTp, "inet_sock_set_state")
	},
	"fentry": func() (link.Link, error) { return tracing(ebpf.AttachTraceFEntry, "tcp_connect") },
	"fexit":  func() (link.Link, error) { return tracing(ebpf.AttachTraceFExit, "inet_csk_accept") },
	"iter": func() (link.Link, error) {
		prog, err := load(ebpf.Tracing, ebpf.AttachTraceIter, "tcp")
		if err != nil {
			return nil, err
		}
		defer prog.Close()
		return link.AttachIter(link.IterOptions{Program: prog})
	},
	"tracepoint": func() (link.Link, error) {
		prog, err := load(ebpf.TracePoint, ebpf.AttachNone, "")
		if err != nil {
			return nil, err
		}
		defer prog.Close()
		return link.Tracepoint("syscalls", "sys_enter_connect", prog, nil)
	},
	"kprobe": func() (link.Link, error) { return kprobe(link.Kprobe) },
	"kretprobe": func() (link.Link, error) {
		return kprobe(link.Kretprobe)
	},
	"uprobe": uprobe,
}

func tracing(attach ebpf.AttachType, to string) (link.Link, error) {
	prog, err := load(ebpf.Tracing, attach, to)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	return link.AttachTracing(link.TracingOptions{Program: prog})
}

func kprobe(attach func(string, *ebpf.Program, *link.KprobeOptions) (link.Link, error)) (link.Link, error) {
	prog, err := load(ebpf.Kprobe, ebpf.AttachNone, "")
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	return attach("tcp_connect", prog, nil)
}

// uprobe probes the entry point of this very executable, found without a
// symbol: go test strips them.
func uprobe() (link.Link, error) {
	const self = "/proc/self/exe"
	file, err := elf.Open(self)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var entry uint64 // as an offset in the file
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD && file.Entry-p.Vaddr < p.Filesz {
			entry = file.Entry - p.Vaddr + p.Off
		}
	}
	executable, err := link.OpenExecutable(self)
	if err != nil {
		return nil, err
	}
	prog, err := load(ebpf.Kprobe, ebpf.AttachNone, "")
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	return executable.Uprobe("", prog, &link.UprobeOptions{Address: entry})
}

// TestHooks tells which hooks this kernel has. The four that nothing can
// replace, and those that the machine promised, must be there.
func TestHooks(t *testing.T) {
	Require(t)
	promised := strings.Fields(os.Getenv(envHooks))
	must := map[string]bool{"tp_btf": true, "iter": true, "tracepoint": true, "uprobe": true}
	for _, name := range promised {
		if hooks[name] == nil {
			t.Errorf("%s names the hook %q, which is unknown", envHooks, name)
		}
		must[name] = true
	}
	for name, attach := range hooks {
		t.Run(name, func(t *testing.T) {
			l, err := attach()
			switch {
			case err == nil:
				t.Log("attached")
				if err := l.Close(); err != nil {
					t.Errorf("detach: %v", err)
				}
			case must[name]:
				t.Errorf("attach: %v", err)
			default:
				t.Logf("this kernel has none: %v", err)
			}
		})
	}
}
