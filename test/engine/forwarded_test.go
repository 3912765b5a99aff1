//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
)

const (
	// forwardedEach is the number of sends to a client in a round. It is larger than elsewhere,
	// because hubs of a cluster never rest.
	forwardedEach = 8
	// forwardedTarget bounds the cost of the way to a second hub and back, in messages of a stream
	// with a handler that only answers.
	forwardedTarget = 2
)

// measureForwarded measures messages to a client each, through a hub that does not have the client.
// Beside them are messages to clients of the called hub. CPU is that of both hubs.
func measureForwarded() ([]row, error) { return forwardedBy(pairs, ways) }

// forwardedBy measures the ways to send to a user through an address, in so many rounds.
func forwardedBy(pairs int, ways func(address string) []way) ([]row, error) {
	c, err := startCluster(2)
	if err != nil {
		return nil, err
	}
	b, err := c.newBed()
	if err != nil {
		return nil, err
	}
	answers, err := serveAnswerer()
	if err != nil {
		return nil, err
	}
	entry, holder := c.hubs[0], c.hubs[1]
	if err := b.bring(users, clientPath(), entry.Clients, holder.Clients); err != nil {
		return nil, err
	}
	var rows []row
	for _, w := range ways(entry.Control) {
		local := w.call
		local.Count = forwardedEach * users
		forwarded, message := local, local
		forwarded.First, message.Address = users, answers
		if message.Unary {
			message.Unary, message.Batch = false, 1
		}
		empty := b.calling(message, users, 0)
		empty.clock = cpuTime // without the hubs, because they probe each other meanwhile
		took, err := rounds(cpu(c.hubs...), pairs, b.unicast(forwarded), b.unicast(local), empty)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, inEmptyCalls(w.name, local.Count, took, forwardedTarget))
	}
	return rows, errors.Join(b.load.stop(), c.stop())
}

// newBed returns a bed without a hub of its own and without clients.
func (c *cluster) newBed() (*bed, error) {
	load, err := startChild(loadRole, loadCore)
	return &bed{load: load, frame: len(textFrame)}, err
}
