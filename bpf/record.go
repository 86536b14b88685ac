package bpf

import "errors"

// ErrRecord says that bytes of the ring are no record that the programs send.
var ErrRecord = errors.New("record that cannot be decoded")
