//go:build bench && linux

package engine

import (
	"fmt"
	"runtime"
	"time"
)

// audience is the number of clients of a fan-out.
const audience = 5000

// fanoutPairs is more than pairs, because these rounds are short.
const fanoutPairs = 2 * pairs

const (
	// fanoutTarget bounds the cost of a delivery, in raw writes.
	fanoutTarget = 1.15
	// ownTarget bounds the cost of a delivery without the raw write, in µs.
	ownTarget = 0.8
)

// measureFanout measures a message at a time to all clients.
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
		err := b.toAll()
		mallocs = allocations() - before
		if err != nil {
			return err
		}
		return b.drain(audience, len(textFrame))
	}}
	took, err := rounds(cpuTime, fanoutPairs, ours, b.raw(audience, textFrame))
	if err != nil {
		return nil, err
	}
	allocated := row{Name: "  allocations per delivery", Value: float64(mallocs) / audience}
	return append(fanoutRows("one at a time", took, fanoutTarget, ownTarget), allocated), b.end()
}

// toAll sends text to the whole audience.
func (b *bed) toAll() error {
	r, err := b.deliver(shared, text)
	if err != nil || r.Matched != audience {
		return fmt.Errorf("receipt %+v: %w", r, err)
	}
	return nil
}

// fanoutRows returns the rows of rounds of a fan-out.
func fanoutRows(name string, took [][]time.Duration, whole, own float64) []row {
	left := row{Name: "  our own part of it", Unit: "µs", Target: own}
	left.Value = medianOf(len(took[0]), func(i int) float64 {
		return micros(took[0][i]-took[1][i], audience)
	})
	return []row{ratio(name, audience, took, whole), left}
}

// allocations returns the number of allocations of this process. It stops the world for some µs,
// which hardly counts beside a fan-out.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
