package analyze

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// tcpOptions are the flags of "tcap analyze tcp"; those with a letter are
// tcplife's.
type tcpOptions struct {
	csv     bool
	seconds bool
	clock   bool
	pids    []uint
	lports  ports
	rports  ports
	v4, v6  bool

	failed   bool
	open     bool
	closedBy choice
	verdicts choices
	sort     choice
	top      uint
	summary  bool

	stacks bool
	trees  stackView // of stacks
}

func (o *tcpOptions) register(fs *pflag.FlagSet) {
	o.closedBy.of = tcpParties[1:]
	o.verdicts.of = tcpVerdicts[:]
	o.sort.of = sortedKeys(tcpOrders)

	fs.BoolVarP(&o.csv, "tcplife-csv", "s", false, "tcplife's own CSV: its columns, its order, its units")
	fs.BoolVarP(&o.seconds, "timestamp", "t", false, "add the time since the start of the recording, in s")
	fs.BoolVarP(&o.clock, "time", "T", false, "add the time of day, HH:MM:SS in the local zone")
	fs.UintSliceVarP(&o.pids, "pid", "p", nil, "only connections of process `PID` (repeatable)")
	fs.Lookup("pid").DefValue = "" // which is none, and not worth a word
	fs.VarP(&o.lports, "localport", "L", "only these local `PORTS`, comma-separated")
	fs.VarP(&o.rports, "remoteport", "D", "only these remote `PORTS`, comma-separated")
	fs.BoolVarP(&o.v4, "ipv4", "4", false, "only IPv4, also where an IPv6 socket carries it")
	fs.BoolVarP(&o.v6, "ipv6", "6", false, "only IPv6")
	fs.BoolVar(&o.failed, "failed", false, "only connections that ended in an error")
	fs.BoolVar(&o.open, "open", false, "only connections that were not closed when the recording ended")
	fs.Var(&o.closedBy, "closed-by", "only those ended by `WHO`: "+strings.Join(o.closedBy.of, ", "))
	fs.Var(&o.verdicts, "verdict", "only these `VERDICTS`, comma-separated (docs/verdicts.md)")
	fs.Var(&o.sort, "sort", "`ORDER` of the rows: "+strings.Join(o.sort.of, ", ")+" (opened; with -s closed)")
	fs.UintVar(&o.top, "top", 0, "at most `N` rows (per table of --summary: 10); 0 is all")
	fs.BoolVar(&o.summary, "summary", false, "totals, failures, remotes, processes and latencies instead of a row each")
	fs.BoolVar(&o.stacks, "stacks", false, "where the kernel was when connections changed, instead of a row each (record --kernel-stacks)")
	o.trees = stackView{costs: tcpStackCosts, allFrames: true, cost: choice{is: tcpStackCosts[0].name}}
	o.trees.withTrees(fs)
}

// order is that of the rows.
func (o *tcpOptions) order() string {
	switch {
	case o.sort.is != "":
		return o.sort.is
	case o.csv:
		return "closed" // as tcplife prints them
	}
	return "opened"
}

// A choice is a flag value that is one of several words.
type choice struct {
	is string
	of []string
}

// String implements pflag.Value.
func (c *choice) String() string { return c.is }

// words are what it can be, for the help text.
func (c *choice) words() string {
	last := len(c.of) - 1
	return strings.Join(c.of[:last], ", ") + " or " + c.of[last]
}

// Type implements pflag.Value.
func (c *choice) Type() string { return "word" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("it can be %s", strings.Join(c.of, ", "))
	}
	c.is = s
	return nil
}

// choices is a flag value of several of several words.
type choices struct {
	are []string
	of  []string
}

// String implements pflag.Value.
func (c *choices) String() string { return strings.Join(c.are, ",") }

// Type implements pflag.Value.
func (c *choices) Type() string { return "words" }

// Set implements pflag.Value.
func (c *choices) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		one := choice{of: c.of}
		if err := one.Set(word); err != nil {
			return fmt.Errorf("%q: %w", word, err)
		}
		c.are = append(c.are, word)
	}
	return nil
}

// ports is a flag value of port numbers.
type ports []uint16

// String implements pflag.Value.
func (p *ports) String() string {
	var words []string
	for _, n := range *p {
		words = append(words, strconv.Itoa(int(n)))
	}
	return strings.Join(words, ",")
}

// Type implements pflag.Value.
func (p *ports) Type() string { return "ports" }

// Set implements pflag.Value.
func (p *ports) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a port number", word)
		}
		*p = append(*p, uint16(n))
	}
	return nil
}
