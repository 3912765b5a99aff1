//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"time"
)

const (
	// rateSeconds is the time for which sends go at a rate.
	rateSeconds = 4
	// rateInFlight bounds the sends without a result at a rate. A send that waits because of this
	// bound is late, and its latency tells so.
	rateInFlight = 256
	// noPings is an interval of pings that is longer than the test. The watcher knows no pings.
	noPings = "1h"
)

// rates are the sends a second. At the largest the hub's core is busy for a half or less.
func rates() []int { return []int{1000, 5000, 10_000} }

// measureRates measures the latency of unicasts that are due at a fixed rate, whether or not the
// hub keeps up (open loop), and then of as many as the hub takes with 64 requests under way (closed
// loop), in each shape. A latency at a rate counts from the time when the send was due.
func measureRates() ([]row, error) {
	shipped, err := startBinary(alone, "--ping-interval", noPings)
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	b, err := newEmptyBed(shipped)
	if err != nil {
		return nil, err
	}
	if err := b.bring(users, clientPath(), shipped.Clients); err != nil {
		return nil, err
	}
	if _, err := b.order(order{Watch: true}); err != nil {
		return nil, err
	}
	var rows []row
	for _, rate := range rates() {
		for _, c := range []call{{Batch: 1}, {Unary: true}} {
			name := "a SendStream"
			if c.Unary {
				name = "Send"
			}
			c.toUsers(b.backends)
			c.Count, c.Rate, c.InFlight, c.Stamp = rate*rateSeconds, rate, rateInFlight, true
			more, err := b.lagsOf(fmt.Sprintf("%d/s, %s", rate, name), c, [2]float64{})
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
	}
	for _, s := range shapes() {
		if s.call.InFlight != crowded {
			continue
		}
		c := s.call
		c.toUsers(b.backends)
		c.Count, c.Stamp = latencySends, true
		more, err := b.lagsOf(s.name, c, [2]float64{0, crowdedP99})
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, b.load.stop()
}

// lagsOf returns the rows of the latencies of a call, and of its sends a second.
func (b *bed) lagsOf(name string, c call, targets [2]float64) ([]row, error) {
	warm := c
	warm.Count, warm.Rate, warm.InFlight = users, 0, inFlight
	if _, err := b.lags(b.unicast(warm)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var took time.Duration
	lags, err := b.lags(variant{measured: func() error {
		r, err := b.order(order{Call: &c})
		took = r.Took
		return errors.Join(err, b.drain(users, c.Count/users*len(textFrame)))
	}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	throughput := row{
		Name: "  sends a second", Value: float64(c.Count) / took.Seconds() / 1000, Unit: "k",
	}
	return append(lagRows(name, lags, nil, targets), throughput), nil
}
