package symbol

import (
	"fmt"
	"os"
)

// Kernel reads the running kernel's functions from /proc/kallsyms.
func Kernel() (*KernelSymbols, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("kernel symbols: %w", err)
	}
	defer f.Close()
	return parseKallsyms(f)
}
