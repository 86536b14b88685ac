package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tcap-dev/tcap/format"
)

// large is how long it takes to be told what is in a capture of many gigabytes.
func (b *bench) large(gigabytes int) error {
	name := b.capture("large")
	defer os.Remove(name)
	if err := writeLarge(name, int64(gigabytes)*1e9); err != nil {
		return err
	}
	i, err := b.look("large")
	if err != nil {
		return err
	}
	var ms []float64
	for range b.rounds {
		start := time.Now()
		if err := exec.Command(b.tcap, "info", name).Run(); err != nil {
			return err
		}
		ms = append(ms, time.Since(start).Seconds()*1e3)
	}
	b.row("tcap info", "%.0f ms on a capture of %.1f GB in %d blocks", median(ms), float64(i.File.Bytes)/1e9, i.File.Blocks)
	return nil
}

// writeLarge writes a capture of a size. Its events are noise that does not
// compress, so that there need not be many; its blocks are as large as those of a
// recorded heap, 300 KB, because it is them that the index counts.
func writeLarge(name string, size int64) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	start := format.ClockAnchor{Mono: 1e12, Wall: 1_767_225_600_000_000_000}
	w, err := format.NewWriter(f, format.Header{Tool: "tcap", ToolVersion: "bench", Start: start},
		format.WriterOptions{Level: zstd.SpeedFastest, BlockEvents: 6 << 10})
	if err != nil {
		return fmt.Errorf("begin capture: %w", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	e := format.Event{Kind: format.KindMap, Time: start.Mono, Task: w.Task(format.Task{Pid: 100, Tid: 100, Space: 1, Comm: "bench"})}
	for err == nil && w.Stats().Bytes < size {
		for range 1 << 12 {
			e.Time += 1000
			for _, field := range []int{format.MapAddr, format.MapLength, format.MapProt, format.MapFlags, format.MapFd} {
				e.V[field] = rng.Uint64()
			}
			if err = w.Append(&e); err != nil {
				break
			}
		}
	}
	end := format.ClockAnchor{Mono: e.Time, Wall: start.Wall + e.Time - start.Mono}
	return errors.Join(err, w.Close(format.Trailer{End: end, Reason: "exit"}))
}
