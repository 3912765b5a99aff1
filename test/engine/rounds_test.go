//go:build bench && linux

package engine

import (
	"slices"
	"time"
)

// pairs is how many rounds each variant has in a run.
const pairs = 15

// variant is something that is measured in rounds.
type variant struct {
	measured func() error
	after    func() error         // brings everything back to where it was; not measured; may be nil
	clock    func() time.Duration // nil: that of the others
}

// rounds measures variants in turn by a clock, and returns what each round took by variant. The first round of each warms up
// and does not count. Who begins changes from round to round, so that none always comes after the same one.
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

// micros is a duration per operation, in µs.
func micros(d time.Duration, operations int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(operations)
}

// median is the value in the middle. It sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// medianOf is the median of what f makes of the rounds.
func medianOf(n int, f func(round int) float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = f(i)
	}
	return median(values)
}
