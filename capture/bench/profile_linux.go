package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"syscall"

	"github.com/tcap-dev/tcap/capture"
)

// profileRecorder records as [bench.recorder] does, but in this process, from
// whose CPU profile it is to be seen where the recorder's time goes. The
// binary under test has no such switch.
func (b *bench) profileRecorder() error {
	p, err := b.start(b.load, strconv.Itoa(b.pairs))
	if err != nil {
		return err
	}
	defer p.stop()
	out, err := os.Create(b.profile)
	if err != nil {
		return err
	}
	defer out.Close()
	type result struct {
		sum *capture.Summary
		err error
	}
	ended := make(chan result, 1)
	go func() {
		sum, err := capture.Record(context.Background(), capture.Options{
			Output: b.capture("recorder"), Force: true, Packs: []string{"heap"}, Pids: []int{p.pid()}, Stderr: os.Stderr,
		})
		ended <- result{sum, err}
	}()
	if err := p.waitTraced(); err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	before := ownTime()
	if err := p.release(); err != nil {
		return err
	}
	r := <-ended
	pprof.StopCPUProfile()
	if r.err != nil {
		return r.err
	}
	user, system := ownTime().user-before.user, ownTime().system-before.system
	n := float64(r.sum.Events)
	b.row("events recorded", "%d, %d lost, %.2f bytes an event", r.sum.Events, r.sum.Lost, float64(r.sum.Bytes)/n)
	b.row("this process's CPU time", "%.0f ns an event, of which %.0f in the kernel", (user+system)/n, system/n)
	return nil
}

// times is CPU time, ns.
type times struct{ user, system float64 }

func ownTime() times {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(fmt.Sprintf("getrusage: %v", err)) // it has no reason to
	}
	return times{float64(r.Utime.Nano()), float64(r.Stime.Nano())}
}
