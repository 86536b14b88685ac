//go:build !linux

package capture

import (
	"context"
	"errors"
)

// Record needs Linux: captures can be read anywhere, but not made.
func Record(context.Context, Options) (*Summary, error) {
	return nil, errors.New("record: recording needs Linux; captures can be analyzed here")
}

// PackNames lists what can be recorded: nothing on this system.
func PackNames() []string { return nil }
