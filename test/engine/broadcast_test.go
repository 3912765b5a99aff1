//go:build bench && linux

package engine

import (
	"errors"
)

const (
	// broadcastHubs is the number of hubs that share the audience.
	broadcastHubs = 3
	// broadcastTarget bounds the cost of a delivery, in deliveries of a hub that has all clients.
	broadcastTarget = 1.05
	// The audience of the first namespace is spread over the hubs. As many clients of the second
	// are all at the first hub.
	spread = "spread"
	lumped = "lumped"
)

// measureBroadcast measures a message to everyone of a namespace whose clients are spread over the
// hubs. Beside it is a message to as many clients that are all at the called hub. CPU is that of
// all hubs.
func measureBroadcast() ([]row, error) {
	c, err := startCluster(broadcastHubs)
	if err != nil {
		return nil, err
	}
	b, err := c.newBed()
	if err != nil {
		return nil, err
	}
	first := c.hubs[0]
	if err := b.bring(audience, namespacePath(lumped), first.Clients); err != nil {
		return nil, err
	}
	for i, hub := range c.hubs {
		from, to := i*audience/broadcastHubs, (i+1)*audience/broadcastHubs
		o := opening{
			Address: hub.Clients, Path: namespacePath(spread), First: from, Count: to - from,
		}
		if _, err := b.order(order{Open: &o}); err != nil {
			return nil, err
		}
	}
	to := func(namespace string) variant {
		return b.calling(call{
			Address: first.Control, Count: 1, Batch: 1, InFlight: 1,
			Namespace: namespace, Text: string(text), Matched: audience,
		}, audience, len(textFrame))
	}
	took, err := rounds(cpu(c.hubs...), fanoutPairs, to(spread), to(lumped))
	if err != nil {
		return nil, err
	}
	return []row{
		ratio("over three hubs / at one", audience, took, broadcastTarget),
	}, errors.Join(b.load.stop(), c.stop())
}

// namespacePath returns the request of a client in a namespace. Its user is user-{i}.
func namespacePath(namespace string) string {
	return "/client/hubs/" + namespace + "?user=user-{i}"
}
