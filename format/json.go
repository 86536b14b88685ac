package format

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// JSONEncoder writes events as JSON objects:
//
//	{"seq":7,"time_ns":1500,"wall":"2026-01-01T00:00:00.0000015Z","pid":100,"tid":100,"comm":"redis",
//	 "kind":"heap.alloc","addr":"0x1000","size_bytes":32,"stack":[{"function":"f",...}],"fn":"malloc"}
//
// time_ns, and from_ns and to_ns of a loss, count from the start of the
// recording. The fields of the kind
// follow in the order of the table of kinds, under their names with their
// units appended. Values that text shows in hexadecimal are strings, since
// JSON readers lose digits above 2^53. A field whose key the event has
// already gets the last part of the kind's name before it: loss_kind. A stack
// is an array of frames, innermost first; the arguments of a call are an object,
// by the names that its probe declares.
//
// An encoder remembers what it resolved, up to a bound. It must not be used
// concurrently.
type JSONEncoder struct {
	r      *Reader
	kinds  map[Kind][]string // keys of the fields, with quotes, colon and the comma before
	tasks  map[TaskID]string
	stacks map[StackID]string
	frames []Frame
	call   Call
}

// NewJSONEncoder returns an encoder for the events of r.
func NewJSONEncoder(r *Reader) *JSONEncoder {
	return &JSONEncoder{r: r, kinds: map[Kind][]string{}, tasks: map[TaskID]string{}, stacks: map[StackID]string{}}
}

// maxRemembered bounds each map of a JSONEncoder.
const maxRemembered = 1 << 16

// Append appends the object of an event, without a newline, and returns buf.
func (j *JSONEncoder) Append(buf []byte, e *Event) []byte {
	start := j.r.header.Start
	since := e.Time - start.Mono
	buf = strconv.AppendUint(append(buf, `{"seq":`...), e.Seq, 10)
	buf = strconv.AppendInt(append(buf, `,"time_ns":`...), since, 10)
	if start.Wall != 0 {
		buf = append(buf, `,"wall":"`...)
		buf = time.Unix(0, start.Wall+since).UTC().AppendFormat(buf, time.RFC3339Nano)
		buf = append(buf, '"')
	}
	buf = append(buf, remembered(j.tasks, e.Task, j.task)...)
	info := j.r.KindInfo(e.Kind)
	buf = appendJSONString(append(buf, `,"kind":`...), info.Name)
	keys, ok := j.kinds[e.Kind]
	if !ok {
		keys = fieldKeys(&info)
		j.kinds[e.Kind] = keys
	}
	for i := range info.Fields {
		buf = append(buf, keys[i]...)
		if info.Fields[i].Type == TypeBytes && e.Kind == KindCall {
			buf = j.args(buf, e)
			continue
		}
		buf = j.value(buf, e.Kind, i, &info.Fields[i], e.V[i])
	}
	return append(buf, '}')
}

// remembered returns what is known of id, made by fn on first sight.
func remembered[K comparable](m map[K]string, id K, fn func(K) string) string {
	s, ok := m[id]
	if !ok {
		if len(m) >= maxRemembered {
			clear(m)
		}
		s = fn(id)
		m[id] = s
	}
	return s
}

func (j *JSONEncoder) task(id TaskID) string {
	t := j.r.Task(id)
	buf := strconv.AppendUint([]byte(`,"pid":`), uint64(t.Pid), 10)
	buf = strconv.AppendUint(append(buf, `,"tid":`...), uint64(t.Tid), 10)
	return string(appendJSONString(append(buf, `,"comm":`...), t.Comm))
}

// fieldKeys returns the keys of the fields of a kind.
func fieldKeys(info *KindInfo) []string {
	used := map[string]bool{"seq": true, "time_ns": true, "wall": true, "pid": true, "tid": true, "comm": true, "kind": true}
	var keys []string
	for _, f := range info.Fields {
		key := f.Name
		if f.Unit != UnitNone {
			key += "_" + string(f.Unit)
		}
		for used[key] {
			key = info.Name[strings.LastIndexByte(info.Name, '.')+1:] + "_" + key
		}
		used[key] = true
		keys = append(keys, string(append(appendJSONString([]byte{','}, key), ':')))
	}
	return keys
}

func (j *JSONEncoder) value(buf []byte, k Kind, i int, f *Field, v uint64) []byte {
	switch {
	case k == KindLoss && i == LossKind && v != 0 && v < 1<<8:
		return appendJSONString(buf, j.r.KindInfo(Kind(v)).Name)
	case k == KindLoss && i == LossKind:
		return append(buf, "null"...)
	case k == KindLoss && (i == LossFrom || i == LossTo):
		return strconv.AppendInt(buf, int64(v)-j.r.header.Start.Mono, 10)
	case f.Type == TypeString:
		return appendJSONString(buf, j.r.String(StringID(v)))
	case f.Type == TypeProbe:
		return appendJSONString(buf, j.r.probeName(ProbeID(v)))
	case f.Type == TypeModule:
		return appendJSONString(buf, j.r.Module(ModuleID(v)).Path)
	case f.Type == TypeStack:
		return append(buf, remembered(j.stacks, StackID(v), j.stack)...)
	case f.Type == TypeEnum && v < uint64(len(f.Enum)):
		return appendJSONString(buf, f.Enum[v])
	case f.Type == TypeInt:
		return strconv.AppendInt(buf, int64(v), 10)
	case f.Hex:
		buf = strconv.AppendUint(append(buf, `"0x`...), v, 16)
		return append(buf, '"')
	default:
		return strconv.AppendUint(buf, v, 10)
	}
}

func (j *JSONEncoder) stack(id StackID) string {
	j.frames = j.r.Stack(id, j.frames[:0])
	buf := []byte{'['}
	for i, f := range j.frames {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendJSONString(append(buf, `{"function":`...), f.Function)
		buf = appendJSONString(append(buf, `,"file":`...), f.File)
		buf = strconv.AppendUint(append(buf, `,"line":`...), uint64(f.Line), 10)
		buf = appendJSONString(append(buf, `,"module":`...), j.r.Module(f.Module).Path)
		buf = strconv.AppendUint(append(buf, `,"offset":`...), f.Offset, 10)
		if f.Inlined {
			buf = append(buf, `,"inlined":true`...)
		}
		buf = append(buf, '}')
	}
	return string(append(buf, ']'))
}

// appendJSONString appends s quoted, control characters escaped; bytes that
// are no UTF-8 become U+FFFD.
func appendJSONString(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	buf = append(buf, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			buf = append(buf, '\\', byte(c))
		case c < ' ' || c >= 0x7f && c < 0xa0: // C0, DEL and C1
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			buf = utf8.AppendRune(buf, c)
		}
	}
	return append(buf, '"')
}
