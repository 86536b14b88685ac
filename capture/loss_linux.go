package capture

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/tcap-dev/tcap/bpf"
	"github.com/tcap-dev/tcap/format"
)

// ledger turns the kernel's loss counters, which count up per kind and CPU,
// into events that say how much was lost between which times.
type ledger struct {
	counters *ebpf.Map
	seen     [][]uint64 // by kind, by CPU
	cpus     int
	last     int64 // when the counters were read last, monotonic ns
	total    uint64

	unread map[lossPlace]uint64 // records that arrived and could not be decoded, since then
}

type lossPlace struct{ kind, cpu int }

func newLedger(counters *ebpf.Map, now int64) *ledger {
	return &ledger{counters: counters, cpus: ebpf.MustPossibleCPU(), seen: make([][]uint64, len(decoders)), last: now}
}

// check reads the counters and tells what grew since the last time.
func (l *ledger) check(now int64, tell func(*format.Event) error) error {
	for kind := uint32(1); kind < uint32(len(decoders)); kind++ {
		var perCPU []uint64
		if err := l.counters.Lookup(kind, &perCPU); err != nil {
			return fmt.Errorf("%w: read loss counters: %w", errKernel, err)
		}
		if l.seen[kind] == nil {
			l.seen[kind] = make([]uint64, len(perCPU))
		}
		for cpu, n := range perCPU {
			grown := n - l.seen[kind][cpu] + l.unread[lossPlace{int(kind), cpu}]
			if grown == 0 {
				continue
			}
			l.seen[kind][cpu] = n
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
	}
	l.last = now
	clear(l.unread)
	return nil
}

// spoilt counts a record that could not be decoded, under the kind and the CPU
// that it claims to be of if there are such.
func (l *ledger) spoilt(kind, cpu int) {
	if kind <= 0 || kind >= len(decoders) || decoders[kind].decode == nil {
		kind = int(bpf.RawKindStack) // whose loss is one of no known kind
	}
	if cpu >= l.cpus {
		cpu = 0
	}
	if l.unread == nil {
		l.unread = map[lossPlace]uint64{}
	}
	l.unread[lossPlace{kind, cpu}]++
}
