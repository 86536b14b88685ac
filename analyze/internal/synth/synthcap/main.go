// Synthcap writes a synthetic capture for benchmarks:
//
//	go run ./analyze/internal/synth/synthcap -events 50000000 -o big.tcap
//	go run ./analyze/internal/synth/synthcap -connections 512000 -o tcp.tcap
//
// The first is of the heap, and it prints what an analysis must find; the second of
// connections, with both their ends, that are open when it ends.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"

	"github.com/tcap-dev/tcap/analyze/internal/synth"
)

func main() {
	var o synth.Options
	out := flag.String("o", "", "capture to write")
	flag.IntVar(&o.Events, "events", 1_000_000, "events to write")
	flag.IntVar(&o.Live, "live", 50_000, "blocks live at a time")
	flag.IntVar(&o.Leak, "leak", 1_000, "one of so many allocations is never freed")
	flag.IntVar(&o.Stacks, "stacks", 300, "different stacks")
	flag.Uint64Var(&o.Seed, "seed", 0, "of the random numbers")
	connections := flag.Int("connections", 0, "write TCP connections instead, so many")
	flag.Parse()
	if err := run(*out, o, *connections); err != nil {
		fmt.Fprintln(os.Stderr, "synthcap:", err)
		os.Exit(1)
	}
}

func run(name string, o synth.Options, connections int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var truth synth.Truth
	if connections > 0 {
		err = synth.WriteTCP(w, connections)
	} else {
		truth, err = synth.Write(w, o)
	}
	if err == nil {
		err = w.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil || connections > 0 {
		return err
	}
	fmt.Printf("%d events, %d allocations, leaked %d bytes in %d blocks\n", o.Events, truth.Allocations, truth.LeakedBytes, truth.LeakedBlocks)
	return nil
}
