package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// ledger turns the kernel's loss counters, which count up per kind and CPU,
// into events that say how much was lost between which times.
type ledger struct {
	counters *ebpf.Memory // by CPU and kind
	now      []byte       // as just read
	seen     []uint64     // as read the last time
	last     int64        // when that was, monotonic ns
	total    uint64

	unread map[lossPlace]uint64 // records that arrived and could not be decoded, since then
}

type lossPlace struct{ kind, cpu int }

func newLedger(counters *ebpf.Map, now int64) (*ledger, error) {
	m, err := counters.Memory()
	if err != nil {
		return nil, err
	}
	n := counters.MaxEntries()
	return &ledger{counters: m, now: make([]byte, 8*n), seen: make([]uint64, n), last: now}, nil
}

// lossKinds is how many counters a CPU has.
const lossKinds = int(bpf.RawKindCount)

// check reads the counters and tells what grew since the last time.
func (l *ledger) check(now int64, tell func(*format.Event) error) error {
	if _, err := l.counters.ReadAt(l.now, 0); err != nil {
		return fmt.Errorf("%w: read loss counters: %w", errKernel, err)
	}
	for i := range l.seen {
		n := binary.NativeEndian.Uint64(l.now[8*i:])
		cpu, kind := i/lossKinds, i%lossKinds
		grown := n - l.seen[i]
		if l.unread != nil {
			grown += l.unread[lossPlace{kind, cpu}]
		}
		if grown == 0 {
			continue
		}
		l.seen[i] = n
		l.total += grown
		e := format.Event{Kind: format.KindLoss, Time: now}
		e.V[format.LossKind] = uint64(decoders[kind].kind)
		e.V[format.LossCPU] = uint64(cpu)
		e.V[format.LossCount] = grown
		e.V[format.LossFrom] = uint64(l.last)
		e.V[format.LossTo] = uint64(now)
		if err := tell(&e); err != nil {
			return err
		}
	}
	l.last = now
	l.unread = nil
	return nil
}

// spoilt counts a record that could not be decoded, under the kind and the CPU
// that it claims to be of if there are such.
func (l *ledger) spoilt(kind, cpu int) {
	if kind <= 0 || kind >= len(decoders) || decoders[kind].decode == nil {
		kind = int(bpf.RawKindStack) // whose loss is one of no known kind
	}
	if cpu >= len(l.seen)/lossKinds {
		cpu = 0
	}
	if l.unread == nil {
		l.unread = map[lossPlace]uint64{}
	}
	l.unread[lossPlace{kind, cpu}]++
}
