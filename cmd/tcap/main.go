// Command tcap records what programs and the kernel did into one small file,
// and answers questions about it later, anywhere.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Stamped by the Makefile.
var (
	version = "devel"
	commit  = "unknown"
)

func main() {
	// Caught, so that a write into a closed pipe is an error like any other;
	// not ignored, which a recorded command would inherit. So is a write beyond
	// the limit of file sizes.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)
	os.Exit(run(context.Background(), os.Args[1:]))
}
