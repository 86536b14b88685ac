// Package snapshot turns copies of stacks that the kernel sends into frames,
// beside the recording, and teaches the kernel what it learned by that.
//
// Unwinding a stack depends on few of its words: return addresses, and here and
// there a saved frame address. The kernel's side (bpf/learned.h) compares just
// these with what it was told, so each stack is unwound once, and recognised
// from then on. docs/stacks.md has the whole argument.
package snapshot
