package kerneltest

import (
	"os"
	"strconv"
	"time"
)

// EnvScale is a number that says how many times slower than usual the machine
// is, such as 10 in an emulated one. Tests do that much less and wait that
// much longer.
const EnvScale = "TCAP_TEST_SCALE"

// scale is 1 on an ordinary machine.
func scale() int {
	if n, err := strconv.Atoi(os.Getenv(EnvScale)); err == nil && n > 1 {
		return n
	}
	return 1
}

// Repeat returns how often to do what is done n times on an ordinary machine;
// at least once.
func Repeat(n int) int { return max(n/scale(), 1) }

// Patience returns how long to wait for what an ordinary machine does within
// d.
func Patience(d time.Duration) time.Duration { return d * time.Duration(scale()) }
