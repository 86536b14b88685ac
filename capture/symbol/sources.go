package symbol

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tcap-dev/tcap/capture/symbol/internal/srcline"
)

// readLines reads the DWARF of f, from whose path .gnu_debugaltlink may be
// relative. It returns nil where there is none.
func readLines(f *elf.File, path string, opts *Options) (*srcline.Data, error) {
	sections, err := dwarfSections(f, opts.MaxSectionBytes)
	if err != nil || sections.Info == nil {
		return nil, err
	}
	alt, err := altLines(f, path, opts)
	if err != nil {
		return nil, err
	}
	data, err := srcline.New(sections, alt)
	if err != nil {
		err = fmt.Errorf("read DWARF: %w", err)
	}
	if data != nil {
		splits := &splitFiles{path: path, dirs: opts.DebugDirs, room: opts.MaxSectionBytes}
		data.SplitFrom(splits.open)
	}
	return data, err
}

// dwarfSections reads the sections of f that srcline uses, of at most limit
// bytes together.
func dwarfSections(f *elf.File, limit int64) (srcline.Sections, error) {
	return sectionsWith(f, "", limit)
}

// sectionsWith reads the sections whose names end in a suffix.
func sectionsWith(f *elf.File, suffix string, limit int64) (srcline.Sections, error) {
	s := srcline.Sections{Order: f.ByteOrder}
	for _, section := range []struct {
		name string
		into *[]byte
	}{
		{".debug_info", &s.Info},
		{".debug_abbrev", &s.Abbrev},
		{".debug_line", &s.Line},
		{".debug_str", &s.Str},
		{".debug_line_str", &s.LineStr},
		{".debug_str_offsets", &s.StrOffsets},
		{".debug_ranges", &s.Ranges},
		{".debug_rnglists", &s.RngLists},
		{".debug_addr", &s.Addr},
	} {
		data, err := sectionData(f, section.name+suffix, limit)
		if err != nil {
			return s, err
		}
		if limit -= int64(len(data)); section.into == &s.Info && data == nil {
			return s, nil
		}
		*section.into = data
	}
	return s, nil
}

// altLines reads the file that holds what several debug files share, made by
// dwz -m. Its build-id has to be the one that f names.
func altLines(f *elf.File, path string, opts *Options) (*srcline.Data, error) {
	link, err := sectionData(f, ".gnu_debugaltlink", maxSmallBytes)
	end := bytes.IndexByte(link, 0)
	if err != nil || end <= 0 || len(link)-end-1 < 2 || len(link)-end-1 > maxBuildID {
		return nil, err
	}
	name, id := string(link[:end]), link[end+1:]
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(path), name)
	}
	var places []string
	if filepath.IsAbs(name) {
		places = append(places, name)
	}
	for _, dir := range opts.DebugDirs {
		places = append(places, buildIDPath(dir, id))
	}
	for _, place := range places {
		file, alt := openDebug(place, id)
		if file == nil {
			continue
		}
		defer file.Close()
		sections, err := dwarfSections(alt, opts.MaxSectionBytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		data, err := srcline.New(sections, nil)
		if err != nil {
			err = fmt.Errorf("read DWARF of %s: %w", place, err)
		}
		return data, err
	}
	return nil, nil // names that are in it will be missing
}

// fileRef finds a debug file again, if it is still the same.
type fileRef struct {
	path string
	key  fileKey
}

func (r fileRef) open() (*os.File, *elf.File, error) {
	file, err := OpenRegular(r.path)
	if err != nil {
		return nil, nil, err
	}
	if key, err := keyOf(file); err != nil || key != r.key {
		file.Close()
		return nil, nil, errors.New("the debug file was replaced")
	}
	f, err := readELF(file)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, f, nil
}

// readSources reads what gives lines: the module's own DWARF, else that of its
// debug file, and the table of a Go program.
func readSources(module io.ReaderAt, path string, debug fileRef, opts *Options) (*srcline.Data, *goTable, error) {
	f, err := readELF(module)
	if err != nil {
		return nil, nil, err
	}
	table, tableErr := readGoTable(f, opts.MaxSectionBytes)
	data, err := readLines(f, path, opts)
	if data != nil {
		return data, table, errors.Join(err, tableErr)
	}
	tableErr = errors.Join(tableErr, table.readInlined(f, opts.MaxSectionBytes))
	if debug.path == "" {
		return nil, table, errors.Join(err, tableErr)
	}
	file, parsed, openErr := debug.open()
	if openErr != nil {
		return nil, table, errors.Join(err, tableErr, openErr)
	}
	defer file.Close()
	data, debugErr := readLines(parsed, debug.path, opts)
	return data, table, errors.Join(err, tableErr, debugErr)
}
