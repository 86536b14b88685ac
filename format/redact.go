package format

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Redacted says what was taken out of a capture.
type Redacted struct {
	SnapshotBytes int64  // of copies of stacks, without compression
	Texts         uint64 // arguments of calls, of types str and buf
	TextBytes     uint64 // that they had in the file
	Left          int    // blocks that could not be decoded, or are of no known type, and were left out
}

// redactedWord stands where a part of a command line was.
const redactedWord = "[redacted]"

// Redact has what is written lack what the recorded programs kept to themselves, as
// far as it is known where that is: copies of stacks; texts among the arguments
// of calls, whose lengths stay; of command lines all but the program's name; the machine's name and boot
// id. Everything else stays: events, times, numbers, network addresses, names of
// programs, files and functions. What cannot be read is left out. The result is
// complete when [Amender.WriteTo] has returned; EndStack is not to be called any more.
func (a *Amender) Redact() *Redacted {
	out := &Redacted{}
	a.redacted = out
	a.size = a.blocks[len(a.blocks)-1].End() // what follows is no block
	a.endWaiting()
	var batch Batch
	a.edit = func(b *BlockInfo, payload []byte) (edited []byte, keep bool) {
		err := errUnknown
		switch b.Type {
		case BlockSchema, BlockTables, BlockCopy:
			return payload, true
		case BlockHeader:
			edited, err = redactHeader(payload)
		case BlockEvents:
			edited, err = a.hideTexts(&batch, b, payload, out)
		case BlockSnapshots:
			out.SnapshotBytes += int64(b.RawLen)
			return nil, false
		}
		if err != nil {
			out.Left++
		}
		return edited, err == nil
	}
	return out
}

// redactHeader takes out of the header what tells of the machine, and command lines.
func redactHeader(payload []byte) ([]byte, error) {
	var h Header
	if err := json.Unmarshal(payload, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	h.Host, h.BootID = "", ""
	if len(h.Command) > 1 {
		h.Command = []string{h.Command[0], redactedWord}
	}
	for i, t := range h.Targets {
		if strings.HasPrefix(t, "pid ") || strings.HasPrefix(t, "comm ") {
			continue
		}
		if program, _, more := strings.Cut(t, " "); more {
			h.Targets[i] = program + " " + redactedWord
		}
	}
	h.Extra = nil // nobody knows what that is
	return json.Marshal(h)
}

// hideTexts takes the texts out of the calls in a block of events. All other
// columns keep their bytes.
func (a *Amender) hideTexts(batch *Batch, info *BlockInfo, payload []byte, out *Redacted) ([]byte, error) {
	var enc columnEncoder
	changed := false
	for c := (cursor{b: payload}); len(c.b) > 0; {
		from := c.b
		kind, field, typ, how := c.byte(), c.byte(), FieldType(c.byte()), c.byte()
		c.count(info.Events)
		c.bytes(c.count(maxRawLen))
		if c.err != nil {
			return nil, fmt.Errorf("column header: %w", c.err)
		}
		if typ != TypeBytes {
			enc.dst = append(enc.dst, from[:len(from)-len(c.b)]...)
			continue
		}
		changed = true
		if Kind(kind) != KindCall || field != CallArgs || how != encBytes|transNone {
			continue // of a later version of tcap: it is not known what is in it
		}
		lengths, data, err := a.withoutTexts(batch, info, payload, out)
		if err != nil {
			return nil, err
		}
		enc.appendBytes(KindCall, CallArgs, lengths, data)
	}
	if !changed {
		return payload, nil
	}
	return enc.dst, nil
}

// withoutTexts encodes the arguments of a block's calls anew. Those of a call that
// cannot be decoded are lost.
func (a *Amender) withoutTexts(batch *Batch, info *BlockInfo, payload []byte, out *Redacted) (lengths []uint64, data []byte, err error) {
	batch.Info = *info
	if err := batch.decode(payload); err != nil {
		return nil, nil, err
	}
	var e Event
	var call Call
	var args []byte
	for i, k := range batch.Kind {
		if k != KindCall {
			continue
		}
		batch.Event(i, &e)
		args = args[:0]
		if err := a.r.Call(&e, &call); err == nil {
			for j := range call.Args {
				arg := &call.Args[j]
				if t := call.Probe.Args[j].Type; (t == ArgStr || t == ArgBuf) && !arg.Fault && len(arg.Text) > 0 {
					out.Texts++
					out.TextBytes += uint64(len(arg.Text))
					arg.Text = nil
				}
			}
			args, _ = AppendArgs(args, call.Probe, call.Args)
		}
		lengths, data = append(lengths, uint64(len(args))), append(data, args...)
	}
	return lengths, data, nil
}
