// Package pack knows applications: which functions of a program are worth a
// probe, and what is to be read there.
//
// A pack is a YAML file, drawn in docs/packs.md. It names the program, the
// functions, by variants where they differ between versions, and what to read
// as declarations of the language of package declare. Those that tcap comes with
// are embedded; others are given by their path, or lie in the user's directory.
// Neither needs any Go: an analysis finds its probes by their role.
package pack

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tcap-dev/tcap/capture/declare"
)

// A Pack is an application.
type Pack struct {
	Name    string // a word
	About   string // one sentence
	File    string // where it comes from, as messages name it
	Private bool   // it records what may be nobody else's business
	isLike  bool   // it is made of another
	builtIn bool   // tcap comes with it

	Names   []string // of executables, patterns as of path.Match
	Paths   []string // where they lie when none runs, patterns
	Symbol  string   // a function by which any target's executable is known
	version *regexp.Regexp
	highest bool
	layouts []layout
	fields  map[string][]string // offset: TYPE.MEMBER, for DWARF, the first that there is
	access  map[string][]string // accessor function: the offsets that its code tells
	probes  []probeSpec
}

// OnRequest reports whether only who asks for the pack by name gets it: for it is
// private, or there is another for the same program, which does.
func (p *Pack) OnRequest() bool { return p.Private || p.isLike }

// A layout is where things are in the structures of some versions.
type layout struct {
	versions constraint
	function string // that programs of this layout have, a pattern
	offsets  map[string]int64
}

type probeSpec struct {
	name, role string
	optional   bool
	variants   []variant
	checks     []Check
}

type variant struct {
	versions constraint
	text     string // SYMBOL(ARGS) {OPTIONS} /FILTER/
	line     int    // in the file
	col      int    // of the text's first character
	block    bool   // the text is on several lines
	extra    []extra
}

// An extra is an argument that is left out where its offsets are not known.
type extra struct{ text string }

// A Check is what a value must look like on the first calls, or the layout is
// taken for another version's: a refusal instead of rubbish.
type Check struct {
	Arg      string
	Text     *regexp.Regexp // nil: a number
	Min, Max int64
}

// A Probe is what a pack wants of one program.
type Probe struct {
	Pack, Name, Role string
	Decl             *declare.Probe
	Optional         bool
	BuiltIn          bool // of a pack that tcap comes with, so it is known what its functions do
	Checks           []Check
}

// An Error says what is wrong with a pack, and where.
type Error struct {
	File      string
	Line, Col int
	Msg       string
}

// Error names file, line and column as compilers do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

//go:embed packs/*.yaml
var embedded embed.FS

// ErrNoPack is wrapped by the error of a name that no pack has.
var ErrNoPack = errors.New("no such pack")

// maxPack bounds a pack's file, in bytes.
const maxPack = 1 << 20

// Names lists the packs that tcap comes with and those of the user's directory.
func Names() []string {
	var names []string
	add := func(file string) { names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml")) }
	files, _ := embedded.ReadDir("packs") // embedded: it is there
	for _, f := range files {
		add(f.Name())
	}
	if dir := userDir(); dir != "" {
		own, _ := filepath.Glob(filepath.Join(dir, "*.yaml")) // the pattern is well-formed
		for _, f := range own {
			add(f)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// userDir is where the user keeps packs: $XDG_CONFIG_HOME/tcap/packs.
func userDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "tcap", "packs")
}

// IsFile reports whether a word names a pack's file rather than a pack.
func IsFile(word string) bool {
	return strings.ContainsRune(word, filepath.Separator) || strings.HasSuffix(word, ".yaml") || strings.HasSuffix(word, ".yml")
}

// Load reads a pack by its name or the path of its file. The user's directory
// comes before what is embedded.
func Load(word string) (*Pack, error) { return load(word, nil) }

// errLike is that a pack is like another that is like another itself.
var errLike = errors.New("it is like another")

// load is Load; forFile, when given, is the file of a pack that is to be like the one that
// is loaded. That is another file, and like no other, so nothing goes round in circles.
func load(word string, forFile *string) (*Pack, error) {
	if IsFile(word) {
		return readFile(word, false)
	}
	if dir := userDir(); dir != "" {
		if path := filepath.Join(dir, word+".yaml"); forFile == nil || *forFile != path {
			p, err := readFile(path, forFile != nil)
			// Who has become somebody else often keeps the home of before.
			if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
				return p, err
			}
		}
	}
	text, err := embedded.ReadFile("packs/" + word + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("-e %s: %w; there are %s", word, ErrNoPack, strings.Join(Names(), ", "))
	}
	p, err := parse(word+".yaml", text, forFile != nil)
	if err == nil {
		p.builtIn = true
	}
	return p, err
}

func readFile(path string, base bool) (*Pack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read pack: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPack+1))
	if err != nil {
		return nil, fmt.Errorf("read pack %s: %w", path, err)
	}
	if len(text) > maxPack {
		return nil, fmt.Errorf("read pack %s: it has more than %d bytes", path, maxPack)
	}
	return parse(path, bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), base)
}
