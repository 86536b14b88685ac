package probe

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// ldCacheMagic starts the cache of glibc 2.2 and later; older formats may
// precede it in the file (glibc, sysdeps/generic/dl-cache.h).
const ldCacheMagic = "glibc-ld.so.cache1.1"

const (
	ldCacheHeader  = 48
	ldCacheEntry   = 24
	maxLDCache     = 64 << 20 // bytes of the file; a large one has 300 KB
	maxLDCacheLibs = 1 << 18
)

// libraryCache is what ld.so.cache says: paths by library name, several where
// there are variants for other processors.
type libraryCache map[string][]string

// parseLDCache reads /etc/ld.so.cache. Of a damaged file it returns what can
// be read.
func parseLDCache(data []byte) libraryCache {
	at := bytes.Index(data, []byte(ldCacheMagic))
	if at < 0 || len(data)-at < ldCacheHeader {
		return nil
	}
	data = data[at:] // offsets of strings count from here
	count := binary.NativeEndian.Uint32(data[len(ldCacheMagic):])
	cache := libraryCache{}
	entries := data[ldCacheHeader:]
	for range min(count, maxLDCacheLibs) {
		if len(entries) < ldCacheEntry {
			break
		}
		name := cacheString(data, binary.NativeEndian.Uint32(entries[4:]))
		path := cacheString(data, binary.NativeEndian.Uint32(entries[8:]))
		entries = entries[ldCacheEntry:]
		if name != "" && strings.HasPrefix(path, "/") {
			cache[name] = append(cache[name], path)
		}
	}
	return cache
}

func cacheString(data []byte, at uint32) string {
	if uint64(at) >= uint64(len(data)) {
		return ""
	}
	s := data[at:min(uint64(at)+maxPathLen, uint64(len(data)))]
	end := bytes.IndexByte(s, 0)
	if end < 0 {
		return ""
	}
	return string(s[:end])
}
