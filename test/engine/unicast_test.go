//go:build bench && linux

package engine

import (
	"fmt"
	"time"
)

const (
	// users is how many clients a unicast is to one of.
	users = 1000
	// sendsEach is how many sends a client gets in a round.
	sendsEach = 2
	// inFlight is how many calls, or requests of the stream, are under way.
	inFlight = 16
)

// measureUnicast: messages to one client each, in turn. What is left of a send when the raw write is taken off is compared
// with the same call to a handler that only answers. The backend is in the load's process, and costs nothing here.
func measureUnicast() ([]row, error) {
	b, err := newBed(reference())
	if err != nil {
		return nil, err
	}
	answers, err := serveAnswerer()
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: users}); err != nil {
		return nil, err
	}
	raw := variant{measured: func() error {
		for range sendsEach {
			if err := b.sockets.write(textFrame); err != nil {
				return err
			}
		}
		return b.drain(users, sendsEach*len(textFrame))
	}}
	var rows []row
	for _, way := range []struct {
		name   string
		call   call
		target float64
	}{
		{"SendStream, one send in a request", call{Batch: 1}, 1.5},
		{"SendStream, 16 sends in a request", call{Batch: 16}, 1.5},
		{"Send", call{Unary: true}, 1.2},
	} {
		c := way.call
		c.Count, c.InFlight, c.Text, c.Users, c.Matched = sendsEach*users, inFlight, string(text), users, 1
		c.Address = b.backends
		ours := b.calling(c, users, sendsEach*len(textFrame))
		c.Address = answers
		took, err := rounds(cpuTime, pairs, ours, raw, b.calling(c, users, 0))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		rows = append(rows, unicast(way.name, took, way.target))
	}
	return rows, b.end()
}

// unicast makes the row of one way to send.
func unicast(name string, took [][]time.Duration, target float64) row {
	ours, raw, empty := took[0], took[1], took[2]
	const sends = sendsEach * users
	return row{
		Name:   name,
		Ours:   medianOf(len(ours), func(i int) float64 { return micros(ours[i], sends) }),
		Raw:    medianOf(len(raw), func(i int) float64 { return micros(raw[i], sends) }),
		Empty:  medianOf(len(empty), func(i int) float64 { return micros(empty[i], sends) }),
		Value:  medianOf(len(ours), func(i int) float64 { return float64(ours[i]-raw[i]) / float64(empty[i]) }),
		Unit:   "x empty",
		Target: target,
	}
}
