package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/tcap-dev/tcap/capture/probe"
	"github.com/tcap-dev/tcap/capture/tracefs"
	"golang.org/x/sys/unix"
)

// targetProbes are probes in the code of the targets, as a pack has them, which
// follow the targets' children.
type targetProbes struct {
	r      *recorder
	at     *probe.Attacher
	pack   string
	wanted bool                   // asked for by name: what cannot be had is an error
	arm    func(pid uint32) error // finds the places in a process
	said   map[string]bool        // warnings
	// broken is why probes of a target could not be set, nil while all could.
	broken error
	kin    kin
}

// newTargetProbes makes probes without places. tracefs is nil where it cannot be
// used, which probes of the PMU do not need.
func (r *recorder) newTargetProbes(pack string, wanted bool) (targetProbes, *tracefs.FS, error) {
	tfs, err := r.tracing()
	if err != nil {
		tfs = nil
	}
	at, err := probe.NewAttacher(tfs)
	if err != nil {
		return targetProbes{}, nil, err
	}
	r.closers = append(r.closers, at.Close)
	return targetProbes{r: r, at: at, pack: pack, wanted: wanted, said: map[string]bool{}, kin: kin{}}, tfs, nil
}

// targetProbes lists those of the packs that are recorded.
func (r *recorder) targetProbes() []*targetProbes {
	var list []*targetProbes
	if r.heap != nil {
		list = append(list, &r.heap.targetProbes)
	}
	if r.calls != nil && r.opts.targeted() {
		list = append(list, &r.calls.targetProbes)
	}
	return list
}

// join makes a process a target, with all that it forks.
func (h *targetProbes) join(pid uint32) error {
	if err := h.arm(pid); err != nil {
		return err
	}
	if err := h.at.AddTarget(int(pid)); err != nil && !vanished(err) {
		return h.failed(err)
	}
	return nil
}

// named makes a process a target whose name, which it got by an exec, is one of
// --comm. It runs while that is done: the capture says for how long.
func (h *targetProbes) named(pid uint32, comm string, since int64) error {
	if err := h.join(pid); err != nil {
		return err
	}
	if err := h.warn("processes that get a --comm name while recording are recorded from a moment after their exec; `tcap record -- COMMAND` misses nothing"); err != nil {
		return err
	}
	return h.r.note(false, fmt.Sprintf("pid %d: what %s did in the first %v after its exec is not recorded",
		pid, comm, time.Duration(monotonic()-since).Round(10*time.Microsecond)))
}

// failed deals with a probe that could not be set: it is named, and fatal only
// where the pack was asked for by name and nothing is recorded yet: a process that
// comes later and cannot be probed is no reason to end what goes well.
func (h *targetProbes) failed(err error) error {
	if vanished(err) {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: `tcap doctor` says what is missing", err)
	}
	h.broken = err
	if h.wanted && h.r.begun == 0 {
		return fmt.Errorf("pack %s: %w", h.pack, err)
	}
	return h.warn(err.Error())
}

// vanished reports whether an error says that a process is gone. One that has
// ended but was not waited for still has its place in /proc, whose files say so
// in another way.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// warn says a thing once.
func (h *targetProbes) warn(text string) error {
	if h.said[text] {
		return nil
	}
	h.said[text] = true
	return h.r.note(true, text)
}
