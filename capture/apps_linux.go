package capture

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tcap-dev/tcap/capture/pack"
	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/format"
)

// resolveApps finds the programs of the applications that are to be recorded,
// and declares what their packs want of them.
func (r *recorder) resolveApps() error {
	if len(r.opts.Apps) == 0 {
		return r.resolveRunning()
	}
	pids, err := r.appPids()
	if err != nil {
		return err
	}
	for _, p := range r.opts.Apps {
		programs := runningOf(p, pids, r.opts.targeted())
		if len(programs) == 0 {
			if programs = installedOf(p); len(programs) == 0 {
				return notFound(p, r.opts.targeted())
			}
			if err := r.tellStrangers(p, pids, programs); err != nil {
				return err
			}
		}
		if err := r.resolveApp(p, programs); err != nil {
			return err
		}
	}
	return nil
}

// resolveApp declares one pack's probes. Of several programs, one without the
// functions does no harm as long as another has them.
func (r *recorder) resolveApp(p *pack.Pack, programs []pack.Program) error {
	var errs []error
	any := false
	for _, prog := range programs {
		found, err := p.Resolve(prog)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		any = true
		for _, s := range found.Skipped {
			if err := r.note(true, s); err != nil {
				return err
			}
		}
		for _, q := range found.Probes {
			if r.opts.AppStacks && !r.opts.auto {
				q.Decl.Stack = true
			}
			r.opts.Probes = append(r.opts.Probes, Probe{
				Name: q.Name, Pack: q.Pack, Role: q.Role, Decl: q.Decl, Optional: q.Optional, BuiltIn: q.BuiltIn, Checks: q.Checks,
				open: prog.Open,
			})
		}
	}
	if any {
		return nil
	}
	return errors.Join(errs...)
}

// tellStrangers says at once that no target runs a pack's program: the wrong process was
// named, as a rule. It is no error, since a target may be what starts the program, a shell
// or a supervisor, and then what is installed counts.
func (r *recorder) tellStrangers(p *pack.Pack, pids []uint32, installed []pack.Program) error {
	if !r.opts.targeted() {
		return nil
	}
	they := "no target runs yet"
	if run := basesOf(executablesOf(pids)); len(run) > 0 {
		they = "the targets run " + strings.Join(run, ", ")
	}
	paths := make([]string, len(installed))
	for i, prog := range installed {
		paths[i] = prog.Path
	}
	return r.note(true, fmt.Sprintf("pack %s is of %s, and %s: nothing is recorded of it unless a target starts %s",
		p.Name, strings.Join(p.Names, ", "), they, strings.Join(paths, " or ")))
}

// basesOf are the names of programs' files, each once.
func basesOf(programs []pack.Program) []string {
	var names []string
	for _, prog := range programs {
		if name := path.Base(prog.Path); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func notFound(p *pack.Pack, targeted bool) error {
	var tried []string
	if len(p.Names) > 0 {
		tried = append(tried, "executables called "+strings.Join(p.Names, ", "))
	}
	if len(p.Paths) > 0 {
		tried = append(tried, strings.Join(p.Paths, ", "))
	}
	if p.Symbol != "" {
		tried = append(tried, "targets with a function "+p.Symbol)
		if !targeted {
			return fmt.Errorf("pack %s: it is known by its function %s only, so say whose: -p PID, --comm NAME or -- COMMAND", p.Name, p.Symbol)
		}
	}
	return fmt.Errorf("pack %s: no program of it runs or is installed: looked for %s", p.Name, strings.Join(tried, "; "))
}

func allPids() ([]uint32, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []uint32
	for _, d := range dirs {
		if pid, err := strconv.ParseUint(d.Name(), 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	return pids, nil
}

// executablesOf are the executables that processes run, each file once: containers have
// several at the same path.
func executablesOf(pids []uint32) []pack.Program {
	var list []pack.Program
	seen := map[moduleKey]bool{}
	for _, pid := range pids {
		exe := procPath(pid, "exe")
		link, err := os.Readlink(exe)
		key, err2 := fileKey(exe)
		if err != nil || err2 != nil || seen[key] {
			continue // it has ended, is a kernel thread, or another's
		}
		seen[key] = true
		list = append(list, pack.Program{Open: exe, Path: strings.TrimSuffix(link, " (deleted)")})
	}
	return list
}

// runningOf are the executables that a pack is about, of those that run.
func runningOf(p *pack.Pack, pids []uint32, targeted bool) []pack.Program {
	return slices.DeleteFunc(executablesOf(pids), func(prog pack.Program) bool {
		return !isProgram(p, prog.Open, prog.Path, targeted)
	})
}

// installedOf are the executables that a pack is about where it says they are installed.
func installedOf(p *pack.Pack) []pack.Program {
	var list []pack.Program
	seen := map[string]bool{}
	for _, pattern := range p.Paths {
		found, _ := filepath.Glob(pattern) // the pack's parser has checked it
		for _, f := range found {
			real, err := filepath.EvalSymlinks(f)
			if err == nil && !seen[real] {
				seen[real] = true
				list = append(list, pack.Program{Open: real, Path: real})
			}
		}
	}
	return list
}

// isProgram reports whether an executable is one of the pack's: by its name, or,
// for targets, by a function that it has.
func isProgram(p *pack.Pack, exe, name string, targeted bool) bool {
	base := path.Base(name)
	if slices.ContainsFunc(p.Names, func(pattern string) bool { ok, _ := path.Match(pattern, base); return ok }) {
		return true
	}
	if p.Symbol == "" || !targeted {
		return false
	}
	e, err := probe.OpenELF(exe)
	if err != nil {
		return false
	}
	defer e.Close()
	found := false
	err = e.Each(func(s probe.Symbol) bool { found = s.Name == p.Symbol; return !found })
	return found && err == nil
}

// A trial holds the first calls of a site against its pack's checks: offsets of
// another version read something, and it is rubbish.
type trial struct {
	checks  []pack.Check
	seen    int
	bad     int
	refused bool
}

const (
	trialCalls  = 256 // so many are held against the checks
	trialEnough = 16  // after so many, a half that fails is enough
)

// passes reports whether a call is to be recorded. One that fails a check is, as long
// as most do not: it was made, and what was read of it is marked as not readable.
func (t *trial) passes(c *callProbes, s *callSite) (bool, error) {
	if t.refused {
		return false, nil
	}
	if t.seen >= trialCalls {
		return true, nil
	}
	t.seen++
	if t.good(c, s) {
		return true, nil
	}
	t.bad++
	if t.seen < trialEnough || t.bad*2 < t.seen {
		return true, nil
	}
	t.refused = true
	return false, c.r.note(true, fmt.Sprintf("probe %s of pack %s reads what cannot be (%d of the first %d calls): the program is built or laid out as no version that the pack knows, so no more of it is recorded",
		s.name(), s.spec.Pack, t.bad, t.seen))
}

// good holds the decoded arguments of a call against the checks. One that could
// not be read is not good, and one that is not good becomes one that could not be
// read: rubbish is never told.
func (t *trial) good(c *callProbes, s *callSite) bool {
	good := true
	for _, check := range t.checks {
		i := slices.IndexFunc(s.program.Args, func(a format.Argument) bool { return a.Name == check.Arg })
		if i >= 0 && !holds(&check, &c.args[i]) {
			c.args[i], good = format.Arg{Fault: true}, false
		}
	}
	return good
}

func holds(check *pack.Check, a *format.Arg) bool {
	switch {
	case a.Fault:
		return false
	case check.Text != nil:
		return check.Text.Match(a.Text)
	}
	return int64(a.Num) >= check.Min && int64(a.Num) <= check.Max
}
