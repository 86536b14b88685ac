package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// The schema block is the table of kinds as JSON, so that a reader knows the
// names, types and units of kinds and fields that are newer than itself.
type schemaKind struct {
	Kind   Kind          `json:"kind"`
	Name   string        `json:"name"`
	Doc    string        `json:"doc,omitempty"`
	Since  uint16        `json:"since,omitempty"`
	Fields []schemaField `json:"fields,omitempty"`
}

type schemaField struct {
	Name string    `json:"name"`
	Type FieldType `json:"type"`
	Unit Unit      `json:"unit,omitempty"`
	Hex  bool      `json:"hex,omitempty"`
	Enum []string  `json:"enum,omitempty"`
}

func encodeSchema(kinds []KindInfo) ([]byte, error) {
	out := make([]schemaKind, len(kinds))
	for i, k := range kinds {
		out[i] = schemaKind{Kind: k.Kind, Name: k.Name, Doc: k.Doc, Since: k.Since}
		for _, f := range k.Fields {
			out[i].Fields = append(out[i].Fields, schemaField(f))
		}
	}
	return json.Marshal(out)
}

// ownSchema is the schema that this version writes, which most files have.
var ownSchema = sync.OnceValues(func() ([]byte, error) { return encodeSchema(Kinds) })

// decodeSchema reads a schema block. Kinds that this package knows better, as
// the file is older, are taken from [Kinds]; kinds newer than this package
// follow them.
func decodeSchema(b []byte) ([]KindInfo, error) {
	if len(b) > maxJSON {
		return nil, fmt.Errorf("schema: %w: %d bytes", ErrLimit, len(b))
	}
	if own, err := ownSchema(); err == nil && bytes.Equal(b, own) {
		return Kinds, nil
	}
	var in []schemaKind
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("schema: %w: %w", ErrMalformed, err)
	}
	kinds := append([]KindInfo(nil), Kinds...)
	for _, k := range in {
		info := KindInfo{Kind: k.Kind, Name: k.Name, Doc: k.Doc, Since: k.Since}
		for _, f := range k.Fields {
			info.Fields = append(info.Fields, Field(f))
		}
		if len(info.Fields) > MaxFields {
			info.Fields = info.Fields[:MaxFields]
		}
		if int(k.Kind) >= len(kinds) {
			for int(k.Kind) > len(kinds) {
				kinds = append(kinds, unknownKind(Kind(len(kinds))))
			}
			kinds = append(kinds, info)
		} else if known := &kinds[k.Kind]; int(k.Kind) >= len(Kinds) || len(info.Fields) > len(known.Fields) {
			*known = info
		}
	}
	return kinds, nil
}

// unknownKind describes a kind of which only the number is known.
func unknownKind(k Kind) KindInfo {
	return KindInfo{Kind: k, Name: fmt.Sprintf("kind.%d", k)}
}

// A shape is what the codec needs to know of a kind.
type shape struct {
	fields   int
	birth    int8 // field of TypeBlock, -1 for none
	freed    int8 // field of TypeFreed, -1 for none
	duration int8 // field that leads from the time back to the death, -1 for none
	data     int8 // field of TypeBytes, -1 for none
}

// shapes follow from Kinds.
var shapes = makeShapes(Kinds)

// shapeOf is for kinds that may be newer than this package.
func shapeOf(k Kind) *shape {
	if int(k) < len(shapes) {
		return &shapes[k]
	}
	return &shape{birth: -1, freed: -1, duration: -1, data: -1}
}

func makeShapes(kinds []KindInfo) []shape {
	s := make([]shape, len(kinds))
	for i, k := range kinds {
		s[i] = shape{fields: len(k.Fields), birth: -1, freed: -1, duration: -1, data: -1}
		for j, f := range k.Fields {
			switch {
			case f.Type == TypeBlock:
				s[i].birth = int8(j)
			case f.Type == TypeFreed:
				s[i].freed = int8(j)
			case f.Type == TypeBytes:
				s[i].data = int8(j)
			case f.Name == "duration":
				s[i].duration = int8(j)
			}
		}
	}
	return s
}
