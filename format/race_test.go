//go:build race

package format

// stride thins the tests of every byte under the race detector, which makes
// them twenty times as slow and learns nothing from most.
const stride = 17
