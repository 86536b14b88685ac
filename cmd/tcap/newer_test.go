package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// newerMajor makes every block of a capture one of format version 99.
func newerMajor(t *testing.T, file []byte) []byte {
	t.Helper()
	const (
		mark  = "\x89TCAP\r\n\x1a"
		major = 10
		crc   = 60
		size  = 64
	)
	table := crc32.MakeTable(crc32.Castagnoli)
	n := 0
	for at := 0; ; at += size {
		i := bytes.Index(file[at:], []byte(mark))
		if i < 0 || at+i+size > len(file) {
			break
		}
		at += i
		h := file[at : at+size]
		h[major] = 99
		binary.LittleEndian.PutUint32(h[crc:], crc32.Checksum(h[:crc], table))
		n++
	}
	if n == 0 {
		t.Fatal("no block header found")
	}
	return file
}
