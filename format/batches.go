package format

import (
	"errors"
	"fmt"
	"iter"
	"sync"
)

// A Result is a decoded block and what work made of it.
type Result struct {
	Batch *Batch
	Value any
}

// Batches decodes the blocks that f may select from, calls work for each on
// one of several goroutines, and yields the results in file order. It does not
// look at single events: work does, with [Filter.Match] if need be. A nil work
// only decodes.
//
// A damaged block is yielded as a *[CorruptError] without a batch, and the
// iteration goes on; any other error ends it. A batch is valid until the next
// one is asked for.
func (r *Reader) Batches(f Filter, work func(*Batch) any) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		n := r.inFlight()
		p := pipeline{
			r: r, f: f, work: work,
			jobs: make(chan *job), order: make(chan *job, n), stop: make(chan struct{}),
			idle: make(chan *Batch, n+1),
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(p.stop)
		wg.Go(p.dispatch)
		for range r.workers {
			wg.Go(p.decode)
		}
		for j := range p.order {
			<-j.done
			if !yield(Result{j.batch, j.value}, j.err) {
				return
			}
			var corrupt *CorruptError
			if j.err != nil && !errors.As(j.err, &corrupt) {
				return
			}
			if j.batch != nil {
				p.put(j.batch)
			}
		}
	}
}

// batchCost is what decoding a block takes, bytes.
func batchCost(b *BlockInfo) int64 {
	return int64(b.Events)*(8*MaxFields+64) + int64(b.RawLen) + int64(b.StoredLen)
}

// inFlight is how many blocks may be decoded, or wait to be yielded, while one
// is used: one more than there are decoders, so that none waits for the user as
// long as that is fast enough on the whole. Each takes some 6 MiB.
func (r *Reader) inFlight() int {
	most := int64(1)
	for i := range r.blocks {
		if b := &r.blocks[i]; b.Type == BlockEvents {
			most = max(most, batchCost(b))
		}
	}
	return int(max(1, min(int64(r.workers+1), r.maxMemory/4/most)))
}

type job struct {
	block *BlockInfo
	done  chan struct{}
	batch *Batch
	value any
	err   error
}

// A pipeline decodes blocks on several goroutines in the order of the file.
type pipeline struct {
	r     *Reader
	f     Filter
	work  func(*Batch) any
	jobs  chan *job
	order chan *job
	stop  chan struct{}
	idle  chan *Batch // used ones; a sync.Pool would forget them at every collection
}

// take returns a used batch or a new one.
func (p *pipeline) take() *Batch {
	select {
	case b := <-p.idle:
		return b
	default:
		return new(Batch)
	}
}

// put gives a batch back. There is room for all that can be in use.
func (p *pipeline) put(b *Batch) { p.idle <- b }

// dispatch puts a job for each block and each damaged range into the order
// that they have in the file, and hands the jobs to the decoders.
func (p *pipeline) dispatch() {
	defer close(p.jobs)
	defer close(p.order)
	damage := p.r.structural
	for i := range p.r.blocks {
		b := &p.r.blocks[i]
		for len(damage) > 0 && damage[0].Offset < b.Offset {
			if !p.report(&damage[0]) {
				return
			}
			damage = damage[1:]
		}
		if b.Type != BlockEvents || !p.f.mayMatch(p.r, b) {
			continue
		}
		j := &job{block: b, done: make(chan struct{})}
		if !p.send(p.order, j) || !p.send(p.jobs, j) {
			return
		}
	}
	for i := range damage {
		if !p.report(&damage[i]) {
			return
		}
	}
}

// report queues the error of a damaged range between blocks.
func (p *pipeline) report(d *Damage) bool {
	j := &job{done: make(chan struct{}), err: &CorruptError{Offset: d.Offset, Block: d.Block, Err: d.Err}}
	close(j.done)
	return p.send(p.order, j)
}

func (p *pipeline) send(to chan *job, j *job) bool {
	select {
	case to <- j:
		return true
	case <-p.stop:
		return false
	}
}

func (p *pipeline) decode() {
	for j := range p.jobs {
		j.batch, j.err = p.batch(j.block)
		if j.err == nil && p.work != nil {
			j.value = p.work(j.batch)
		}
		close(j.done)
	}
}

// batch reads and decodes a block of events.
func (p *pipeline) batch(info *BlockInfo) (*Batch, error) {
	r := p.r
	if cost := batchCost(info); cost > r.maxMemory/4 || info.RawLen > maxEventsRaw+maxEventRaw*info.Events {
		return nil, r.damaged(info, fmt.Errorf("%w: %d events in %d bytes need %d bytes of memory", ErrLimit, info.Events, info.RawLen, cost))
	}
	b := p.take()
	b.Info, b.wholeOf = *info, r.tables.wholeOf
	payload, err := r.payload.read(info, &b.bufs)
	if err == nil {
		err = b.decode(payload)
	}
	if err != nil {
		p.put(b)
		return nil, r.damaged(info, err)
	}
	return b, nil
}

// Events yields the events that f selects, in file order. The event is valid
// until the next one is asked for. A damaged block is yielded as a
// *[CorruptError] with a nil event, and the iteration goes on with the next
// block; any other error ends it.
func (r *Reader) Events(f Filter) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		var e Event
		for res, err := range r.Batches(f, nil) {
			if err != nil {
				if !yield(nil, err) {
					return
				}
				continue
			}
			for i := range res.Batch.Len() {
				res.Batch.Event(i, &e)
				if f.Match(r, &e) && !yield(&e, nil) {
					return
				}
			}
		}
	}
}
