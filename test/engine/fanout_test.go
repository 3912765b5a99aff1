//go:build bench && linux

package engine

import (
	"fmt"
	"runtime"
)

// audience is how many clients a fan-out has.
const audience = 5000

// fanoutPairs is more than pairs: these rounds are short.
const fanoutPairs = 2 * pairs

// measureFanout: one message at a time to everybody.
func measureFanout() ([]row, error) {
	b, err := newBed(reference())
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience}); err != nil {
		return nil, err
	}
	mallocs := uint64(0)
	ours := variant{measured: func() error {
		before := allocations()
		r, err := b.deliver(shared, text)
		mallocs = allocations() - before
		if err != nil || r.Matched != audience {
			return fmt.Errorf("receipt %+v: %w", r, err)
		}
		return b.drain(audience, len(textFrame))
	}}
	took, err := rounds(cpuTime, fanoutPairs, ours, b.raw(audience, textFrame))
	if err != nil {
		return nil, err
	}
	whole := ratio("one at a time", audience, took, 1.15)
	own := row{Name: "  our own part of it", Unit: "µs", Target: 0.8}
	own.Value = medianOf(fanoutPairs, func(i int) float64 { return micros(took[0][i]-took[1][i], audience) })
	allocated := row{Name: "  allocations per delivery", Value: float64(mallocs) / audience}
	return []row{whole, own, allocated}, b.end()
}

// allocations is how many this process has made. It stops the world, which takes some µs: nothing beside a fan-out.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
