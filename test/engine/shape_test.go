//go:build bench && linux

package engine

import (
	"fmt"
	"time"
)

const (
	// shapePairs is the number of rounds of a shape to a group, or to another hub. It is smaller
	// than pairs, because these rounds are long.
	shapePairs = 5
	// manyStreams is the number of streams, or of connections, of a backend with several.
	manyStreams = 8
	// Bounds of the cost of a unicast without its raw write, in empty calls of the same shape.
	streamTarget = 1.5
	unaryTarget  = 1.2
	// togetherTarget bounds the cost of sends to a group in requests of their own, beside the same
	// sends in one request.
	togetherTarget = 1.25
)

// shape is a way in which callers call.
type shape struct {
	name string
	call call // without address, target and count
}

// shapes returns all shapes with a single send in a request: 1, 8 and 64 requests under way, on one
// and on eight streams, from one and from eight connections, and by calls of Send.
func shapes() (all []shape) {
	for _, underWay := range []int{1, burst, crowded} {
		add := func(name string, c call) {
			c.Batch, c.InFlight = 1, underWay
			all = append(all, shape{fmt.Sprintf("%d under way, %s", underWay, name), c})
		}
		add("a SendStream", call{})
		if underWay > 1 {
			add("8 SendStreams", call{Streams: manyStreams})
			add("8 SendStreams, 8 connections", call{
				Streams: manyStreams, Connections: manyStreams,
			})
		}
		add("Send", call{Unary: true})
		if underWay > 1 {
			add("Send, 8 connections", call{Unary: true, Connections: manyStreams})
		}
	}
	return all
}

// collected returns the shapes of a backend that collects sends: 64 sends under way, and as many
// requests.
func collected() (all []shape) {
	const sends = 16
	for _, underWay := range []int{crowded / sends, crowded} {
		all = append(all, shape{
			fmt.Sprintf("%d under way, 16 sends in each", underWay),
			call{Batch: sends, InFlight: underWay},
		})
	}
	return all
}

// unicasts returns the sends of a round to users through an address.
func (s *shape) unicasts(address string) way {
	w := way{name: s.name, call: s.call, target: streamTarget}
	if w.call.Unary {
		w.target = unaryTarget
	}
	w.call.toUsers(address)
	return w
}

// measureShapesUnicast measures the same as measureBinaryUnicast in each shape, and in those of a
// backend that collects sends. The calls to the handler that only answers have the same shape.
func measureShapesUnicast() ([]row, error) {
	return besideAnswers(func(b *bed, answers string, clock func() time.Duration) ([]row, error) {
		var ways []way
		for _, s := range append(shapes(), collected()...) {
			ways = append(ways, s.unicasts(b.backends))
		}
		return b.unicastsBy(ways, answers, clock)
	})
}

// measureShapesGroup measures sends to all clients in each shape, beside the same sends in one
// request. A burst has eight sends, or as many as are under way.
func measureShapesGroup() ([]row, error) {
	shipped, err := startBinary(alone)
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	b, err := newShippedBed(shipped, audience, clientPath())
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range shapes() {
		c, target := s.call, togetherTarget
		c.Address, c.Text, c.Matched = b.backends, string(text), audience
		c.Groups, c.Count = []string{shared}, max(burst, c.InFlight)
		if c.InFlight == 1 { // the next send comes only after the receipt
			target = 0
		}
		beside := c
		beside.Unary, beside.Connections, beside.Streams = false, 1, 1
		beside.Batch, beside.InFlight = c.Count, 1
		bytes := c.Count * len(textFrame)
		took, err := rounds(cpu(shipped), shapePairs,
			b.calling(c, audience, bytes), b.calling(beside, audience, bytes))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		rows = append(rows, ratio(s.name, audience*c.Count, took, target))
	}
	return rows, b.load.stop()
}

// measureShapesForwarded measures the same as measureForwarded in the shapes of a backend with one
// connection.
func measureShapesForwarded() ([]row, error) {
	return forwardedBy(shapePairs, func(address string) (ways []way) {
		for _, s := range shapes() {
			if s.call.Connections <= 1 {
				ways = append(ways, s.unicasts(address))
			}
		}
		return ways
	})
}
