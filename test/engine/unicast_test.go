//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"time"
)

const (
	// users is the number of clients among which unicasts take turns.
	users = 1000
	// sendsEach is the number of sends to a client in a round.
	sendsEach = 2
	// inFlight is the number of calls, or requests of the stream, at the same time.
	inFlight = 16
)

// measureUnicast measures messages to a single client each, in turn. It compares the cost of a send
// without its raw write with the same call to a handler that only answers. The backend is in the
// load's process, and costs nothing here.
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
	rows, err := b.unicasts(answers, cpuTime, 0)
	return rows, errors.Join(err, b.end())
}

// way is a way to send to one user.
type way struct {
	name   string
	call   call
	target float64 // without the reference, in calls to a handler that only answers
}

// ways returns all ways. Each has the sends of a round to the users, through the given address.
func ways(address string) []way {
	all := []way{
		{"SendStream, one send in a request", call{Batch: 1}, streamTarget},
		{"SendStream, 16 sends in a request", call{Batch: 16}, streamTarget},
		{"Send", call{Unary: true}, unaryTarget},
	}
	for i := range all {
		all[i].call.InFlight = inFlight
		all[i].call.toUsers(address)
	}
	return all
}

// toUsers makes a call the sends of a round to the users, through an address.
func (o *call) toUsers(address string) {
	o.Address, o.Count, o.Text, o.Users, o.Matched = address,
		sendsEach*users, string(text), users, 1
}

// unicasts measures all ways beside raw writes. worse is added to the targets.
func (b *bed) unicasts(answers string, clock func() time.Duration, worse float64) ([]row, error) {
	all := ways(b.backends)
	for i := range all {
		all[i].target += worse
	}
	return b.unicastsBy(all, answers, clock)
}

// unicastsBy measures ways beside raw writes.
func (b *bed) unicastsBy(
	ways []way, answers string, clock func() time.Duration,
) ([]row, error) {
	raw := variant{measured: func() error {
		for range sendsEach {
			if err := b.sockets.write(textFrame); err != nil {
				return err
			}
		}
		return b.drain(users, sendsEach*len(textFrame))
	}}
	var rows []row
	for _, w := range ways {
		empty := w.call
		empty.Address = answers
		took, err := rounds(clock, pairs, b.unicast(w.call), raw, b.calling(empty, users, 0))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, inEmptyCalls(w.name, w.call.Count, took, w.target))
	}
	return rows, nil
}

// unicast is a call that reaches each user.
func (b *bed) unicast(c call) variant { return b.calling(c, users, c.Count/users*len(textFrame)) }

// inEmptyCalls returns the row of rounds of sends, of a reference and of calls to a handler that
// only answers. The figure is the cost of a send without the reference.
func inEmptyCalls(name string, sends int, took [][]time.Duration, target float64) row {
	ours, raw, empty := took[0], took[1], took[2]
	return row{
		Name:   name,
		Ours:   medianOf(len(ours), func(i int) float64 { return micros(ours[i], sends) }),
		Beside: medianOf(len(raw), func(i int) float64 { return micros(raw[i], sends) }),
		Empty:  medianOf(len(empty), func(i int) float64 { return micros(empty[i], sends) }),
		Value: medianOf(len(ours), func(i int) float64 {
			return float64(ours[i]-raw[i]) / float64(empty[i])
		}),
		Unit:   "x empty",
		Target: target,
	}
}
