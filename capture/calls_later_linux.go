package capture

import (
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/tcap-dev/tcap/capture/call"
	"github.com/tcap-dev/tcap/capture/probe"
	"golang.org/x/sys/unix"
)

// A file that is there when the recording begins is probed whenever it is mapped:
// the probe is the file's. One that targets map later, as plugins, from a path at which
// nothing was, is probed when it appears.

// await takes the declaration for one of a file that may appear, if it can be one:
// of a path or pattern, when there are targets whose mappings are followed. Of
// the error that its file was not found remains a warning then.
func (c *callProbes) await(spec *Probe, err error) error {
	path := spec.Decl.Path
	missing := errors.Is(err, errNoFile)
	if !c.r.opts.targeted() || !strings.Contains(path, "/") || !missing && !probe.IsPattern(path) {
		return err
	}
	c.awaited = append(c.awaited, spec)
	if !missing {
		return err
	}
	return c.r.note(true, declared(spec, err).Error()+"; it is probed when a target maps it")
}

// awaitedPrograms are what the programs must have room for if the files appear.
func (c *callProbes) awaitedPrograms() ([]*call.Program, error) {
	var list []*call.Program
	for _, spec := range c.awaited {
		site, err := nativeFunction()
		if err != nil {
			return nil, err
		}
		p, err := call.Compile(spec.Decl, site)
		if err != nil {
			return nil, declared(spec, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// nativeFunction is the site of functions on this machine.
func nativeFunction() (call.Site, error) {
	return call.Function(map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH], false)
}

// appeared looks whether a file that was just mapped for the first time is awaited.
// What it did before it is probed is not recorded, which a note says.
func (c *callProbes) appeared(pid uint32, m *module) {
	start := monotonic()
	var st unix.Stat_t
	if unix.Fstat(int(m.file.Fd()), &st) != nil {
		return
	}
	key, first := moduleKey{st.Dev, st.Ino}, len(c.sites)
	for _, spec := range c.awaited {
		mine := fileSymbols{key, spec}
		if c.files[mine] || !awaits(spec, pid, m.path) {
			continue
		}
		c.files[mine] = true
		found, err := c.inFile(spec, probedFile{"/proc/self/fd/" + itoa(m.file.Fd()), m.path, key})
		if err != nil && !probe.IsPattern(spec.Decl.Path) {
			c.say(declared(spec, err))
		}
		c.sites = append(c.sites, found...)
	}
	if len(c.sites) == first {
		return
	}
	if err := c.attachFrom(first); err != nil {
		c.say(err)
		return
	}
	_ = c.r.note(false, fmt.Sprintf("pid %d mapped %s: what was called there in the first %v is not recorded",
		pid, m.path, time.Duration(monotonic()-start).Round(10*time.Microsecond)))
}

// say warns of what went wrong. That a note cannot be written is told by what is written next.
func (c *callProbes) say(err error) { _ = c.warn(err.Error()) }

func awaits(spec *Probe, pid uint32, path string) bool {
	for _, p := range mappedAs(pid, lookPath(spec.Decl.Path)) {
		if isPath(p, path) {
			return true
		}
	}
	return false
}
