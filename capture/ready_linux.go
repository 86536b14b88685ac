package capture

import (
	"fmt"
	"strconv"
	"strings"
)

// ready says that every event counts from now on. A command is about to be released
// then, and of it nothing need be said: it cannot come too early.
func (r *recorder) ready() error {
	if r.cmd == nil && r.opts.Announce {
		r.tell.say(r.announcement())
	}
	if r.opts.Ready == nil {
		return nil
	}
	return r.opts.Ready()
}

// announcement says what is recorded of whom, and how that ends.
func (r *recorder) announcement() string {
	var whose []string
	for _, p := range r.opts.Pids {
		name := strconv.Quote(commOf(uint32(p), uint32(p)))
		whose = append(whose, fmt.Sprintf("pid %d (%s)", p, name[1:len(name)-1]))
	}
	for _, c := range r.opts.Comms {
		whose = append(whose, "processes called "+c)
	}
	if whose == nil {
		whose = []string{"the whole machine"}
	}
	ends := "Ctrl-C ends it"
	if r.opts.Duration > 0 {
		ends = fmt.Sprintf("for %s, or until Ctrl-C", r.opts.Duration)
	}
	return fmt.Sprintf("recording %s of %s; %s", strings.Join(r.opts.recorded(), ", "), strings.Join(whose, ", "), ends)
}
