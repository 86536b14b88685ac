// Package format is the capture file: bytes to events and back.
//
// A capture is a sequence of independent blocks. A block holds up to some
// hundred thousand events as columns, one column per field of each event kind,
// compressed and checksummed on its own, so that a damaged or missing block
// costs only itself. What events mean is said once, in the table of kinds
// ([Kinds]): codec, text form, JSON, documentation and validation all follow
// from it, and a copy of it travels in every file, so that an older reader can
// skip, count and print what it does not know.
//
// Names that repeat (strings, modules, frames, stacks, tasks) live in tables
// that grow as the file does; events refer to their rows by number.
//
// The package knows no operating system, no BPF and no analysis. The wire
// format is drawn in docs/format.md.
package format
