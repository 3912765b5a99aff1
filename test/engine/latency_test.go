//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// pace is the time between two messages to everybody.
	pace = 100 * time.Millisecond
	// paced is how many messages the hub sends at that pace before it is the reference's turn, and turns how often they change.
	paced = 10
	turns = 6
	// The most that a message to everybody may take, in ms, as the median and as the 99th percentile: what the fastest of other
	// servers takes.
	fanoutMedian = 21
	fanoutP99    = 51
	// crowded is how many unicasts are under way at once: about as many as with others, by their figures.
	crowded = 64
	// The same for them.
	crowdedMedian = 1.2
	crowdedP99    = 2.8
	// latencySends is how many unicasts each way has.
	latencySends = 20 * users
)

// measureLatency: from a backend's call until a client has read the message. Clients are read as soon as something comes, by one
// thread for all of them: with a message to everybody, the reader has its part in what is measured, and so it has with raw.
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
	for _, w := range []struct {
		name    string
		call    call
		targets [2]float64
	}{
		{"to one, SendStream", call{Batch: 1, InFlight: 1}, [2]float64{}},
		{"to one, Send", call{Unary: true, InFlight: 1}, [2]float64{}},
		{"to one, SendStream, 64 under way", call{Batch: 1, InFlight: crowded}, [2]float64{crowdedMedian, crowdedP99}},
		{"to one, Send, 64 under way", call{Unary: true, InFlight: crowded}, [2]float64{crowdedMedian, crowdedP99}},
	} {
		c := w.call
		c.Address, c.Count, c.Text, c.Users, c.Matched, c.Stamp = b.backends, latencySends, string(text), users, 1, true
		lags, err := b.lags(b.unicast(c))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, lagRows(w.name, lags, nil, w.targets)...)
	}
	return rows, b.end()
}

// pacedLags sends messages to everybody at a pace, in turns with the reference.
func (b *bed) pacedLags() (ours, raw []time.Duration, err error) {
	everybody := b.calling(call{
		Address: b.backends, Count: 1, Batch: 1, InFlight: 1, Text: string(text), Groups: []string{shared},
		Matched: audience, Stamp: true,
	}, audience, len(textFrame))
	bytes := slices.Clone(textFrame)
	reference := variant{measured: func() error {
		stamp(bytes[len(bytes)-textBytes:])
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
			if turn > 0 { // the first one warms up
				*of.lags = append(*of.lags, lags...)
			}
		}
	}
	return ours, raw, nil
}

// lags does something, and returns how long its messages were under way.
func (b *bed) lags(v variant) ([]time.Duration, error) {
	if err := v.measured(); err != nil {
		return nil, err
	}
	r, err := b.order(order{Lags: true})
	return r.Lags, err
}

// lagRows makes the rows of the median, which may have a target as the next one, of the 99th percentile, and of the longest.
func lagRows(name string, ours, raw []time.Duration, targets [2]float64) []row {
	slices.Sort(ours)
	slices.Sort(raw)
	at := func(name string, percent int, target float64) row {
		lag := micros(percentile(ours, percent), 1)
		return row{
			Name: name, Ours: lag, Beside: micros(percentile(raw, percent), 1),
			Value: lag / 1000, Unit: "ms", Target: target,
		}
	}
	return []row{
		at(name+": p50", 50, targets[0]),
		at("  p99", 99, targets[1]),
		at("  longest", 100, 0),
	}
}

// percentile is the duration that so many percent do not exceed; none: 0.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*percent/100]
}
