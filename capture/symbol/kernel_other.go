//go:build !linux

package symbol

import "errors"

// Kernel reads the running kernel's functions, which only Linux shows.
func Kernel() (*KernelSymbols, error) {
	return nil, errors.New("kernel symbols: only on Linux")
}
