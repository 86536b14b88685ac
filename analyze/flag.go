package analyze

import (
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
)

// A regexpFlag is a flag value that is a regular expression; nil when not set.
type regexpFlag struct{ *regexp.Regexp }

// String implements pflag.Value.
func (r *regexpFlag) String() string {
	if r.Regexp == nil {
		return ""
	}
	return r.Regexp.String()
}

// Type implements pflag.Value.
func (r *regexpFlag) Type() string { return "regexp" }

// Set implements pflag.Value.
func (r *regexpFlag) Set(text string) (err error) {
	r.Regexp, err = regexp.Compile(text)
	return err
}

// A sizeFlag is a flag value in bytes: a number with an optional unit of B, K,
// KiB, M, MiB, G, GiB, T or TiB, each 1024 of the one before.
type sizeFlag uint64

// String implements pflag.Value.
func (s *sizeFlag) String() string { return strconv.FormatUint(uint64(*s), 10) }

// Type implements pflag.Value.
func (s *sizeFlag) Type() string { return "bytes" }

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) error {
	digits := strings.TrimRight(text, "BKMGTbkmgti")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 4096, 64KiB or 1M", text)
	}
	unit := strings.ToUpper(strings.TrimSpace(text[len(digits):]))
	shift, ok := map[string]uint{
		"": 0, "B": 0, "K": 10, "KIB": 10, "M": 20, "MIB": 20, "G": 30, "GIB": 30, "T": 40, "TIB": 40,
	}[unit]
	if !ok {
		return fmt.Errorf("%q has no unit of B, KiB, MiB, GiB or TiB", text)
	}
	if bits.LeadingZeros64(n) < int(shift) {
		return fmt.Errorf("%q is more than 64 bits of bytes", text)
	}
	*s = sizeFlag(n << shift)
	return nil
}
