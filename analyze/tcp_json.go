package analyze

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// tcpDocument is the JSON form.
type tcpDocument struct {
	Capture      Capture      `json:"capture"`
	Completeness Completeness `json:"completeness"`
	Connections  []tcpRow     `json:"connections"`
}

// JSON returns the document that docs/json.md describes.
func (r *tcpResult) JSON() any {
	if r.opt.summary {
		return tcpSummaryDocument{Capture: r.capture, Completeness: r.complete, Summary: r.summarize()}
	}
	doc := tcpDocument{Capture: r.capture, Completeness: r.complete, Connections: make([]tcpRow, 0, len(r.conns))}
	for _, c := range r.conns {
		doc.Connections = append(doc.Connections, r.view.row(c))
	}
	return doc
}

// writeJSON writes the document row by row, each on a line of its own: encoded
// at once, a million connections take gigabytes.
func (r *tcpResult) writeJSON(w io.Writer) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	if err := r.streamJSON(bw); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return bw.Flush()
}

func (r *tcpResult) streamJSON(w *bufio.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if r.opt.summary || len(r.conns) == 0 {
		return enc.Encode(r.JSON())
	}
	frame, err := json.MarshalIndent(tcpDocument{Capture: r.capture, Completeness: r.complete, Connections: []tcpRow{}}, "", "  ")
	if err != nil {
		return err
	}
	const end = "]\n}"
	w.Write(bytes.TrimSuffix(frame, []byte(end)))
	for i, c := range r.conns {
		if i > 0 {
			w.WriteByte(',')
		}
		row := r.view.row(c)
		text, err := json.Marshal(&row)
		if err != nil {
			return err
		}
		w.WriteString("\n    ")
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	_, err = w.WriteString("\n  " + end + "\n")
	return err
}
