package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/tcap-dev/tcap/analyze/export"
	"github.com/tcap-dev/tcap/capture/symbolize"
	"github.com/tcap-dev/tcap/format"
)

// modules counts the frames of each module and what is known of them.
func (s *summary) modules(r *format.Reader) {
	s.Modules = []modSum{}
	frames := map[[2]string]symbolize.Count{}
	for _, m := range symbolize.Survey(r).Modules {
		key := [2]string{m.Path, m.BuildID}
		sum := frames[key]
		frames[key] = symbolize.Count{All: sum.All + m.Frames.All, Named: sum.Named + m.Frames.Named, Lined: sum.Lined + m.Frames.Lined}
	}
	var missing []string
	for id := range r.ModuleIDs() {
		m := r.Module(id)
		if m.Path == "" {
			continue
		}
		n := frames[[2]string{m.Path, m.BuildID}]
		row := modSum{Path: m.Path, BuildID: m.BuildID, Frames: n.All, Named: n.Named, Lined: n.Lined}
		if n.Lined < n.All && len(m.BuildID) > 2 {
			row.DebugFile = filepath.Join(".build-id", m.BuildID[:2], m.BuildID[2:]+".debug")
			missing = append(missing, m.Path)
		}
		s.Modules = append(s.Modules, row)
	}
	owners := packagesOf(dpkgInfo, missing)
	for i := range s.Modules {
		if m := &s.Modules[i]; m.DebugFile != "" {
			m.Package = owners[m.Path]
		}
	}
}

// symbols says what the names of frames cost.
func (p page) symbols(s *summary) {
	var all, named, lined int
	for _, m := range s.Modules {
		all, named, lined = all+m.Frames, named+m.Named, lined+m.Lined
	}
	if all == 0 {
		return
	}
	p.row("symbols", fmt.Sprintf("%s of the file, about; of %s frames in modules %s have a function, %s a line",
		humanize.IBytes(uint64(s.Tables.SymbolBytes)), comma(all), comma(named), comma(lined)))
}

// modules lists the modules, and below those that have frames without a line
// what would give them one.
func (p page) modules(s *summary, all bool) {
	if len(s.Modules) == 0 {
		return
	}
	const id = 12 // columns of a build-id, enough to tell modules apart; --all has all of it
	tab := export.Table{
		Head: []string{"FRAMES", "NAMED", "LINES", "BUILD-ID", "MODULE"}, Right: []bool{true, true, true, false, false}, Drop: []int{0, 2, 1, 3, 0},
	}
	improvable := false
	for i, m := range s.Modules {
		if i == some && !all {
			tab.Rows = append(tab.Rows, []string{fmt.Sprintf("%d more (--all lists them)", len(s.Modules)-some)})
			break
		}
		build := escape(m.BuildID)
		if build == "" {
			build = "-"
		}
		if !all {
			build = build[:min(len(build), id)]
		}
		tab.Rows = append(tab.Rows, []string{comma(m.Frames), comma(m.Named), comma(m.Lined), build, escape(m.Path)})
		how, better := m.improve()
		for _, line := range how {
			tab.Rows = append(tab.Rows, []string{line})
		}
		improvable = improvable || better
	}
	p.Line("")
	p.Table(tab, "")
	if improvable {
		p.Para("Debug files in DIR give names and lines: tcap symbolize FILE --debug-dir DIR", "  ")
	}
}

// improve says what would give a module's frames lines, and reports whether a
// debug file would.
func (m *modSum) improve() (how []string, better bool) {
	switch {
	case m.Lined == m.Frames, m.BuildID == "" && m.Named == m.Frames: // code that was made at run time has no lines
		return nil, false
	case m.DebugFile == "":
		return []string{"no build-id: nothing found later is known to belong to it"}, false
	}
	how = []string{"debug file: " + escape(m.DebugFile)}
	if m.Package != "" {
		how = append(how, fmt.Sprintf("in Debian's %s-dbgsym or %[1]s-dbg", escape(m.Package)))
	}
	return how, true
}

// aliases are the paths by which the packages of a system whose /lib is a link to
// /usr/lib may know a file.
func aliases(path string) []string {
	if short, ok := strings.CutPrefix(path, "/usr/"); ok {
		return []string{path, "/" + short}
	}
	return []string{path, "/usr" + path}
}
