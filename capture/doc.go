// Package capture turns what the kernel sees into a capture file.
//
// One [Record] call is one recording: it finds the targets, attaches the packs
// that were asked for, and then does one thing in one loop: it takes records
// from the BPF ring, in the kernel's order, and appends them to a
// format.Writer as events. Everything that can wait (symbols, compression) is
// done beside that loop, so that the ring is never held back.
package capture
