package capture

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/tcap-dev/tcap/capture/pack"
)

// resolveRunning adds the packs whose program is a target or, without targets, runs,
// when nothing particular was asked for. Nobody did ask for them, so what goes wrong
// with one is a warning; and those that are only recorded on request are not among them.
func (r *recorder) resolveRunning() error {
	if !r.opts.unasked() || r.opts.NoApps {
		return nil
	}
	r.opts.auto = true
	if inNamespace() {
		return nil // see checkNamespace
	}
	pids, err := r.appPids()
	if err != nil {
		return err
	}
	for _, name := range pack.Names() {
		p, err := pack.Load(name)
		if err != nil {
			if err := r.note(true, err.Error()); err != nil {
				return err
			}
			continue
		}
		programs := runningOf(p, pids, r.opts.targeted())
		if p.OnRequest() || len(programs) == 0 {
			continue
		}
		if err := r.addRunning(p, programs); err != nil {
			return err
		}
	}
	return nil
}

// addRunning declares what one pack wants, and says so.
func (r *recorder) addRunning(p *pack.Pack, programs []pack.Program) error {
	if err := features.HaveProgramHelper(ebpf.Kprobe, asm.FnLoop); err != nil {
		return r.note(false, fmt.Sprintf("pack %s is not recorded: declared probes need Linux 5.17", p.Name))
	}
	first := len(r.opts.Probes)
	if err := r.resolveApp(p, programs); err != nil {
		return r.note(true, fmt.Sprintf("%s, so it is not recorded", err))
	}
	for i := first; i < len(r.opts.Probes); i++ {
		r.opts.Probes[i].Optional = true
	}
	text := fmt.Sprintf("recording %s, too: pack %s (-e none records without)", strings.Join(basesOf(programs), ", "), p.Name)
	r.tell.say(text)
	return r.note(false, text)
}

// appPids are the processes among which a pack's program is looked for.
func (r *recorder) appPids() ([]uint32, error) {
	if !r.opts.targeted() {
		return allPids()
	}
	return r.targetPids()
}

// unasked reports whether it was left to tcap what to record.
func (o *Options) unasked() bool { return len(o.Packs)+len(o.Probes)+len(o.Apps) == 0 }
