//go:build bench && linux

package engine

import (
	"slices"
	"time"
)

// pairs is the number of rounds of each variant in a run.
const pairs = 15

// variant is an operation that is measured in rounds.
type variant struct {
	measured func() error
	after    func() error         // restores the state from before; not measured; may be nil
	clock    func() time.Duration // nil: the clock of the other variants
}

// rounds measures variants in turn by a clock, and returns the durations by variant and round. The
// first round of each variant warms up and does not count. The order changes from round to round,
// so that no variant always follows the same one.
func rounds(clock func() time.Duration, n int, variants ...variant) ([][]time.Duration, error) {
	took := make([][]time.Duration, len(variants))
	for round := range n + 1 {
		for i := range variants {
			which := (round + i) % len(variants)
			v := variants[which]
			now := clock
			if v.clock != nil {
				now = v.clock
			}
			began := now()
			if err := v.measured(); err != nil {
				return nil, err
			}
			if round > 0 {
				took[which] = append(took[which], now()-began)
			}
			if v.after == nil {
				continue
			}
			if err := v.after(); err != nil {
				return nil, err
			}
		}
	}
	return took, nil
}

// micros returns a duration per operation, in µs.
func micros(d time.Duration, operations int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(operations)
}

// median returns the value in the middle. It sorts values.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// medianOf returns the median of f over the rounds.
func medianOf(n int, f func(round int) float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = f(i)
	}
	return median(values)
}
