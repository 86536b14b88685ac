package capture

import "testing"

// TestKin follows families in which one may lose its probes, and others where
// nothing can happen: times are those of birth, of the end, and since when a
// process is kept.
func TestKin(t *testing.T) {
	hits := func(k kin, pid uint32, gone bool, at int64) []uint32 {
		var pids []uint32
		for _, r := range k.end(pid, gone, at) {
			pids = append(pids, r.pid)
		}
		return pids
	}
	const target = 1
	tests := []struct {
		name  string
		relay func(k kin) []uint32
		want  uint32 // 0: nobody
	}{
		{"a child ends", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			return hits(k, 2, true, 15)
		}, 0},
		{"brothers of a target are no family", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			k.bear(target, target, 3, 11, 21)
			return hits(k, 3, true, 15)
		}, 0},
		{"a grandchild ends before its parent is kept", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			k.bear(2, 2, 3, 12, 22)
			return hits(k, 3, true, 15)
		}, 2},
		{"a grandchild ends later", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			k.bear(2, 2, 3, 12, 22)
			return hits(k, 3, true, 25)
		}, 0},
		{"a parent ends before its child is kept", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			k.bear(2, 2, 3, 12, 22)
			return hits(k, 2, true, 21)
		}, 3},
		{"a grandchild was born after its parent was kept", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			k.bear(2, 2, 3, 21, 30)
			return hits(k, 2, true, 25)
		}, 0},
		{"one was born after the end", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 40)
			k.bear(2, 2, 3, 12, 40)
			k.bear(2, 2, 4, 16, 40)
			hits(k, 2, true, 30)
			return hits(k, 3, true, 15)
		}, 0},
		{"a thread ends that has a child", func(k kin) []uint32 {
			k.bear(target, 5, 2, 10, 20)
			return hits(k, target, false, 15)
		}, 2},
		{"a thread of the child itself ends", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			return hits(k, 2, false, 15)
		}, 2},
		{"it is told once", func(k kin) []uint32 {
			k.bear(target, target, 2, 10, 20)
			hits(k, 2, false, 15)
			return hits(k, 2, false, 16)
		}, 0},
		{"a stranger", func(k kin) []uint32 { return hits(k, 9, true, 1) }, 0},
	}
	for _, tt := range tests {
		k := kin{}
		got := tt.relay(k)
		if tt.want == 0 && len(got) != 0 || tt.want != 0 && (len(got) != 1 || got[0] != tt.want) {
			t.Errorf("%s: %v may have lost probes, want %d", tt.name, got, tt.want)
		}
	}
	k := kin{}
	for pid := uint32(2); pid < 100; pid++ {
		k.bear(pid-1, 1, pid, int64(pid), 1000)
	}
	for pid := uint32(1); pid < 100; pid++ {
		k.end(pid, true, 2000)
	}
	if len(k) != 0 {
		t.Errorf("%d of the dead are remembered", len(k))
	}
}
