package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestPackagesOf(t *testing.T) {
	dir := t.TempDir()
	for name, list := range map[string]string{
		"libc6:amd64.list": "/.\n/lib\n/lib/x86_64-linux-gnu/libc.so.6\n",
		"redis.list":       "/usr/bin/redis-server\n/usr/bin/redis-server-old\n",
		"libz.list":        "/usr/lib/libz.so.1",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(list+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := packagesOf(dir, []string{"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/redis-server", "/usr/bin/redis", "/lib/libz.so.1"})
	want := map[string]string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6": "libc6", "/usr/bin/redis-server": "redis", "/lib/libz.so.1": "libz",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := packagesOf(filepath.Join(dir, "none"), []string{"/bin/true"}); len(got) != 0 {
		t.Errorf("without dpkg: %v", got)
	}
}
