// Package unwind finds the callers of a function in a snapshot of a thread's
// stack, without frame pointers and without the thread: the way a debugger
// does, from the call frame information that compilers leave in every program.
//
// A snapshot is registers and some KiB of memory from the stack pointer
// upwards. An [Unwinder] loads the ELF files that a process has mapped, once
// each, and walks: the innermost address leads to a mapping ([Space]), the
// mapping to a file, the file's table to a rule, and the rule, applied to
// registers and stack, to the registers of the caller. What it cannot know it
// does not invent: [End] tells why a stack has no more frames, and
// [Frame.Method] how each was found.
//
// Sources of rules, in this order: .eh_frame through the linker's search table,
// .debug_frame, and that of the separate debug file. Code that none describes
// is passed by its frame pointer if all looks as if it had one.
//
// Own code reads the tables. github.com/go-delve/delve/pkg/dwarf/frame, the one
// kept parser in Go, decodes all entries of a file when it is opened, executes
// into maps, and knows neither frames of signals nor 64-bit DWARF nor pointers
// that are not relative to themselves; it trusts its input, as a debugger may.
// Here an entry is decoded when an address in it is first met, and everything is
// bounded: sizes, instructions of a table, steps of an expression, frames.
package unwind
