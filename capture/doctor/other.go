//go:build !linux

package doctor

import "runtime"

// Examine says that recording needs Linux.
func Examine() *Report {
	return &Report{Rows: []Row{{
		Check: "kernel", State: Missing, Found: runtime.GOOS,
		Cost: "nothing can be recorded here; captures can be read, analyzed and verified",
		Fix:  "record on Linux 5.15 or later",
	}}}
}
