package format

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// column returns a column of one-byte values.
func column(kind Kind, field byte, typ FieldType, trans byte, vals ...byte) []byte {
	out := []byte{byte(kind), field, byte(typ), encPlanes | trans}
	out = binary.AppendUvarint(out, uint64(len(vals)))
	out = binary.AppendUvarint(out, uint64(1+len(vals)))
	return append(append(out, 1), vals...)
}

func join(columns ...[]byte) (all []byte) {
	for _, c := range columns {
		all = append(all, c...)
	}
	return all
}

// TestDecodeRefuses gives the decoder payloads whose columns contradict each
// other.
func TestDecodeRefuses(t *testing.T) {
	kinds := column(0, fieldKind, TypeUint, 0, byte(KindAlloc), byte(KindFree))
	tasks := column(0, fieldTask, TypeUint, 0, 0, 0)
	allocTime, freeTime := column(KindAlloc, fieldTime, TypeInt, 0, 2), column(KindFree, fieldTime, TypeInt, 0, 2)
	addr := column(KindAlloc, AllocAddr, TypeBlock, transReuse1, 9)
	ref := column(KindFree, FreeAddr, TypeFreed, 0, 1)
	good := [][]byte{kinds, tasks, allocTime, freeTime, addr, ref}
	decode := func(columns ...[]byte) error {
		b := &Batch{Info: BlockInfo{Events: 2}}
		err := b.decode(join(columns...))
		if err == nil { // what was accepted must be readable
			var e Event
			for i := range b.Len() {
				b.Event(i, &e)
			}
		}
		return err
	}
	if err := decode(good...); err != nil {
		t.Fatal(err)
	}
	swap := func(at int, with []byte) [][]byte {
		out := append([][]byte(nil), good...)
		out[at] = with
		return out
	}
	for name, columns := range map[string][][]byte{
		"no kinds":                       {tasks},
		"no tasks":                       swap(1, nil),
		"no times":                       swap(3, nil),
		"kinds twice":                    append(swap(0, kinds), column(0, fieldKind, TypeUint, 0, byte(KindFree), byte(KindFree))),
		"a field twice":                  append(swap(0, kinds), ref),
		"a field before kinds":           append([][]byte{addr}, good...),
		"too few rows":                   swap(0, column(0, fieldKind, TypeUint, 0, byte(KindAlloc))),
		"too many rows":                  swap(4, column(KindAlloc, AllocAddr, TypeBlock, transReuse1, 9, 9)),
		"a birth before the block":       swap(5, column(KindFree, FreeAddr, TypeFreed, 0, 2)),
		"no address for a death":         swap(5, column(KindFree, FreeAddr, TypeFreed, 0, 0)),
		"an empty list":                  swap(4, column(KindAlloc, AllocAddr, TypeBlock, transReuse1, 3)),
		"births in two ways":             append(swap(0, kinds), column(KindAlloc, AllocSize, TypeBlock, transReuse16, 9)),
		"a displaced birth that is none": append(swap(0, kinds), column(0, fieldDisplaced, TypeDelta, 0, 1)),
		"a column that is cut":           {kinds, tasks, allocTime, freeTime, addr, ref[:len(ref)-1]},
	} {
		if err := decode(columns...); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	unknown := column(KindFree, FreeFn, TypeEnum, 0, 7)
	unknown[3] = 0x9f // an encoding and a transform of the future
	if err := decode(append(swap(0, kinds), unknown)...); err != nil {
		t.Errorf("a column in an unknown encoding: %v", err)
	}
	b := &Batch{Info: BlockInfo{Events: 2}}
	if err := b.decode(join(good...)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{KindAlloc, KindFree} {
		for f := range Kinds[k].Fields {
			if col := b.Cols[k][f]; len(col) != 1 {
				t.Errorf("field %d of kind %d, which the block may lack, has %d rows", f, k, len(col))
			}
		}
	}
}

// TestDecodeTasks: a batch that is used again has the tasks of its block, whether the
// blocks before it had one task or many, more events or none.
func TestDecodeTasks(t *testing.T) {
	all := func(task byte, n byte) []byte { return []byte{0, fieldTask, byte(TypeUint), encConst, n, 1, task} }
	same := func(k Kind, n int) []byte {
		return column(0, fieldKind, TypeUint, 0, slices.Repeat([]byte{byte(k)}, n)...)
	}
	times := func(k Kind, n int) []byte { return column(k, fieldTime, TypeInt, 0, make([]byte, n)...) }
	var b Batch
	for i, c := range []struct {
		tasks []TaskID
		bytes []byte
	}{
		{nil, nil},
		{[]TaskID{7, 7}, all(7, 2)},
		{[]TaskID{7, 7, 7}, all(7, 3)},
		{[]TaskID{1, 2, 3, 4}, column(0, fieldTask, TypeUint, 0, 1, 2, 3, 4)},
		{nil, all(5, 0)},
		{[]TaskID{7}, all(7, 1)},
		{[]TaskID{9}, all(9, 1)},
		{[]TaskID{7, 7, 7}, all(7, 3)},
		{[]TaskID{9, 9, 9}, all(9, 3)},
		{[]TaskID{8, 6}, column(0, fieldTask, TypeUint, 0, 8, 6)},
		{[]TaskID{9, 9}, all(9, 2)},
	} {
		n := len(c.tasks)
		b.Info = BlockInfo{Events: n}
		payload := c.bytes
		if n > 0 {
			payload = join(same(KindComm, n), c.bytes, times(KindComm, n))
		}
		if err := b.decode(payload); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if !slices.Equal(b.Task, c.tasks) {
			t.Errorf("block %d has tasks %v, want %v", i, b.Task, c.tasks)
		}
	}
}

// TestDecodeKinds: kinds are the same in every encoding that can hold them.
func TestDecodeKinds(t *testing.T) {
	want := []Kind{KindFree, 255, KindFree, 254}
	wide := []byte{0, fieldKind, byte(TypeUint), encPlanes, 4, 1 + 2*4, 2}
	wide = append(append(wide, byte(KindFree), 255, byte(KindFree), 254), 0, 0, 0, 0)
	narrow := []byte{0, fieldKind, byte(TypeUint), encPlanes, 4, 1 + 4 + 2, 1}
	narrow = append(append(narrow, byte(KindFree), 255, byte(KindFree), 254), 255, 1)
	for name, kinds := range map[string][]byte{"two planes": wide, "one plane": narrow} {
		b := Batch{Info: BlockInfo{Events: 4}}
		err := b.decode(join(kinds, column(0, fieldTask, TypeUint, 0, 1, 1, 1, 1),
			column(KindFree, fieldTime, TypeInt, 0, 1, 1), column(255, fieldTime, TypeInt, 0, 1), column(254, fieldTime, TypeInt, 0, 1),
			column(KindFree, FreeAddr, TypeFreed, 0, 0, 0), column(KindFree, fieldEscape, TypeAddr, 0, 1, 2)))
		if err != nil || !slices.Equal(b.Kind, want) || !slices.Equal(b.Row, []uint32{0, 0, 1, 0}) {
			t.Errorf("%s: %v, kinds %v, rows %v", name, err, b.Kind, b.Row)
		}
	}
}
