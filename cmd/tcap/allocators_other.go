//go:build !linux

package main

import (
	"errors"
	"io"
)

func listAllocators(io.Writer, int) error {
	return errors.New("probes list -p: processes can be examined on Linux only")
}
