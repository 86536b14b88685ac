package analyze

import (
	"math/bits"
	"time"

	"github.com/tcap-dev/tcap/format"
)

// A leakCollector gathers the blocks that were never freed into rows, as their
// address spaces end, so that it holds what it reports and no more.
type leakCollector struct {
	opt     *leakOptions
	want    selection
	stacks  *stackTable
	rules   []Suppression
	windows freeLosses
	key     func(c *leakCollector, b *block, age int64) groupKey

	rows       map[groupKey]*leakRow
	verdicts   map[uint32]verdict
	inuse      tally
	total      count
	uncertain  count
	atExit     count
	atExec     count
	matched    []count // by rule
	suppressed count
}

// A groupKey tells rows apart; what its numbers mean depends on --group-by.
type groupKey struct{ a, b, c uint64 }

var groupings = map[string]func(*leakCollector, *block, int64) groupKey{
	"stack":  func(_ *leakCollector, b *block, _ int64) groupKey { return groupKey{a: uint64(b.stack)} },
	"size":   func(_ *leakCollector, b *block, _ int64) groupKey { return groupKey{a: b.size} },
	"age":    func(_ *leakCollector, _ *block, age int64) groupKey { return groupKey{a: uint64(ageDecade(age))} },
	"thread": (*leakCollector).threadKey,
}

func (c *leakCollector) threadKey(b *block, _ int64) groupKey {
	t := c.want.r.Task(format.TaskID(b.task))
	return groupKey{uint64(t.Pid), uint64(t.Tid), uint64(t.Start)}
}

// ageDecade returns d such that the age is below 10^d ms and not below a tenth
// of that; 0 is below 1 ms.
func ageDecade(age int64) int {
	d := 0
	for limit := int64(time.Millisecond); age >= limit && d < 13; limit *= 10 {
		d++
	}
	return d
}

// A leakRow is blocks of one group.
type leakRow struct {
	key       groupKey
	total     count
	uncertain count
	first     int64 // births, ns on the clock of the events
	last      int64
	ageMin    int64
	ageMax    int64
	ageSum    [2]uint64 // high and low 64 bits, ns
	ageCount  uint64
	task      uint32 // of the first block
}

// A verdict says what the flags make of a stack.
type verdict struct {
	out  bool // --stack-regex does not select it
	rule int  // the suppression that matches, -1 for none
}

func (c *leakCollector) verdict(stack uint32) verdict {
	v, ok := c.verdicts[stack]
	if ok {
		return v
	}
	v.rule = -1
	frames := c.stacks.get(stack)
	v.out = c.opt.stackRegex.Regexp != nil && !anyFrameMatches(c.opt.stackRegex.Regexp, frames)
	for i := range c.rules {
		if c.rules[i].matchStack(frames) {
			v.rule = i
			break
		}
	}
	c.verdicts[stack] = v
	return v
}

// ended is told of every block that was never freed.
func (c *leakCollector) ended(b *block, at int64, how endOfMem) {
	age := at - b.birth
	if !c.selects(b, age) {
		return
	}
	v := c.verdict(b.stack)
	if v.out {
		return
	}
	if how == endExec {
		c.atExec.add(b.size)
		return
	}
	if v.rule >= 0 {
		c.matched[v.rule].add(b.size)
		c.suppressed.add(b.size)
		return
	}
	if how == endExit {
		c.atExit.add(b.size)
	}
	c.total.add(b.size)
	c.inuse.add(b.stack, b.size)
	row := c.row(c.key(c, b, age), b)
	row.add(b, age)
	if b.birth <= c.windows.horizon(at) {
		row.uncertain.add(b.size)
		c.uncertain.add(b.size)
	}
}

// selects applies the filters: from <= birth, older <= age < younger, min <=
// size <= max.
func (c *leakCollector) selects(b *block, age int64) bool {
	o := c.opt
	return b.birth >= c.want.from && c.want.task(format.TaskID(b.task)) &&
		b.size >= uint64(o.minSize) && b.size <= uint64(o.maxSize) &&
		(o.older == 0 || age >= int64(o.older)) && (o.younger == 0 || age < int64(o.younger))
}

func (c *leakCollector) row(k groupKey, b *block) *leakRow {
	row := c.rows[k]
	if row == nil {
		row = &leakRow{key: k, first: b.birth, last: b.birth, ageMin: maxTime, ageMax: minTime, task: b.task}
		c.rows[k] = row
	}
	return row
}

func (r *leakRow) add(b *block, age int64) {
	r.total.add(b.size)
	if b.birth < r.first {
		r.first, r.task = b.birth, b.task
	}
	r.last = max(r.last, b.birth)
	r.ageMin, r.ageMax = min(r.ageMin, age), max(r.ageMax, age)
	if age >= 0 {
		var carry uint64
		r.ageSum[1], carry = bits.Add64(r.ageSum[1], uint64(age), 0)
		r.ageSum[0] += carry
	}
	r.ageCount++
}

// ageAvg is the mean age in ns, rounded down.
func (r *leakRow) ageAvg() int64 {
	if r.ageCount == 0 || r.ageSum[0] >= r.ageCount {
		return 0
	}
	q, _ := bits.Div64(r.ageSum[0], r.ageSum[1], r.ageCount)
	return int64(q)
}
