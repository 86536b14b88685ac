package analyze

// A tally counts blocks and bytes by stack.
type tally struct {
	rows  []tallyRow
	index []uint32          // stack -> row+1, for the stacks below denseStacks
	rest  map[uint32]uint32 // the same for the others
}

type tallyRow struct {
	stack uint32
	count
}

// denseStacks bounds the index by stack number, to 4 MiB; real captures have
// far fewer stacks.
const denseStacks = 1 << 20

func (t *tally) reset() {
	for _, r := range t.rows {
		if r.stack < uint32(len(t.index)) {
			t.index[r.stack] = 0
		}
	}
	clear(t.rest)
	t.rows = t.rows[:0]
}

func (t *tally) add(stack uint32, size uint64) { t.row(stack).count.add(size) }

// addAll adds a block of each stack.
func (t *tally) addAll(stacks, sizes []uint64) {
	for i, stack := range stacks {
		t.add(uint32(stack), sizes[i])
	}
}

// sum is what was counted in all.
func (t *tally) sum() (all count) {
	for _, r := range t.rows {
		all.merge(r.count)
	}
	return all
}

func (t *tally) merge(u *tally) {
	for _, r := range u.rows {
		t.row(r.stack).count.merge(r.count)
	}
}

// get returns what was counted for a stack.
func (t *tally) get(stack uint32) count {
	if i, ok := t.find(stack); ok {
		return t.rows[i].count
	}
	return count{}
}

func (t *tally) row(stack uint32) *tallyRow {
	if stack < uint32(len(t.index)) {
		if i := t.index[stack]; i != 0 {
			return &t.rows[i-1]
		}
	}
	return t.grow(stack)
}

func (t *tally) grow(stack uint32) *tallyRow {
	if stack < denseStacks {
		for uint32(len(t.index)) <= stack {
			t.index = append(t.index, make([]uint32, max(len(t.index), 256))...)
		}
		t.index[stack] = uint32(len(t.rows) + 1)
	} else {
		if i := t.rest[stack]; i != 0 {
			return &t.rows[i-1]
		}
		if t.rest == nil {
			t.rest = map[uint32]uint32{}
		}
		t.rest[stack] = uint32(len(t.rows) + 1)
	}
	t.rows = append(t.rows, tallyRow{stack: stack})
	return &t.rows[len(t.rows)-1]
}

// place returns the row of a stack, which it makes when there is none.
func (t *tally) place(stack uint32) int {
	if i, ok := t.find(stack); ok {
		return i
	}
	t.grow(stack)
	return len(t.rows) - 1
}

// find returns the row of a stack.
func (t *tally) find(stack uint32) (int, bool) {
	i := t.rest[stack]
	if stack < uint32(len(t.index)) {
		i = t.index[stack]
	}
	return int(i) - 1, i != 0
}
