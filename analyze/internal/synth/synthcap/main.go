// Synthcap writes a synthetic capture for benchmarks:
//
//	go run ./analyze/internal/synth/synthcap -events 50000000 -o big.tcap
//
// It prints what an analysis must find.
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
	flag.Parse()
	if err := run(*out, o); err != nil {
		fmt.Fprintln(os.Stderr, "synthcap:", err)
		os.Exit(1)
	}
}

func run(name string, o synth.Options) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	truth, err := synth.Write(w, o)
	if err == nil {
		err = w.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	fmt.Printf("%d events, %d allocations, leaked %d bytes in %d blocks\n", o.Events, truth.Allocations, truth.LeakedBytes, truth.LeakedBlocks)
	return nil
}
