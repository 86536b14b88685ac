package format

import "math"

// widthEstimate chooses into how many planes numbers are split: it estimates
// from a sample what an entropy coder makes of one to four planes.
type widthEstimate struct {
	low [maxWidth][256]uint16 // bytes of each plane, when others lie above it
	top [maxWidth][256]uint16 // when it is the top one, values beyond it as 255
}

const (
	maxWidth    = 4
	widthSample = 1024
	planeCost   = 48 * 8 // bits that a plane costs for its statistics
)

var logs = func() (l [widthSample + 1]float32) {
	for i := 1; i < len(l); i++ {
		l[i] = float32(math.Log2(float64(i)))
	}
	return l
}()

func (e *widthEstimate) width(nums []uint64) int {
	*e = widthEstimate{}
	step := max(1, len(nums)/widthSample)
	n := 0
	var exceptions [maxWidth]float32 // bits
	for i := 0; i < len(nums) && n < widthSample; i += step {
		n++
		v := nums[i]
		for p := range maxWidth {
			b := v >> (8 * p)
			e.low[p][byte(b)]++
			e.top[p][min(b, 255)]++
			if b >= 255 {
				exceptions[p] += float32(8 * uvarintLen(v))
			}
		}
	}
	scale := float32(len(nums)) / float32(n)
	best, bestCost, below := 1, float32(math.Inf(1)), float32(0)
	for p := range maxWidth {
		cost := scale*(below+entropy(&e.top[p], n)+exceptions[p]) + float32(p)*planeCost
		if cost < bestCost {
			best, bestCost = p+1, cost
		}
		below += entropy(&e.low[p], n)
	}
	return best
}

// entropy is what n bytes cost, in bits, when each costs what its frequency
// says.
func entropy(count *[256]uint16, n int) float32 {
	bits := float32(0)
	for _, c := range count {
		if c != 0 {
			bits += float32(c) * (logs[n] - logs[c])
		}
	}
	return bits
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
