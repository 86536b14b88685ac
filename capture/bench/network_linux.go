package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// tcp is the rate of short connections, and what recording them costs.
func (b *bench) tcp() error {
	const n = 30_000
	var plain, recorded []float64
	var last info
	for range b.rounds {
		out, err := exec.Command(b.program("connections"), strconv.Itoa(n)).Output()
		if err != nil {
			return err
		}
		rate, err := figure(out, "connections_per_second")
		if err != nil {
			return err
		}
		plain = append(plain, rate)
		out, err = exec.Command(b.tcap, "record", "--force", "-q", "-e", "tcp", "-o", b.capture("tcp"), "--", b.program("connections"), strconv.Itoa(n)).Output()
		if err != nil {
			return err
		}
		if rate, err = figure(out, "connections_per_second"); err != nil {
			return err
		}
		recorded = append(recorded, rate)
		if last, err = b.look("tcp"); err != nil {
			return err
		}
	}
	b.row("connections unrecorded", "%.0f a second", median(plain))
	b.row("connections recorded", "%.0f a second, both ends, none lost: %.2f of unrecorded", median(recorded), median(recorded)/median(plain))
	b.row("file", "%.2f bytes an event, %.0f bytes a connection (both ends)", last.perEvent(), float64(last.File.Bytes)/n)
	return nil
}

// startRecorder returns when the recorder records, which it shows by writing.
func startRecorder(rec *exec.Cmd) (stop func() error, err error) {
	stderr, err := rec.StderrPipe()
	if err != nil {
		return nil, err
	}
	path := rec.Args[len(rec.Args)-1]
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // one of before would pass for this one's
		return nil, err
	}
	if err := rec.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			rec.Process.Kill()
			return nil, errors.Join(errors.New("the recorder did not begin within 20 s"), rec.Wait())
		}
	}
	go io.Copy(io.Discard, bufio.NewReader(stderr))
	return func() error {
		rec.Process.Signal(os.Interrupt)
		return rec.Wait()
	}, nil
}
