//go:build bench && linux

package engine

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/overflow"
)

const (
	// stuck is the number of clients that do not read: 1 % of the audience.
	stuck = audience / 100
	// slowPairs is more than pairs, for the sake of a p99.
	slowPairs = 60
	// fillBytes fill the kernel's buffers of a client and its outbox by bytes; fillMessages fill
	// the outbox by messages.
	fillBytes    = 64 << 20
	fillMessages = 2000
	// The groups of the clients that read and of those that do not.
	live = "live"
	dead = "dead"
)

// measureSlow measures the loop of a send to all clients beside that to the clients that read, by
// the wall clock. The outboxes of the rest are full and drop their oldest messages.
func measureSlow() ([]row, error) {
	config := reference()
	config.keep = false
	config.hub = func(c *hub.Config) { c.Overflow = overflow.DropOldest }
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(dead), Count: stuck, Narrow: stuck}); err != nil {
		return nil, err
	}
	if err := b.open(
		opening{Path: clientPath(live), First: stuck, Count: audience - stuck},
	); err != nil {
		return nil, err
	}
	before := heap()
	if err := b.fill(); err != nil {
		return nil, err
	}
	grown := float64(heap()-before) / (1 << 20)

	began := time.Now()
	wall := func() time.Duration { return time.Since(began) }
	to := func(group string) variant {
		return variant{
			measured: func() error { _, err := b.deliver(group, text); return err },
			after:    func() error { return b.drain(audience-stuck, b.frame) },
		}
	}
	took, err := rounds(wall, slowPairs, to(shared), to(live))
	if err != nil {
		return nil, err
	}
	loop := ratio("time of the loop / without them", audience-stuck, took, 1.2)
	return []row{
		loop,
		{Name: "  p99 of the loop, with them", Value: p99(took[0]), Unit: "ms"},
		{Name: "  p99 of the loop, without them", Value: p99(took[1]), Unit: "ms"},
		{Name: "memory that their full outboxes take", Value: grown, Unit: "MiB"},
	}, b.end()
}

// fill stops the reading of some clients, and sends them more than their buffers hold.
func (b *bed) fill() error {
	if _, err := b.order(order{Pause: stuck}); err != nil {
		return err
	}
	large := bytes.Repeat([]byte("x"), 64<<10)
	for range fillBytes / len(large) {
		if _, err := b.deliver(dead, large); err != nil {
			return err
		}
	}
	for range fillMessages {
		if _, err := b.deliver(dead, text); err != nil {
			return err
		}
	}
	all, _, err := b.hub.Connections(
		hub.DefaultNamespace, &hub.Target{Groups: []string{dead}}, hub.Cursor{}, stuck,
	)
	for _, c := range all {
		if most := hub.DefaultConfig().Outbox.Messages; c.QueuedMessages < most {
			return fmt.Errorf(
				"%d messages wait for a client that is stuck, want %d", c.QueuedMessages, most,
			)
		}
	}
	return err
}

func p99(d []time.Duration) float64 {
	slices.Sort(d)
	return d[len(d)*99/100].Seconds() * 1000
}

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
