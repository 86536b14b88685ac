package capture

import (
	"context"
	"time"
)

// ends watches for what ends a recording.
type ends struct {
	r          *recorder
	ctx        context.Context
	timer      *time.Timer
	interrupts int
}

func newEnds(ctx context.Context, r *recorder) *ends {
	e := &ends{r: r, ctx: ctx}
	d := r.opts.Duration
	if d <= 0 {
		d = 1<<63 - 1
	}
	e.timer = time.NewTimer(d)
	return e
}

func (e *ends) stop() { e.timer.Stop() }

// reached says which end is reached; "" while none is.
func (e *ends) reached() string {
	r := e.r
	var done <-chan int
	if r.cmd != nil {
		done = r.cmd.done
	}
	select {
	case r.exitStatus = <-done:
		return EndCommand
	case <-e.ctx.Done():
		return EndInterrupt
	case in := <-r.opts.Interrupts:
		if e.interrupt(in) {
			return EndInterrupt
		}
	case <-e.timer.C:
		return EndDuration
	default:
	}
	switch {
	case r.full():
		return EndSize
	case r.cmd == nil && len(r.opts.Comms) == 0 && r.opts.targeted() && len(r.alive) == 0:
		return EndTargets
	}
	return ""
}

// interrupt reports whether the recording is to end. A command gets the chance
// to end by itself: the terminal has sent it the same signal.
func (e *ends) interrupt(in Interrupt) bool {
	e.interrupts++
	if e.r.cmd == nil || e.interrupts > 1 {
		return true
	}
	if in.Signal != 0 {
		e.r.cmd.process.Signal(in.Signal)
	}
	return false
}
