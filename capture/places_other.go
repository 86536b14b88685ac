//go:build !linux

package capture

import (
	"errors"
	"io"

	"github.com/tcap-dev/tcap/capture/declare"
)

var errNotHere = errors.New("probes can be examined on Linux only")

// ListPlaces needs Linux.
func ListPlaces(io.Writer, *declare.Probe) error { return errNotHere }

// ExplainPlaces needs Linux.
func ExplainPlaces(io.Writer, *declare.Probe) error { return errNotHere }
