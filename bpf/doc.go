// Package bpf holds the programs that run in the kernel and the Go that loads
// them; nothing else, and nothing of ours is imported.
//
// The C is written against the handful of kernel fields that kernel.h declares
// and relocated to the running kernel's layout when it is loaded. The generated
// Go and the objects are committed, so that building tcap needs only Go;
// `make generate` makes them anew, and `make check` fails when they differ.
package bpf
