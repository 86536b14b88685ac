// Command bench measures what recording costs, as ratios within one run.
//
// Every figure has its other side measured in the same minutes: the empty
// programs at the same places (the floor, which is what the kernel charges),
// bpftrace running the script that tcap replaces, heaptrack. Rounds alternate
// between the sides, and medians are compared, because machines are noisy.
// `make bench` runs it; docs/performance.md holds the figures of one run.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// A bench is a directory with the programs to measure.
type bench struct {
	tcap   string // the binary
	dir    string // compiled programs and captures
	rounds int
	out    *tabwriter.Writer

	profile string // file for a CPU profile of the recorder; "" for none
	load    string // program that the recorder's own CPU time is measured with
	pairs   int    // its count
}

func main() {
	b := &bench{out: tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)}
	flag.StringVar(&b.tcap, "tcap", "./tcap", "the tcap `binary`")
	flag.StringVar(&b.dir, "dir", ".build/bench", "`directory` of the compiled programs, for captures, too")
	flag.IntVar(&b.rounds, "rounds", 7, "rounds of each measurement")
	events := flag.Int("events", 50, "millions of events of the capture that is analyzed")
	flag.StringVar(&b.profile, "profile", "", "write a CPU profile of the recorder to `FILE`, in the section recorder")
	flag.StringVar(&b.load, "load", "pairs", "the `program` that the section recorder records: pairs or mix")
	flag.IntVar(&b.pairs, "pairs", 3_000_000, "blocks that it allocates")
	only := flag.String("only", "", "run only these `sections`, by comma: heap, start, stacks, recorder, size, analysis, large, calls, tcp, nginx, redis, complete, million")
	thousands := flag.Int("connections", 500, "thousands of connections at once, each of two ends")
	gigabytes := flag.Int("gigabytes", 10, "size of the capture that is asked what is in it")
	stacks := flag.Int("stacks", 100_000, "stacks that are to be unwound")
	flag.Parse()

	sections := []struct {
		name string
		run  func() error
	}{
		{"heap", b.heap},
		{"start", b.starts},
		{"stacks", func() error { return b.stacks(*stacks) }},
		{"recorder", b.recorder},
		{"size", b.size},
		{"analysis", func() error { return b.analysis(*events) }},
		{"large", func() error { return b.large(*gigabytes) }},
		{"calls", b.calls},
		{"tcp", b.tcp},
		{"nginx", b.nginx},
		{"redis", b.redis},
		{"complete", b.complete},
		{"million", func() error { return b.million(*thousands) }},
	}
	failed := false
	for _, s := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		fmt.Printf("\n%s\n", s.name)
		err := s.run()
		b.out.Flush()
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func (b *bench) program(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) capture(name string) string { return filepath.Join(b.dir, name+".tcap") }

// row prints a line of a section: what, figure, and what it is to be held against.
func (b *bench) row(what, format string, args ...any) {
	fmt.Fprintf(b.out, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}
