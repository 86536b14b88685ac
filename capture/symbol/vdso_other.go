//go:build !linux

package symbol

import (
	"errors"
	"os"
)

// VDSO returns a copy of this process's vdso, which only Linux has.
func VDSO() (*os.File, error) {
	return nil, errors.New("read the vdso: only on Linux")
}
