package format

import (
	"fmt"
	"iter"
	"math"
)

// A Call is an event of [KindCall] with what its probe declares.
type Call struct {
	ID       ProbeID
	Probe    *Probe // shared: not to be changed
	Task     TaskID
	Entry    int64 // CLOCK_MONOTONIC ns
	Return   int64 // the same as Entry where there is no duration
	Outcome  int   // CallReturned, CallEntered, ...
	Depth    int   // calls of this probe by this thread that it is in, itself included; 1 is the outermost
	Stack    StackID
	Seq      uint64
	Args     []Arg // in the order of Probe.Args
	resolver *Reader
}

// Duration returns how long the call took, ns.
func (c *Call) Duration() int64 { return c.Return - c.Entry }

// Call decodes e, which must be of [KindCall], into c, whose memory it reuses.
// c is valid until the next event is asked for. The error says what is wrong
// with the event, or that its probe is not there, as part of the file is
// damaged.
func (r *Reader) Call(e *Event, c *Call) error {
	id := ProbeID(min(e.V[CallProbe], math.MaxUint32))
	if c.Probe == nil || c.ID != id || c.resolver != r {
		p, err := r.probe(id)
		if err != nil {
			return fmt.Errorf("call: %w", err)
		}
		c.ID, c.Probe, c.resolver = id, p, r
	}
	c.Task, c.Return, c.Seq = e.Task, e.Time, e.Seq
	c.Entry = e.Time
	if d := e.V[CallDuration]; d <= math.MaxInt64 && e.Time-int64(d) <= e.Time {
		c.Entry -= int64(d)
	}
	c.Outcome, c.Depth, c.Stack = int(e.V[CallOutcome]), int(e.V[CallDepth]), StackID(e.V[CallStack])
	return c.decodeArgs(e.Data, e.V[CallFaults])
}

// decodeArgs is the reverse of [AppendArgs].
func (c *Call) decodeArgs(data []byte, faults uint64) error {
	if cap(c.Args) < len(c.Probe.Args) {
		c.Args = make([]Arg, MaxArgs)
	}
	c.Args = c.Args[:len(c.Probe.Args)]
	in := cursor{b: data}
	for i := range c.Args {
		a := &c.Args[i]
		*a = Arg{Fault: faults>>i&1 != 0}
		if a.Fault {
			continue
		}
		switch argClasses[c.Probe.Args[i].Type] {
		case classUnsigned, classFrame:
			a.Num = in.uvarint()
		case classSigned:
			a.Num = uint64(unzigzag(in.uvarint()))
		case classText:
			kept, more := in.count(maxData), in.count(math.MaxInt32)
			a.Text = in.bytes(kept)
			a.Len = kept + more
			a.AtLeast = faults>>(endless+i)&1 != 0
		default:
			return fmt.Errorf("call of %s: argument %s is of %w type %q", c.Probe.Name, c.Probe.Args[i].Name, errUnknown, c.Probe.Args[i].Type)
		}
		if in.err != nil {
			return fmt.Errorf("call of %s: argument %s: %w", c.Probe.Name, c.Probe.Args[i].Name, in.err)
		}
	}
	if len(in.b) != 0 {
		return fmt.Errorf("call of %s: %w: %d bytes after the last argument", c.Probe.Name, ErrMalformed, len(in.b))
	}
	return nil
}

// Arg returns an argument by its name, nil when the probe declares none of that
// name or it could not be read.
func (c *Call) Arg(name string) *Arg {
	i := c.Probe.ArgIndex(name)
	if i < 0 || c.Args[i].Fault {
		return nil
	}
	return &c.Args[i]
}

// Uint returns a number, an address or a bool by its name; false when the call
// has none.
func (c *Call) Uint(name string) (uint64, bool) {
	a := c.Arg(name)
	if a == nil {
		return 0, false
	}
	return a.Num, true
}

// Int returns a signed number by its name; false when the call has none.
func (c *Call) Int(name string) (int64, bool) {
	v, ok := c.Uint(name)
	return int64(v), ok
}

// Text returns the bytes of a text by its name, as many as were kept, and how
// many there were; false when the call has none.
func (c *Call) Text(name string) (text []byte, length int, ok bool) {
	a := c.Arg(name)
	if a == nil {
		return nil, 0, false
	}
	return a.Text, a.Len, true
}

// Calls yields the calls that f selects, in file order; f.Kinds is of no
// matter. The call is valid until the next one is asked for. A damaged block,
// or a call that cannot be decoded, is yielded as an error without a call, and
// the iteration goes on, as [Reader.Events] does.
func (r *Reader) Calls(f Filter) iter.Seq2[*Call, error] {
	f.Kinds = NewKindSet(KindCall)
	return func(yield func(*Call, error) bool) {
		var c Call
		for e, err := range r.Events(f) {
			if err == nil {
				err = r.Call(e, &c)
			}
			if err != nil {
				if !yield(nil, err) {
					return
				}
				continue
			}
			if !yield(&c, nil) {
				return
			}
		}
	}
}
