package format

import (
	"errors"
	"fmt"
)

var (
	// ErrNotCapture says that the input holds no block of a capture.
	ErrNotCapture = errors.New("not a tcap capture")
	// ErrVersion says that the capture was written in a newer major version
	// of the format than this package reads.
	ErrVersion = errors.New("capture is of a newer format version")
	// ErrLimit says that a length or count in the input exceeds what this
	// package accepts, or the memory given to the reader.
	ErrLimit = errors.New("limit exceeded")
	// ErrClosed says that the Writer or Reader was closed before.
	ErrClosed = errors.New("capture is closed")

	// ErrTruncated is the cause when a block ends before its length says so.
	ErrTruncated = errors.New("truncated")
	// ErrChecksum is the cause when a block's bytes do not match their CRC32C.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrMalformed is the cause when a block's content contradicts itself.
	ErrMalformed = errors.New("malformed")

	// errUnknown marks what a newer minor version added: it is skipped.
	errUnknown = errors.New("unknown")
)

// A CorruptError names a part of a capture that could not be read.
type CorruptError struct {
	Offset int64     // of the damaged range in the file, bytes
	Block  BlockType // what was damaged; BlockInvalid when that is unknown
	Err    error     // the cause: ErrTruncated, ErrChecksum, ErrMalformed, ErrLimit or an I/O error
}

// Error says where and why.
func (e *CorruptError) Error() string {
	if e.Block == BlockInvalid {
		return fmt.Sprintf("damaged range at offset %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("damaged %v block at offset %d: %v", e.Block, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
