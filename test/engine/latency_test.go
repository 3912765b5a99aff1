//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// pace is the time between two messages to all clients.
	pace = 100 * time.Millisecond
	// paced is the number of messages that the hub sends at that pace before the reference's turn.
	// turns is the number of turns of each.
	paced = 10
	turns = 6
	// Bounds of the latency of a message to all clients, in ms, as the median and as the 99th
	// percentile: the figures of the fastest of other servers.
	fanoutMedian = 21
	fanoutP99    = 51
	// crowded is the number of unicasts in flight: about as many as in the figures of other
	// servers.
	crowded = 64
	// Bounds of the latency of those unicasts, in ms.
	crowdedMedian = 1.2
	crowdedP99    = 2.8
	// latencySends is the number of unicasts by each way.
	latencySends = 20 * users
)

// measureLatency measures the time from a backend's call until a client has read the message. A
// single thread reads all clients as soon as bytes arrive. In a message to all clients the reader's
// own time is a part of the figure, for the hub and for raw alike.
func measureLatency() ([]row, error) {
	b, err := newBed(reference())
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience}); err != nil {
		return nil, err
	}
	if _, err := b.order(order{Watch: true}); err != nil {
		return nil, err
	}
	ours, raw, err := b.pacedLags()
	if err != nil {
		return nil, err
	}
	rows := lagRows("to 5,000, ten a second", ours, raw, [2]float64{fanoutMedian, fanoutP99})
	crowdedTargets := [2]float64{crowdedMedian, crowdedP99}
	for _, w := range []struct {
		name    string
		call    call
		targets [2]float64
	}{
		{"to one, SendStream", call{Batch: 1, InFlight: 1}, [2]float64{}},
		{"to one, Send", call{Unary: true, InFlight: 1}, [2]float64{}},
		{"to one, SendStream, 64 under way", call{Batch: 1, InFlight: crowded}, crowdedTargets},
		{"to one, Send, 64 under way", call{Unary: true, InFlight: crowded}, crowdedTargets},
	} {
		c := w.call
		c.Address, c.Count, c.Text, c.Users, c.Matched, c.Stamp = b.backends,
			latencySends, string(text), users, 1, true
		lags, err := b.lags(b.unicast(c))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, lagRows(w.name, lags, nil, w.targets)...)
	}
	return rows, b.end()
}

// pacedLags sends messages to all clients at a pace, in turns with the reference.
func (b *bed) pacedLags() (ours, raw []time.Duration, err error) {
	everybody := b.calling(call{
		Address: b.backends, Count: 1, Batch: 1, InFlight: 1, Text: string(text),
		Groups:  []string{shared},
		Matched: audience, Stamp: true,
	}, audience, len(textFrame))
	bytes := slices.Clone(textFrame)
	reference := variant{measured: func() error {
		stamp(bytes[len(bytes)-textBytes:], clockTime(clockMonotonic))
		return b.raw(audience, bytes).measured()
	}}
	for turn := range turns {
		for _, of := range []struct {
			variant
			lags *[]time.Duration
		}{{everybody, &ours}, {reference, &raw}} {
			clock := time.NewTicker(pace)
			several := variant{measured: func() error {
				var err error
				for range paced {
					<-clock.C
					err = errors.Join(err, of.measured())
				}
				return err
			}}
			lags, err := b.lags(several)
			clock.Stop()
			if err != nil {
				return nil, nil, err
			}
			if turn > 0 { // the first turn warms up
				*of.lags = append(*of.lags, lags...)
			}
		}
	}
	return ours, raw, nil
}

// lags runs v, and returns the latencies of its messages.
func (b *bed) lags(v variant) ([]time.Duration, error) {
	if err := v.measured(); err != nil {
		return nil, err
	}
	r, err := b.order(order{Lags: true})
	return r.Lags, err
}

// lagRows returns the rows of the median, of the 99th and 99.9th percentile and of the longest
// latency. The first two have targets; 0: no target.
func lagRows(name string, ours, raw []time.Duration, targets [2]float64) []row {
	slices.Sort(ours)
	slices.Sort(raw)
	at := func(name string, percent, target float64) row {
		lag := micros(percentile(ours, percent), 1)
		return row{
			Name: name, Ours: lag, Beside: micros(percentile(raw, percent), 1),
			Value: lag / 1000, Unit: "ms", Target: target,
		}
	}
	return []row{
		at(name+": p50", 50, targets[0]),
		at("  p99", 99, targets[1]),
		at("  p99.9", 99.9, 0),
		at("  longest", 100, 0),
	}
}

// percentile returns the duration that so many percent do not exceed, or 0 without durations.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(float64(len(sorted)-1)*percent/100)]
}
