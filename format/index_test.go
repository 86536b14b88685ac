package format

import (
	"reflect"
	"testing"
)

// TestIndexTasks: blocks that follow each other share a list of tasks only if it is
// the same, and unknown is not empty.
func TestIndexTasks(t *testing.T) {
	lists := [][]TaskID{nil, {}, {1}, {1}, {1, 2}, {2}, nil, {2}, {2, 7, 9}, {2, 7, 9}, {}}
	var blocks []BlockInfo
	at := int64(0)
	for i, tasks := range lists {
		b := BlockInfo{Type: BlockEvents, Codec: codecZstd, Major: Major, Seq: uint32(i), Offset: at, StoredLen: 10, RawLen: 20, tasks: tasks}
		at = b.End()
		blocks = append(blocks, b)
	}
	got, err := decodeIndex(encodeIndex(nil, blocks), at, len(blocks))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, blocks) {
		t.Errorf("decoded %+v, want %+v", got, blocks)
	}
	if free := cap(got) - len(got); free < ofEnd {
		t.Errorf("room for %d blocks more, want %d", free, ofEnd)
	}
}
