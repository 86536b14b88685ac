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
// Rules come from, in this order:
//
//  1. .eh_frame, through the linker's search table if there is one;
//  2. .gopclntab, a Go program's own table;
//  3. .debug_frame, of the file and of its separate debug file;
//  4. the bytes of a return from a signal;
//  5. on amd64, the instructions from there to the function's ret, if all ways
//     to one agree and it returns to behind a call. So musl is passed, and
//     assembly that nothing describes;
//  6. the frame pointer, if it leads to behind a call.
//
// Go's stacks end where the runtime's begin: in a program that calls C, at the
// switch to the thread's own stack ([Switched]).
//
// An address is decoded when it is first met: a program has many, its stacks
// few. A place that is known costs a look-up in a map and as many loads as the
// function saved registers, 95 ns of CPU on a virtual Zen 5; one that is new,
// 1.4 us; opening libc.so.6, 1 ms. Files are read, not mapped, so that one which
// shrinks cannot hurt.
//
// The files are not trusted. Sizes, instructions of a table, steps of an
// expression, frames, and the work for one stack are bounded, and so is the
// memory that all modules take together; damage costs the module its rules
// where it lies, and is told by [Module.Err].
//
// Own code reads the tables. The one kept parser in Go,
// github.com/go-delve/delve/pkg/dwarf/frame, decodes all entries of a file when
// it is opened and executes into maps, which takes it 6 times as long for
// libc.so.6, and 5 times as long for a rule (measured beside each other); it
// knows neither frames of signals nor 64-bit DWARF nor pointers that are not
// relative to themselves; and it trusts its input, as a debugger may.
package unwind
