package capture

import (
	"context"
	"time"
)

// ends watches for what ends a recording.
type ends struct {
	r          *recorder
	ctx        context.Context
	at         time.Time // the end by Options.Duration; zero for none
	unwatch    func() bool
	interrupts int

	asked chan Interrupt // those of Options.Interrupts, each of which rings the bell
	quit  chan struct{}
	done  chan struct{} // the goroutine that hands them over has ended
}

func newEnds(ctx context.Context, r *recorder) *ends {
	e := &ends{r: r, ctx: ctx}
	if d := r.opts.Duration; d > 0 {
		e.at = time.Now().Add(d)
	}
	e.unwatch = context.AfterFunc(ctx, r.ring.wake)
	e.asked, e.quit, e.done = make(chan Interrupt, 1), make(chan struct{}), make(chan struct{})
	go e.handOver()
	return e
}

func (e *ends) stop() {
	e.unwatch()
	close(e.quit)
	<-e.done
}

// handOver wakes the recording for each interrupt: it sleeps for a tenth of a second,
// which somebody who presses Ctrl-C notices.
func (e *ends) handOver() {
	defer close(e.done)
	for {
		select {
		case in := <-e.r.opts.Interrupts:
			select {
			case e.asked <- in:
				e.r.ring.wake()
			case <-e.quit:
				return
			}
		case <-e.quit:
			return
		}
	}
}

// left is how long the recording may sleep at most.
func (e *ends) left(most time.Duration) time.Duration {
	if e.at.IsZero() {
		return most
	}
	return max(min(most, time.Until(e.at)), 0)
}

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
	case in := <-e.asked:
		if e.interrupt(in) {
			return EndInterrupt
		}
	default:
	}
	switch {
	case !e.at.IsZero() && !time.Now().Before(e.at):
		return EndDuration
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
