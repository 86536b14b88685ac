package kerneltest

import (
	"testing"
	"time"
)

func TestScale(t *testing.T) {
	for _, c := range []struct {
		env    string
		repeat int
		wait   time.Duration
	}{
		{"", 1000, time.Second},
		{"1", 1000, time.Second},
		{"-3", 1000, time.Second},
		{"fast", 1000, time.Second},
		{"10", 100, 10 * time.Second},
		{"5000", 1, 5000 * time.Second},
	} {
		t.Setenv(EnvScale, c.env)
		if got := Repeat(1000); got != c.repeat {
			t.Errorf("%s=%q: Repeat(1000) = %d, want %d", EnvScale, c.env, got, c.repeat)
		}
		if got := Patience(time.Second); got != c.wait {
			t.Errorf("%s=%q: Patience(1s) = %v, want %v", EnvScale, c.env, got, c.wait)
		}
	}
}
