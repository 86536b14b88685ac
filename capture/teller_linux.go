package capture

import (
	"fmt"
	"io"
	"time"
)

// A teller speaks to the user beside the recording. Whoever should read tcap's
// standard error may not do so for hours, since the terminal is stopped or a pipe is
// full, and the ring does not wait for that: what finds no room is left out.
type teller struct {
	out      io.Writer // nil: silence
	progress func(Summary)
	lines    chan string
	states   chan Summary // the newest, once
	done     chan struct{}
	unsaid   int
}

const (
	// tellerRoom is how many lines wait for a reader that is slow.
	tellerRoom = 64
	// tellerPatience is how long the end of a recording waits for one.
	tellerPatience = time.Second
)

func newTeller(out io.Writer, progress func(Summary)) *teller {
	t := &teller{
		out: out, progress: progress, lines: make(chan string, tellerRoom),
		states: make(chan Summary, 1), done: make(chan struct{}),
	}
	go t.run()
	return t
}

func (t *teller) run() {
	defer close(t.done)
	for {
		select {
		case line, ok := <-t.lines:
			if !ok {
				return
			}
			// What cannot be said is in the capture all the same.
			_, _ = io.WriteString(t.out, line)
		case s := <-t.states:
			t.progress(s)
		}
	}
}

// warn says a line that warns. It never waits.
func (t *teller) warn(text string) { t.say("warning: " + text) }

// say says a line. It never waits.
func (t *teller) say(text string) {
	if t == nil || t.out == nil {
		return
	}
	select {
	case t.lines <- "tcap: " + text + "\n":
	default:
		t.unsaid++
	}
}

// show says how the recording goes, unless the time before is still being said.
func (t *teller) show(s Summary) {
	select {
	case t.states <- s:
	default:
	}
}

// finish lets it say the rest. A reader that takes nothing is not waited for: the
// goroutine then ends when its write does, or with the program.
func (t *teller) finish() {
	if t == nil {
		return
	}
	patience := time.After(tellerPatience)
	if t.unsaid > 0 {
		select {
		case t.lines <- fmt.Sprintf("tcap: warning: %d more, for which nobody read on; `tcap print --kind meta.note` tells them\n", t.unsaid):
		case <-patience:
			patience = time.After(0)
		}
	}
	close(t.lines)
	select {
	case <-t.done:
	case <-patience:
	}
}
