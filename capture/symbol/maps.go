package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// maxMappings is sixteen times the kernel's default vm.max_map_count.
	maxMappings = 1 << 20
	// maxMapsLine holds PATH_MAX bytes with every byte escaped as \ooo,
	// plus the fixed columns.
	maxMapsLine = 4*4096 + 256

	deletedSuffix = " (deleted)"
)

// Mapping is one line of /proc/PID/maps (proc_pid_maps(5); show_map_vma in
// fs/proc/task_mmu.c).
type Mapping struct {
	Start, End uint64 // addresses; End is the first byte after
	Offset     uint64 // of Start in the file, in bytes
	Dev        uint64 // as makedev(3) encodes it; on btrfs and overlayfs not stat's
	Inode      uint64 // 0 when no file is mapped
	Path       string // unescaped, without " (deleted)"; "" when anonymous, or a name like [stack]
	Exec       bool
	Deleted    bool // the file was unlinked or replaced; open it through /proc/PID/map_files
}

// ParseMaps reads /proc/PID/maps. On error, it returns the mappings before the
// offending line as well.
func ParseMaps(r io.Reader) ([]Mapping, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 4096), maxMapsLine)
	var maps []Mapping
	for scanner.Scan() {
		if len(maps) == maxMappings {
			return maps, fmt.Errorf("parse maps: more than %d mappings", maxMappings)
		}
		m, err := parseMapping(scanner.Text())
		if err != nil {
			return maps, fmt.Errorf("parse maps: line %d: %w", len(maps)+1, err)
		}
		maps = append(maps, m)
	}
	if err := scanner.Err(); err != nil {
		return maps, fmt.Errorf("parse maps: after line %d: %w", len(maps), err)
	}
	return maps, nil
}

// parseMapping parses "start-end perms offset major:minor inode   path".
func parseMapping(line string) (Mapping, error) {
	var fields [5]string
	rest := line
	for i := range fields {
		var ok bool
		fields[i], rest, ok = strings.Cut(rest, " ")
		if !ok && i < len(fields)-1 {
			return Mapping{}, errors.New("too few columns")
		}
	}
	var m Mapping
	start, end, ok := strings.Cut(fields[0], "-")
	if !ok || len(fields[1]) != 4 {
		return Mapping{}, errors.New("no address range or permissions")
	}
	major, minor, ok := strings.Cut(fields[3], ":")
	if !ok {
		return Mapping{}, errors.New("no device")
	}
	var maj, mnr uint64
	for _, number := range []struct {
		text string
		base int
		bits int
		into *uint64
	}{
		{start, 16, 64, &m.Start},
		{end, 16, 64, &m.End},
		{fields[2], 16, 64, &m.Offset},
		{major, 16, 32, &maj},
		{minor, 16, 32, &mnr},
		{fields[4], 10, 64, &m.Inode},
	} {
		v, err := strconv.ParseUint(number.text, number.base, number.bits)
		if err != nil {
			return Mapping{}, err
		}
		*number.into = v
	}
	if m.End < m.Start {
		return Mapping{}, errors.New("mapping ends before it starts")
	}
	m.Dev = makedev(maj, mnr)
	m.Exec = fields[1][2] == 'x'
	m.Path = strings.TrimLeft(rest, " ")
	if m.Inode != 0 {
		m.Path, m.Deleted = strings.CutSuffix(m.Path, deletedSuffix)
	}
	// The kernel escapes newlines only (seq_file_path with "\n").
	m.Path = strings.ReplaceAll(m.Path, `\012`, "\n")
	return m, nil
}

// makedev encodes a device number as Linux's stat reports it, on any OS.
func makedev(major, minor uint64) uint64 {
	return minor&0xff | major&0xfff<<8 | minor&^0xff<<12 | major&^0xfff<<32
}
