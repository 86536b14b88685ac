package format

import "fmt"

// reuse predicts where heap blocks are born. Allocators hand out the block that
// was freed last among those of its size, mostly per thread, and else the one
// after the last; so an address is stored as how many frees of its size and
// task lie on top of it, or as the distance from where the last unpredicted
// block ended. Writer and reader run the same prediction over the events of a
// block, in their order.
//
// The code of an address:
//
//	0..7  it is the (code+1)th of the list of its task and size
//	8     it is the address that died in the same event
//	9..   9 + zigzag of the difference from the expected address, shifted
type reuse struct {
	heads [reuseLists]int32 // index into nodes + 1, 0 is the empty list
	nodes []reuseNode
	spare int32  // nodes that are on no list, likewise
	next  uint64 // the end of the last block that was not predicted
	shift uint   // of differences: 4, 3 or 0
}

type reuseNode struct {
	addr uint64
	next int32
}

const (
	reuseLists = 2048
	reuseDepth = 8
	codeSame   = reuseDepth
	codeFar    = reuseDepth + 1
)

func (r *reuse) reset(shift uint) {
	r.heads = [reuseLists]int32{}
	r.nodes, r.spare, r.next, r.shift = r.nodes[:0], 0, 0, shift
}

// list is the list of freed blocks for a size and a task. Sizes count in steps
// of 16 bytes behind an 8-byte header, as in glibc; above 4 KiB all are one.
// Tasks that share a list only predict worse.
func reuseList(task TaskID, size uint64) uint32 {
	return (uint32(chunk(min(size, 4096))>>4) + uint32(task)*67) % reuseLists
}

// chunk is the memory that a block of a size takes.
func chunk(size uint64) uint64 { return max(32, (min(size, 1<<40)+8+15)&^15) }

// maxReuseAddr is the largest address for which codes cannot overflow. No
// processor hands out user addresses beyond it.
const maxReuseAddr = 1 << 62

// freed puts a block that died on its list.
func (r *reuse) freed(task TaskID, size, addr uint64) {
	l := reuseList(task, size)
	i := r.spare
	if i != 0 {
		r.spare = r.nodes[i-1].next
		r.nodes[i-1] = reuseNode{addr, r.heads[l]}
	} else {
		r.nodes = append(r.nodes, reuseNode{addr, r.heads[l]})
		i = int32(len(r.nodes))
	}
	r.heads[l] = i
}

// take takes the node at the place off its list.
func (r *reuse) take(at *int32) {
	i := *at
	n := &r.nodes[i-1]
	*at = n.next
	n.next, r.spare = r.spare, i
}

// code returns how addr is stored, with distances in bytes.
func (r *reuse) code(task TaskID, size, addr uint64) uint64 {
	at := &r.heads[reuseList(task, size)]
	for depth := uint64(0); depth < reuseDepth && *at != 0; depth++ {
		n := &r.nodes[*at-1]
		if n.addr == addr {
			r.take(at)
			return depth
		}
		at = &n.next
	}
	diff := int64(addr - r.next)
	r.next = addr + chunk(size) // which is a multiple of every unit
	return codeFar + zigzag(diff)
}

// addr is the reverse of code, for all codes but codeSame.
func (r *reuse) addr(task TaskID, size, code uint64) (uint64, error) {
	if code >= codeFar {
		addr := r.next + uint64(unzigzag(code-codeFar))<<r.shift
		r.next = addr + chunk(size)
		return addr, nil
	}
	at := &r.heads[reuseList(task, size)]
	for ; code > 0 && *at != 0; code-- {
		at = &r.nodes[*at-1].next
	}
	if *at == 0 {
		return 0, fmt.Errorf("%w: reused address of an empty list", ErrMalformed)
	}
	addr := r.nodes[*at-1].addr
	r.take(at)
	return addr, nil
}
