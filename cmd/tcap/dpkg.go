package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// dpkgInfo is where Debian and its kin keep the lists of their packages' files.
const dpkgInfo = "/var/lib/dpkg/info"

// maxFileList bounds a package's list that is read, bytes; the longest of Debian
// has some 10 MB.
const maxFileList = 32 << 20

// packagesOf returns the package that each file belongs to on this machine, as
// far as it is known.
func packagesOf(dir string, paths []string) map[string]string {
	owners := map[string]string{}
	if len(paths) == 0 {
		return owners
	}
	lists, err := filepath.Glob(filepath.Join(dir, "*.list"))
	if err != nil {
		return owners
	}
	for _, list := range lists {
		if info, err := os.Stat(list); err != nil || info.Size() > maxFileList {
			continue
		}
		data, err := os.ReadFile(list)
		if err != nil {
			continue // an answer less; it is a hint
		}
		data = append([]byte("\n"), data...)
		for _, path := range paths {
			for _, alias := range aliases(path) {
				if owners[path] == "" && bytes.Contains(data, []byte("\n"+alias+"\n")) {
					name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
					owners[path] = name
				}
			}
		}
	}
	return owners
}
